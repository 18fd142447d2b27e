"""Frameworks as people use them, each over TLS: an upload, a stream, server-sent events and a WebSocket.

One server for each framework, and one test on it: what is told apart is in the messages.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.frames import Close, Opcode

from tests.process.frameworks.gates import PIECES
from tests.process.http2_client import Http2Client
from tests.process.http2_websocket import Socket
from tests.process.server import DEADLINE, ROOT, Authority, Server, clean_environment
from tests.process.websocket_client import WebSocket

PACKAGE = "tests.process.frameworks"
UPLOAD = bytes(range(256)) * 4000  # more than a window of the wire, less than what frameworks take for one body


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def check_http(client: httpx.Client, path: str, protocol: str) -> None:
    """An upload, a stream, and events of which the second waits for another request."""
    answer = client.post(f"{path}/upload", content=UPLOAD)
    assert (answer.status_code, answer.http_version) == (200, protocol), answer.text
    assert answer.text == f"{len(UPLOAD)} {hashlib.sha256(UPLOAD).hexdigest()}"
    if path != "/mounted":  # what comes without a length is empty to a2wsgi's Flask, with every server
        assert client.post(f"{path}/upload", content=iter([UPLOAD, b"more"])).text.startswith(f"{len(UPLOAD) + 4} ")
    stream = client.get(f"{path}/stream")
    assert stream.content == b"".join(b"%06d" % number * 1000 for number in range(PIECES))
    assert "content-length" not in stream.headers
    name = protocol.replace("/", "") + path.strip("/")
    with client.stream("GET", f"{path}/events/{name}") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.iter_lines()
        assert next(lines) == "data: first"
        assert client.post(f"{path}/gates/{name}").status_code in (200, 201)
        assert list(lines) == ["", "data: second", ""]


def check_websocket(port: int, context: ssl.SSLContext) -> None:
    """Two messages there and back, and a close that says why."""
    with WebSocket(port, context, "/ws") as websocket:
        for word in ("one", "two"):
            websocket.send(word)
            assert websocket.receive_text() == word.upper()
        websocket.send("bye")
        close = websocket.receive()
    assert (close.opcode, Close.parse(close.data).code) == (Opcode.CLOSE, 4001)


def check_websocket_over_http2(server: Server, authority: Authority) -> None:
    """The same on a stream (RFC 8441), beside a request on the same connection."""
    with Http2Client(server, authority) as client:
        socket = Socket(client, "/ws")
        assert socket.answer.status == 200
        for word in (b"one", b"two"):
            socket.protocol.send_text(word)
            socket.send()
            assert (socket.receive().data, client.ask("/stream").status) == (word.upper(), 200)
        socket.protocol.send_text(b"bye")
        socket.send()
        close = socket.receive()
        assert (close.opcode, close.data[:2]) == (Opcode.CLOSE, (4001).to_bytes(2, "big"))
        socket.send()  # the close that answers it
        assert client.wait(socket.number).is_whole


@pytest.mark.parametrize(
    ("target", "package"),
    [
        ("site_fastapi", "fastapi"),
        ("site_starlette:app", "starlette"),
        ("site_django:app", "channels"),
        ("site_litestar:app", "litestar"),
        ("site_quart:app", "quart"),
        ("site_flask:app", "flask"),
        ("site_django:wsgi_app", "channels"),
    ],
)
def test_framework_is_served_over_tls(target: str, package: str, authority: Authority, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"needs {package}")
    is_wsgi = target in ("site_flask:app", "site_django:wsgi_app")
    command = ["--cert", str(authority.cert), "--bind", "127.0.0.1:0", "--app-dir", str(ROOT), f"{PACKAGE}.{target}"]
    environ = clean_environment(EDGE_HOME=str(tmp_path), EDGE_WORKERS="1", EDGE_EDGES="1")
    with Server(command, cwd=tmp_path, environ=environ) as server:
        port = server.wait_ready().port
        for protocol in ("HTTP/1.1", "HTTP/2"):
            with httpx.Client(
                base_url=f"https://localhost:{port}",
                verify=authority.client_context(),
                http2=protocol == "HTTP/2",
                trust_env=False,
                timeout=DEADLINE,
            ) as client:
                check_http(client, "", protocol)
                if target == "site_fastapi":
                    check_http(client, "/mounted", protocol)
                    assert client.get("/state").text == "from the lifespan"
        if is_wsgi:
            with WebSocket(port, authority.client_context(), "/ws", status=403):
                pass
            with Http2Client(server, authority) as client:
                assert Socket(client, "/ws").answer.status == 403
        else:
            check_websocket(port, authority.client_context())
            check_websocket_over_http2(server, authority)
    assert server.process.returncode == 0
    assert not [line for line in server.errors if "Traceback" in line or " ERROR " in line], server.errors
