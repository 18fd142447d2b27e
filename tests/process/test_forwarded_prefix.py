"""A proxy that strips a prefix and says so: applications have it in their root path, whatever they are spoken to by."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.http2_client import Http2Client
from tests.process.raw_upstream import RawUpstream
from tests.process.server import Authority, RawClient, Server, serving
from tests.process.test_sites import serving_file
from tests.process.websocket_client import WebSocket

SEEN = """
import json

async def app(scope, receive, send):
    values = [value.decode() for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
    seen = json.dumps([scope["root_path"], scope["path"], scope["raw_path"].decode(), values])
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": seen})
        await receive()
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": seen.encode()})
    else:
        raise RuntimeError("no lifespan")
"""
CLASSIC = """
import json

def app(environ, start_response):
    names = ("SCRIPT_NAME", "PATH_INFO", "REQUEST_URI")
    seen = [*map(environ.get, names), [environ["HTTP_X_FORWARDED_PREFIX"]]]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""
FILE = """
[forward]
trusted_proxy = "127.0.0.1"
trust_forwarded_prefix = true
[pool]
workers = 1
[[site]]
hosts = ["localhost"]
[[site.route]]
app = "seen:app"
[[site.route]]
path = "/api"
app = "seen:app"
strip = true
[[site.route]]
path = "/classic"
app = "classic:app"
strip = true
[[site.route]]
path = "/files"
static = "files"
[[site.route]]
path = "/service"
upstream = "{address}"
"""


@pytest.fixture(scope="module")
def server(upstream: RawUpstream, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefix")
    (folder / "seen.py").write_text(SEEN)
    (folder / "classic.py").write_text(CLASSIC)
    (folder / "files/docs").mkdir(parents=True)
    (folder / "files/docs/index.html").write_text("<p>docs")
    with serving_file(folder, FILE.format(address=upstream.address), authority) as server:
        yield server


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


def ask(client: RawClient, target: str, *lines: str) -> Any:
    """Return what the application saw of a request with these field lines."""
    client.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
    status, _, body = client.receive_response()
    assert status == 200
    return json.loads(body)


@pytest.mark.parametrize(
    ("target", "root_path", "path"),
    [
        ("/x", "/shop", "/shop/x"),
        ("/shop/x", "/shop", "/shop/x"),
        ("/shopping", "/shop", "/shop/shopping"),
        # With a root path of its own: the proxy's comes first, as that is whom clients ask.
        ("/api/x", "/shop/api", "/shop/api/x"),
        ("/api", "/shop/api", "/shop/api"),
    ],
)
def test_prefix_is_outermost_in_the_root_path(
    server: Server, context: ssl.SSLContext, target: str, root_path: str, path: str
) -> None:
    with RawClient(server.port, context) as client:
        assert ask(client, target, "X-Forwarded-Prefix: /shop/") == [root_path, path, path, ["/shop"]]
        assert ask(client, "/x") == ["", "/x", "/x", []]


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Forwarded-Prefix: /shop/../admin",),
        ("X-Forwarded-Prefix: //evil.example",),
        ("X-Forwarded-Prefix: shop",),
        ("X-Forwarded-Prefix: /shop", "X-Forwarded-Prefix: /%2e%2e"),
    ],
)
def test_prefix_that_is_no_plain_path_does_not_count(
    server: Server, context: ssl.SSLContext, lines: tuple[str, ...]
) -> None:
    with RawClient(server.port, context) as client:
        assert ask(client, "/x", *lines) == ["", "/x", "/x", []]


def test_escapes_stay_in_the_raw_path_alone(server: Server, context: ssl.SSLContext) -> None:
    with RawClient(server.port, context) as client:
        seen = ask(client, "/%41", "X-Forwarded-Prefix: /first, /caf%C3%A9")
    assert seen == ["/café", "/café/A", "/caf%C3%A9/%41", ["/caf%C3%A9"]]


def test_http2_and_websocket_have_it_too(server: Server, authority: Authority, context: ssl.SSLContext) -> None:
    expected = ["/shop/api", "/shop/api/x", "/shop/api/x", ["/shop"]]
    with Http2Client(server, authority) as client:
        assert client.ask("/api/x", (b"x-forwarded-prefix", b"/shop")).json() == expected
    with WebSocket(server.port, context, "/api/x", x_forwarded_prefix="/shop") as websocket:
        assert json.loads(websocket.receive_text()) == expected


def test_wsgi_application_has_it_in_its_script_name(server: Server, context: ssl.SSLContext) -> None:
    with RawClient(server.port, context) as client:
        seen = ask(client, "/classic/x?q", "X-Forwarded-Prefix: /shop")
    assert seen == ["/shop/classic", "/x", "/shop/classic/x?q", ["/shop"]]


def test_upstream_gets_it_and_nothing_else_of_the_kind(
    server: Server, upstream: RawUpstream, context: ssl.SSLContext
) -> None:
    with RawClient(server.port, context) as client:
        for lines in ("X-Forwarded-Prefix: /evil\r\nX-Forwarded-Prefix: /shop", "X-Forwarded-Prefix: /shop?"):
            client.send(f"GET /service/x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n".encode())
            assert client.receive_response()[0] == 200
    one, other = upstream.take()
    assert one.line.startswith("GET /service/x ")
    assert [field for field in one.fields if "prefix" in field] == ["x-forwarded-prefix: /shop"]
    assert [field for field in other.fields if "prefix" in field] == []


def test_redirect_to_a_folder_leads_through_the_proxy(server: Server, context: ssl.SSLContext) -> None:
    places = {}
    with RawClient(server.port, context) as client:
        for line in ("X-Forwarded-Prefix: /shop", "X-Forwarded-Prefix: /shop/..", "X-Any: x-forwarded-prefix"):
            client.send(f"GET /files/docs?a HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n".encode())
            status, fields, _ = client.receive_response()
            assert status == 308
            places[line.partition(": ")[2]] = fields[b"location"]
    plain = b"/files/docs/?a"
    assert places == {"/shop": b"/shop" + plain, "/shop/..": plain, "x-forwarded-prefix": plain}


def test_stranger_is_not_believed(tmp_path: Path, authority: Authority, context: ssl.SSLContext) -> None:
    options = ("--trusted-proxy", "10.0.0.0/8", "--trust-forwarded-prefix", "--root-path", "/api")
    with (
        serving(tmp_path, SEEN, *options, authority=authority) as server,
        RawClient(server.port, context) as client,
    ):
        assert ask(client, "/x", "X-Forwarded-Prefix: /shop") == ["/api", "/api/x", "/api/x", []]
