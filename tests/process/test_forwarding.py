"""What the application is told about its client, whoever else claims it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.server import DEADLINE, Authority, RawClient, Server, running, serving

ECHO = """
import json

async def app(scope, receive, send):
    fields = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    told = {"scheme": scope["scheme"], "client": scope["client"], "server": scope["server"], "fields": fields}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""
OURS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-host", "x-request-id"}


class Told:
    """What the application was told about a request."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.scheme: str = answer["scheme"]
        self.client: list[Any] | None = answer["client"]
        self.server: list[Any] = answer["server"]
        self._fields: list[list[str]] = answer["fields"]

    def values(self, name: str) -> list[str]:
        """Return the values of the fields with this name."""
        return [value for found, value in self._fields if found == name]

    @property
    def names(self) -> set[str]:
        """The names of all fields."""
        return {name for name, _ in self._fields}


def ask(client: RawClient, *lines: str) -> Told:
    """Send a request with these field lines; return what the application was told."""
    head = "\r\n".join(["GET / HTTP/1.1", "Host: shop.example", *lines])
    client.send(head.encode() + b"\r\n\r\n")
    status, _, body = client.receive_response()
    assert status == 200
    return Told(json.loads(body))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that trusts nobody."""
    with serving(tmp_path_factory.mktemp("plain"), ECHO) as server:
        yield server


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind proxies at 127.0.0.1 and in 10.0.0.0/8."""
    options = ("--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8")
    with serving(tmp_path_factory.mktemp("trusting"), ECHO, *options) as server:
        yield server


@pytest.mark.parametrize(
    "line",
    [
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /admin",
        "X-Forwarded-User: root",
        "X-Real-IP: 203.0.113.7",
        "Forwarded: for=203.0.113.7;proto=https",
        "True-Client-IP: 203.0.113.7",
        "CF-Connecting-IP: 203.0.113.7",
        "Client-Cert: :AAAA:",
        "X-Original-URL: /admin",
        "X-Request-ID: forged",
        "X-Accel-Redirect: /secret",
        "X_Forwarded_For: 203.0.113.7",
        "X_Real_IP: 203.0.113.7",
        "x-forwarded-for : 203.0.113.7",
    ],
)
def test_forged_field_does_not_reach_the_application(plain: Server, line: str) -> None:
    name, _, value = line.partition(": ")
    with RawClient(plain.port) as client:
        if name.endswith(" "):
            client.send(f"GET / HTTP/1.1\r\nHost: shop.example\r\n{line}\r\n\r\n".encode())
            assert client.receive_response()[0] == 400
            return
        told = ask(client, line)
        port = client.sock.getsockname()[1]
    assert told.client == ["127.0.0.1", port]
    assert (told.scheme, told.server) == ("http", ["shop.example", 80])
    assert value not in told.values(name.lower())
    assert told.names - {"host"} == OURS


def test_edge_says_what_it_knows(plain: Server) -> None:
    with RawClient(plain.port) as client:
        told = ask(client)
    assert told.values("x-forwarded-for") == ["127.0.0.1"]
    assert told.values("x-forwarded-proto") == ["http"]
    assert told.values("x-forwarded-host") == ["shop.example"]
    assert told.values("x-forwarded-port") == [str(plain.port)]
    assert told.values("host") == ["shop.example"]


def test_tls_is_told(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(tmp_path, ECHO, "--server-name", "shop.example", authority=authority) as server,
        RawClient(server.port, authority.client_context()) as client,
    ):
        told = ask(client, "X-Forwarded-Proto: http")
        assert (told.scheme, told.server) == ("https", ["shop.example", 443])
        assert told.values("x-forwarded-proto") == ["https"]
        assert told.values("x-forwarded-port") == [str(server.port)]


def test_host_that_a_trusted_proxy_names_counts_where_that_is_wished_for(trusting: Server, tmp_path: Path) -> None:
    lines = ("X-Forwarded-Host: public.example", "X-Forwarded-Proto: https")
    with RawClient(trusting.port) as client:
        told = ask(client, *lines)
    assert (told.server, told.values("x-forwarded-host")) == (["shop.example", 443], ["shop.example"])
    with (
        serving(tmp_path, ECHO, "--proxy-headers", "--trust-forwarded-host") as server,
        RawClient(server.port) as client,
    ):
        told = ask(client, *lines)
    assert (told.server, told.values("x-forwarded-host")) == (["public.example", 443], ["public.example"])
    assert told.values("host") == ["shop.example"]


@pytest.mark.parametrize("name", ["x-forwarded-for", "X-Forwarded-Proto", "x-request-id", "host"])
def test_connection_cannot_name_a_field_of_the_edge(plain: Server, name: str) -> None:
    with RawClient(plain.port) as client:
        told = ask(client, f"Connection: keep-alive, {name}", f"{name}: forged" if name != "host" else "X-A: 1")
    assert len(told.values(name.lower())) == 1
    assert told.values(name.lower()) != ["forged"]
    assert "connection" not in told.names


def test_field_that_connection_names_is_dropped(plain: Server) -> None:
    with RawClient(plain.port) as client:
        told = ask(client, "Connection: x-hop", "X-Hop: 1", "X-End: 2")
    assert told.names - OURS == {"host", "x-end"}


def test_fields_with_an_underscore_are_dropped(plain: Server) -> None:
    with RawClient(plain.port) as client:
        told = ask(client, "User_Id: 1", "User-Id: 2")
    assert told.names - OURS == {"host", "user-id"}


@pytest.mark.parametrize(
    ("lines", "client", "chain"),
    [
        pytest.param((), None, "127.0.0.1", id="none"),
        pytest.param(("203.0.113.7",), ["203.0.113.7", 0], "203.0.113.7, 127.0.0.1", id="one"),
        pytest.param(("198.51.100.1, 203.0.113.7",), ["203.0.113.7", 0], "203.0.113.7, 127.0.0.1", id="forged-first"),
        pytest.param(
            ("198.51.100.1, 203.0.113.7, 10.1.2.3",),
            ["203.0.113.7", 0],
            "203.0.113.7, 10.1.2.3, 127.0.0.1",
            id="through-trusted",
        ),
        pytest.param(
            ("198.51.100.1", "203.0.113.7", "10.1.2.3"),
            ["203.0.113.7", 0],
            "203.0.113.7, 10.1.2.3, 127.0.0.1",
            id="several-lines",
        ),
        pytest.param(("203.0.113.7:4711",), ["203.0.113.7", 4711], "203.0.113.7, 127.0.0.1", id="port"),
        pytest.param(("[2001:db8::7]:99",), ["2001:db8::7", 99], "2001:db8::7, 127.0.0.1", id="ipv6"),
        pytest.param(("203.0.113.7, unknown",), None, "127.0.0.1", id="unparsable"),
        pytest.param(
            ("203.0.113.7, junk, 10.1.2.3",), ["10.1.2.3", 0], "10.1.2.3, 127.0.0.1", id="unparsable-behind-trusted"
        ),
    ],
)
def test_chain_of_a_trusted_proxy_is_read_from_the_right(
    trusting: Server, lines: tuple[str, ...], client: list[Any] | None, chain: str
) -> None:
    with RawClient(trusting.port) as connection:
        told = ask(connection, *(f"X-Forwarded-For: {line}" for line in lines))
        own = list(connection.sock.getsockname())
    assert told.client == (client or own)
    assert told.values("x-forwarded-for") == [chain]


def test_trusted_proxy_is_believed_the_scheme_and_the_request_id(trusting: Server) -> None:
    with RawClient(trusting.port) as client:
        told = ask(client, "X-Forwarded-Proto: https", "X-Request-ID: abc-1", "X-Forwarded-Host: evil.example")
    assert (told.scheme, told.server) == ("https", ["shop.example", 443])
    assert told.values("x-request-id") == ["abc-1"]
    assert told.values("x-forwarded-host") == ["shop.example"]


def test_forwarded_is_not_believed_beside_the_other_set(trusting: Server) -> None:
    with RawClient(trusting.port) as client:
        told = ask(client, "Forwarded: for=203.0.113.7;proto=https")
        assert told.client == list(client.sock.getsockname())
    assert (told.scheme, told.names & {"forwarded"}) == ("http", set())


def test_alias_and_unix_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    arguments = ("--bind", f"unix:{path}", "--forwarded-allow-ips", "unix")
    with running(tmp_path, ECHO, *arguments), contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(path))
        client = http.client.HTTPConnection("shop.example")
        client.sock = sock
        client.request("GET", "/", headers={"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"})
        told = Told(json.loads(client.getresponse().read()))
    assert (told.client, told.scheme) == (["203.0.113.7", 0], "https")


def test_client_of_the_chain_is_in_the_access_log(tmp_path: Path) -> None:
    options = ("--trusted-proxy", "*")
    with serving(tmp_path, ECHO, *options) as server, RawClient(server.port) as client:
        ask(client, "X-Forwarded-For: 203.0.113.7")
        [line] = server.wait_access(1)
    assert line["client"] == "203.0.113.7"
