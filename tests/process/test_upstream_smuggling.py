"""Attacks on another server through the edge: what it gets is what one client may say, and never a request more."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

import pytest

from tests.process.http2_client import Http2Client
from tests.process.raw_upstream import RawUpstream
from tests.process.server import Authority, RawClient, Server
from tests.process.test_sites import serving_file

FILE = """
[[site]]
hosts = ["localhost"]
[[site.route]]
path = "/"
upstream = "{address}"
[[site.route]]
path = "/api"
upstream = "{address}"
strip = true
[[site.route]]
path = "/one"
upstream = "{address}"
max_connections = 1
"""
HOST = b"Host: localhost\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
PROBE = b"GET /probe HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def server(upstream: RawUpstream, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("upstream")
    with serving_file(folder, FILE.format(address=upstream.address), authority) as server:
        yield server


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


def get(target: bytes, *fields: bytes) -> bytes:
    """Return a GET; each field is a line."""
    return b"GET %b HTTP/1.1\r\n" % target + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


REFUSED = {
    "length-and-chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks-and-length": CHUNKED + b"Content-Length: 3\r\n\r\n1\r\nZ\r\n0\r\n\r\n",
    "unknown-coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding-before-chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "quoted-coding": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "space-before-colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "vertical-tab-before-coding": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "folded-coding": POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding-twice": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks-in-http-1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n0\r\n\r\n",
    "two-lengths": POST + b"Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
    "one-length-twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length-with-sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "negative-chunk": CHUNKED + b"\r\n-1\r\n\r\n",
    "longer-chunk": CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n",
    "line-feed-in-chunk-extension": CHUNKED + b"\r\n3;a\nabc\r\n0\r\n\r\n",
    "bare-line-feed": b"GET /p HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
    "carriage-return-in-value": get(b"/p", b"X: a\rInjected: b"),
    "nul-in-value": get(b"/p", b"X: a\0b"),
    "two-hosts": get(b"/p", b"Host: other.example"),
    "user-in-host": b"GET /p HTTP/1.1\r\nHost: localhost@other.example\r\n\r\n",
    "absolute-target-of-another": get(b"http://other.example/p"),
    "absolute-target-with-user": get(b"https://u@localhost/p"),
    "tunnel": b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "version-in-target": b"GET /p HTTP/1.1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "backslash": get(b"/p\\x"),
    "control-byte-in-target": get(b"/p\x01"),
    "fragment": get(b"/p#x"),
}


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED)
def test_what_two_readers_could_take_for_two_things_reaches_nobody(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext, attack: bytes
) -> None:
    with RawClient(server.port, context) as client:
        client.send(attack + SECOND)
        [status] = re.findall(rb"HTTP/1\.1 ([0-9]{3})", client.receive_rest())
    assert status in (b"400", b"405", b"501")
    assert upstream.take() == []


SERVED = {
    "tab-before-coding": (POST + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", ["POST /p"]),
    "coding-named-by-connection": (
        CHUNKED + b"Connection: transfer-encoding\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ["POST /p 'abc'"],
    ),
    "length-named-by-connection": (
        POST + b"Connection: content-length, host\r\nContent-Length: 3\r\n\r\nabc",
        ["POST /p 'abc'"],
    ),
    "length-with-underscore": (POST + b"Content_Length: 60\r\n\r\n", ["POST /p"]),
    "content-of-a-get": (get(b"/p", b"Content-Length: 4") + b"GET ", ["GET /p 'GET '"]),
    "trailers-that-frame": (
        CHUNKED + b"\r\n3\r\nabc\r\n0\r\nContent-Length: 60\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        ["POST /p 'abc'"],
    ),
    "absolute-target": (get(b"https://localhost/p?q"), ["GET /p?q"]),
    "absolute-target-without-path": (get(b"https://localhost?q"), ["GET /?q"]),
    "path-that-reads-as-a-host": (get(b"//other.example/p"), ["GET //other.example/p"]),
    "what-is-left-reads-as-a-host": (get(b"/api//other.example/p"), ["GET /other.example/p"]),
    "prefix-in-escapes": (get(b"/%61pi/%0d%0aX:y?%0d"), ["GET /%0D%0AX:y?%0d"]),
    "prefix-and-escaped-slash": (get(b"/api%2fx"), ["GET /x"]),
    "escaped-slash-stays": (get(b"/api/@a%2Fb"), ["GET /@a%2Fb"]),
    "way-out-of-the-prefix": (get(b"/api/../p"), ["GET /api/../p"]),
    "way-out-of-the-prefix-and-back": (get(b"/api/%2e%2e/api/x"), ["GET /x"]),
    "way-into-the-prefix": (get(b"/p/../api/x"), ["GET /x"]),
    "prefix-of-another-name": (get(b"/apix"), ["GET /apix"]),
    "upgrade-with-content": (UPGRADE + b"Content-Length: 4\r\n\r\nGET ", ["GET /ws 'GET '"]),
    "upgrade-by-post": (UPGRADE.replace(b"GET", b"POST") + b"\r\n", ["POST /ws"]),
    "upgrade-to-another-protocol": (UPGRADE.replace(b"websocket", b"h2c") + b"\r\n", ["GET /ws"]),
    "upgrade-that-is-not-answered": (UPGRADE + b"\r\n", ["GET /ws"]),
}


@pytest.mark.parametrize(("attack", "seen"), SERVED.values(), ids=SERVED)
def test_what_is_served_is_seen_as_the_edge_has_read_it(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext, attack: bytes, seen: list[str]
) -> None:
    with RawClient(server.port, context) as client:
        client.send(attack + PROBE)
        assert re.findall(rb"HTTP/1\.1 ([0-9]{3})", client.receive_rest()) == [b"200", b"200"]
    assert [request.brief for request in upstream.take()] == [*seen, "GET /probe"]


FORGED = b"""X-Forwarded-For: 6.6.6.6
X_Forwarded_For: 6.6.6.6
X-Forwarded_For: 6.6.6.6
X.Forwarded.For: 6.6.6.6
Forwarded: for=6.6.6.6
X-Real-IP: 6.6.6.6
X-Forwarded-Host: other.example
X-Forwarded-Proto: http
X-Forwarded-Prefix: /x
X-Original-URL: /admin
X-Rewrite-URL: /admin
X-Request-ID: forged
Client-Cert: :AAAA:
X-SSL-Client-Verify: SUCCESS
X-Accel-Redirect: /x
X-Edge-Any: x
Proxy: http://other.example
Proxy-Authorization: x
Proxy-Connection: keep-alive
Keep-Alive: timeout=9
TE: gzip
Trailer: x
HTTP2-Settings: AA
Upgrade: h2c
Authorization: Basic x
Cookie: a=b
Connection: Upgrade, X-Forwarded-For, X-Forwarded-Proto, Authorization, Cookie, Accept, Host, close""".split(b"\n")


def test_fields_that_say_who_asks_are_the_edges_own_whatever_connection_names(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext
) -> None:
    with RawClient(server.port, context) as client:
        client.send(get(b"/p", b"Accept: */*", *FORGED))
        assert client.receive_rest().startswith(b"HTTP/1.1 200")
    [request] = upstream.take()
    own = [field for field in request.fields if not field.startswith("x-request-id: ")]
    assert own == [
        "host: localhost",
        "authorization: Basic x",
        "cookie: a=b",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: https",
        f"x-forwarded-port: {server.port}",
        "x-forwarded-host: localhost",
    ]
    assert "x-request-id: forged" not in request.fields


POISONED = [
    "behind",
    "behind-chunks",
    "two-lengths",
    "length-and-chunks",
    "other-coding",
    "folded",
    "bare-lf",
    "switch",
]


@pytest.mark.parametrize("name", POISONED)
def test_answer_with_another_behind_it_is_never_another_clients(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext, name: str
) -> None:
    with RawClient(server.port, context) as client:
        client.send(get(f"/{name}".encode(), b"Connection: close"))
        answer = client.receive_rest()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"evil" not in answer
    for _ in range(2):
        with RawClient(server.port, context) as client:
            client.send(PROBE)
            assert client.receive_rest().endswith(b"\r\n\r\nok")
    assert [request.brief for request in upstream.take()] == [f"GET /{name}", "GET /probe", "GET /probe"]


def test_bytes_of_a_websocket_that_nobody_has_accepted_are_no_request(
    server: Server, upstream: RawUpstream, authority: Authority
) -> None:
    with Http2Client(server, authority) as client:
        number = client.begin_with(
            [
                (b":method", b"CONNECT"),
                (b":protocol", b"websocket"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", b"/ws"),
                (b"sec-websocket-version", b"13"),
            ],
            end=False,
        )
        client.send(number, SECOND)
        # The upstream has answered 200, which over HTTP/2 would accept the WebSocket.
        assert client.wait_head(number).status == 502
        assert client.ask("/probe").body == b"ok"
    assert [request.brief for request in upstream.take()] == ["GET /ws", "GET /probe"]


def test_client_that_dawdles_holds_no_connection_to_the_upstream(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext
) -> None:
    with RawClient(server.port, context) as slow:
        slow.send(b"POST /one HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n\r\n" + bytes(30000))
        for _ in range(2):
            with RawClient(server.port, context) as client:
                client.send(get(b"/one", b"Connection: close"))
                assert client.receive_rest().endswith(b"\r\n\r\nok")
        assert [request.brief for request in upstream.take()] == ["GET /one", "GET /one"]
        slow.send(bytes(30000))
        assert slow.receive_response()[0] == 200
    [request] = upstream.take()
    assert request.content == bytes(60000)


# Trailer fields of the answer.


def test_trailers_go_to_a_client_of_http_1_1_that_takes_them(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext
) -> None:
    with RawClient(server.port, context) as client:
        client.send(get(b"/trailers", b"TE: trailers", b"Connection: TE, close"))
        assert client.receive_rest().endswith(b"\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n")
        [request] = upstream.take()
        assert {"te: trailers", "connection: te"} < set(request.fields)
    with RawClient(server.port, context) as client:
        client.send(get(b"/trailers", b"Connection: close"))
        assert client.receive_rest().endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        assert not any(field.startswith(("te:", "connection:")) for field in upstream.take()[0].fields)


def test_trailers_go_to_a_client_of_http_2_that_takes_them(
    server: Server, upstream: RawUpstream, authority: Authority
) -> None:
    with Http2Client(server, authority) as client:
        taken, left = client.ask("/trailers", (b"te", b"trailers")), client.ask("/trailers")
        assert (taken.status, taken.body, taken.trailers) == (200, b"ok", [(b"x-sum", b"42")])
        assert (left.status, left.body, left.trailers) == (200, b"ok", [])
        # The connection to the upstream serves on.
        assert client.ask("/probe").body == b"ok"
    assert len(upstream.take()) == 3
