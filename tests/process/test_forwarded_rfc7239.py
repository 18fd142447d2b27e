"""A proxy that writes `Forwarded` (RFC 7239), over TLS: its word counts, and X-Forwarded-* are nobody's."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.http2_client import Http2Client
from tests.process.server import Authority, RawClient, Server, serving
from tests.process.test_forwarding import ECHO, OURS, Told, ask

OPTIONS = ("--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8", "--server-name", "*")
X_FIELDS = (
    "X-Forwarded-For: 198.51.100.1",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
)


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = (*OPTIONS, "--forwarded-style", "rfc7239", "--trust-forwarded-host")
    with serving(tmp_path_factory.mktemp("rfc7239"), ECHO, *options, authority=authority) as server:
        yield server


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


@pytest.mark.parametrize(
    ("lines", "client", "chain"),
    [
        pytest.param(('for="203.0.113.7:4711"',), ["203.0.113.7", 4711], "203.0.113.7, 127.0.0.1", id="port"),
        pytest.param(('For="[2001:db8::7]:99"',), ["2001:db8::7", 99], "2001:db8::7, 127.0.0.1", id="ipv6"),
        pytest.param(
            ("for=198.51.100.1, for=203.0.113.7", "for=10.1.2.3;by=_edge"),
            ["203.0.113.7", 0],
            "203.0.113.7, 10.1.2.3, 127.0.0.1",
            id="through-trusted",
        ),
        pytest.param(("for=203.0.113.7, for=unknown",), None, "127.0.0.1", id="unknown"),
        pytest.param(
            ("for=203.0.113.7, for=_hidden, for=10.1.2.3",), ["10.1.2.3", 0], "10.1.2.3, 127.0.0.1", id="obfuscated"
        ),
        pytest.param(('for="203.0.113.7, for=10.1.2.3',), ["10.1.2.3", 0], "10.1.2.3, 127.0.0.1", id="open-quote"),
        pytest.param(("for=203.0.113.7;for=203.0.113.8",), None, "127.0.0.1", id="twice"),
        pytest.param((), None, "127.0.0.1", id="none"),
    ],
)
def test_elements_are_walked_from_the_nearest(
    server: Server, context: ssl.SSLContext, lines: tuple[str, ...], client: list[Any] | None, chain: str
) -> None:
    with RawClient(server.port, context) as connection:
        told = ask(connection, *X_FIELDS, *(f"Forwarded: {line}" for line in lines))
        own = list(connection.sock.getsockname())
    assert told.client == (client or own)
    assert told.values("x-forwarded-for") == [chain]
    assert (told.scheme, told.server) == ("https", ["shop.example", 443])
    assert told.names - {"host"} == OURS


def test_scheme_and_host_are_those_of_the_neighbour(server: Server, context: ssl.SSLContext) -> None:
    line = 'Forwarded: for=203.0.113.7;proto=https;host=first.example, for=10.1.2.3;proto=http;host="public.example:81"'
    with RawClient(server.port, context) as client:
        told = ask(client, line, *X_FIELDS, "X-Request-ID: abc-1")
    assert (told.client, told.scheme, told.server) == (["203.0.113.7", 0], "http", ["public.example", 81])
    assert told.values("x-forwarded-host") == ["public.example:81"]
    assert (told.values("x-forwarded-proto"), told.values("x-forwarded-port")) == (["http"], ["81"])
    assert (told.values("host"), told.values("x-request-id")) == (["shop.example"], ["abc-1"])


def test_http2_says_the_same(server: Server, authority: Authority) -> None:
    with Http2Client(server, authority) as client:
        answer = client.ask("/", (b"forwarded", b'for="203.0.113.7:1";proto=http'), (b"x-forwarded-for", b"1.1.1.1"))
    told = Told(answer.json())
    assert (told.client, told.scheme, told.server) == (["203.0.113.7", 1], "http", ["localhost", 80])
    assert told.names & {"forwarded", *OURS} == OURS
