"""The scope of an HTTP request, one row of the table a test, end to end over TLS."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.server import Authority, RawClient, Server, clean_environment, serving

APPLICATION = """
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        scope["state"]["shared"] = []
        scope["state"]["number"] = 1
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    shown = {key: value for key, value in scope.items()}
    if scope["path"].startswith("/state"):
        scope["state"]["shared"].append(1)
        scope["state"]["number"] += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    content = json.dumps(shown, default=lambda value: value.decode("latin-1")).encode()
    await send({"type": "http.response.body", "body": content})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("scope"), APPLICATION, authority=authority) as running:
        yield running


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[RawClient]:
    with RawClient(server.port, authority.client_context()) as connected:
        yield connected


def scope_of(client: RawClient, target: str = "/", *lines: str, version: str = "1.1") -> dict[str, Any]:
    """Ask for a target and return the scope that the application got."""
    head = [f"GET {target} HTTP/{version}", *(lines or ("Host: localhost",)), "", ""]
    client.send("\r\n".join(head).encode())
    status, _, body = client.receive_response()
    assert status == 200, body
    scope: dict[str, Any] = json.loads(body)
    return scope


def test_ports_are_ints_and_client_is_the_peer(client: RawClient) -> None:
    scope = scope_of(client, "/", "Host: localhost:8443")
    assert scope["server"] == ["localhost", 8443]
    assert scope["client"] == list(client.sock.getsockname())


def test_port_of_the_server_is_the_schemes_when_host_names_none(client: RawClient) -> None:
    assert scope_of(client)["server"] == ["localhost", 443]


def test_server_is_the_listener_when_an_old_client_names_none(server: Server, client: RawClient) -> None:
    assert scope_of(client, "/", "Accept: */*", version="1.0")["server"] == ["127.0.0.1", server.port]


def test_version_extensions_and_keys_are_those_of_http(client: RawClient) -> None:
    scope = scope_of(client, "/a?b=c")
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "GET", "https")
    assert scope["extensions"] == {"http.response.trailers": {}}
    assert (scope["path"], scope["raw_path"], scope["query_string"], scope["root_path"]) == ("/a", "/a", "b=c", "")


def test_http_1_0_is_1_0(client: RawClient) -> None:
    assert scope_of(client, version="1.0")["http_version"] == "1.0"


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/a%2Fb", "/a/b", "/a%2Fb", ""),
        ("/%C3%BC", "/ü", "/%C3%BC", ""),
        ("/%ff%fe", "/��", "/%ff%fe", ""),
        ("/%00", "/\0", "/%00", ""),
        ("/%zz%", "/%zz%", "/%zz%", ""),
        ("/a+b", "/a+b", "/a+b", ""),
        ("/a//../b/./", "/a//../b/./", "/a//../b/./", ""),
        ("/a?b%20c?d=/", "/a", "/a", "b%20c?d=/"),
        ("/?", "/", "/", ""),
        ("/%3F?x", "/?", "/%3F", "x"),
    ],
)
def test_path_is_decoded_and_raw_path_is_what_came(
    client: RawClient, target: str, path: str, raw_path: str, query: str
) -> None:
    scope = scope_of(client, target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@pytest.mark.parametrize(
    ("target", "path"),
    [("https://localhost/abs?q", "/abs"), ("https://localhost?q", "/"), ("HTTPS://LOCALHOST/%41?q", "/A")],
)
def test_absolute_form_loses_scheme_and_host(client: RawClient, target: str, path: str) -> None:
    scope = scope_of(client, target)
    assert (scope["path"], scope["query_string"]) == (path, "q")
    assert "://" not in scope["raw_path"]


def test_asterisk_form_is_the_path_of_options(client: RawClient) -> None:
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    scope = json.loads(client.receive_response()[2])
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("OPTIONS", "*", "*")


def test_field_names_are_lower_case_in_order_and_with_duplicates(client: RawClient) -> None:
    lines = ("HOST: localhost", "X-B: 1", "Accept:  a ", "x-a: 2", "X-b: 3", "Cookie: a=1", "Cookie: b=2", "X-Empty:")
    names = {"x-b", "accept", "x-a", "cookie", "x-empty", "host"}
    headers = [tuple(field) for field in scope_of(client, "/", *lines)["headers"] if field[0] in names]
    assert headers == [
        ("host", "localhost"),
        ("x-b", "1"),
        ("accept", "a"),
        ("x-a", "2"),
        ("x-b", "3"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-empty", ""),
    ]


def test_field_values_keep_their_bytes(client: RawClient) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Raw: \xc3\xbc\t\xff\r\n\r\n")
    headers = json.loads(client.receive_response()[2])["headers"]
    assert ["x-raw", "\xc3\xbc\t\xff"] in headers


def test_fields_of_the_connection_do_not_reach_the_application(client: RawClient) -> None:
    lines = (
        "Host: localhost",
        "Connection: keep-alive, X-Hop",
        "Keep-Alive: 5",
        "X-Hop: 1",
        "TE: trailers",
        "X-End: 1",
    )
    names = {field[0] for field in scope_of(client, "/", *lines)["headers"]}
    assert "x-end" in names
    assert not names & {"connection", "keep-alive", "x-hop", "te"}


def test_state_is_a_shallow_copy_of_the_lifespans(client: RawClient) -> None:
    assert scope_of(client, "/state")["state"]["number"] == 2
    state = scope_of(client, "/state")["state"]
    assert state["number"] == 2  # its own copy
    assert state["shared"] == [1, 1]  # of the same values


def test_root_path_is_added_once_whether_the_proxy_strips_it_or_not(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, "--root-path", "/api", authority=authority) as server:
        seen = {}
        for target in ("/x", "/api/x", "/apix", "/api", "/"):
            with RawClient(server.port, authority.client_context()) as client:
                scope = scope_of(client, target)
                assert scope["root_path"] == "/api"
                seen[target] = (scope["path"], scope["raw_path"])
    assert seen == {
        "/x": ("/api/x", "/api/x"),
        "/api/x": ("/api/x", "/api/x"),
        "/apix": ("/api/apix", "/api/apix"),
        "/api": ("/api", "/api"),
        "/": ("/api/", "/api/"),
    }


def test_unix_listener_gives_its_path_as_server_and_no_client(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    path = str(tmp_path / "edge.sock")
    arguments = ["--bind", f"unix:{path}", "--workers", "1", "--edges", "1", "application:app"]
    environment = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with Server(arguments, cwd=tmp_path, environ=environment) as server:
        server.wait_ready()
        for version in ("1.0", "1.1"):
            with socket.socket(socket.AF_UNIX) as plain:
                plain.settimeout(10)
                plain.connect(path)
                plain.sendall(f"GET / HTTP/{version}\r\nHost: shop.example\r\nConnection: close\r\n\r\n".encode())
                data = b"".join(iter(lambda: plain.recv(65536), b""))
            scope = json.loads(data.partition(b"\r\n\r\n")[2])
            assert scope["client"] is None
            assert scope["server"] == [path, None]
            assert scope["scheme"] == "http"
