"""Applications that are not ASGI 3, and names that are more than MODULE:ATTR, for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.server import Authority, RawClient, Server, clean_environment, serving

# One thread: a request that waits while it has the thread stops every other one.
WSGI = """
import threading

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/endless":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return Endless()
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"), 4096)
    if path == "/error":
        raise KeyError("secret")
    start_response("200 OK", [("Content-Type", "text/plain")])
    words = (environ["wsgi.url_scheme"], environ["SERVER_PROTOCOL"], str(ended.is_set()))
    return [" ".join(words).encode()]

ended = threading.Event()

class Endless:
    def __iter__(self):
        return self
    def __next__(self):
        return b"x" * 65536
    def close(self):
        ended.set()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Authority]]:
    folder = tmp_path_factory.mktemp("wsgi")
    authority = Authority(folder)
    # It has no lifespan, whatever is said.
    with serving(folder, WSGI, "--threads", "1", "--lifespan", "on", authority=authority) as running_server:
        yield running_server, authority


def connect(server: tuple[Server, Authority]) -> RawClient:
    return RawClient(server[0].ports("https")[0], server[1].client_context())


def get(client: RawClient, path: str) -> tuple[int, bytes]:
    client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    status, _, content = client.receive_response()
    return status, content


def test_wsgi_is_recognised_and_served_over_tls(server: tuple[Server, Authority]) -> None:
    with connect(server) as client:
        assert get(client, "/")[1].startswith(b"https HTTP/1.1 ")


def test_slow_uploads_take_no_thread(server: tuple[Server, Authority]) -> None:
    with connect(server) as slow, connect(server) as other:
        slow.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600000\r\n\r\n" + b"x" * 300_000)
        assert get(other, "/")[0] == 200
        slow.send(b"y" * 300_000)
        assert slow.receive_response()[2] == b"x" * 300_000 + b"y" * 300_000


def test_client_that_leaves_gives_the_thread_back(server: tuple[Server, Authority]) -> None:
    with connect(server) as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.receive_until(b"xxxx")
    with connect(server) as client:
        assert get(client, "/")[1] == b"https HTTP/1.1 True"  # it waited for the only thread: close() was called before


def test_file_is_sent_in_pieces(server: tuple[Server, Authority]) -> None:
    with connect(server) as client:
        client.send(b"GET /file HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert client.receive_until(WSGI.encode())


def test_error_is_a_500_with_the_traceback_of_the_application_alone(server: tuple[Server, Authority]) -> None:
    with connect(server) as client:
        status, content = get(client, "/error")
    assert status == 500
    assert b"secret" not in content
    server[0].wait_error("KeyError: 'secret'")
    lines = "\n".join(server[0].errors).partition("exception in GET '/error'")[2].splitlines()
    assert "application.py" in lines[2]


FACTORY = """
def create_app(word="default", number=0):
    def app(scope):
        async def instance(receive, send):
            text = f"{word} {number} {scope['asgi']['version']}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": text})
        return instance
    return app

def make():
    return create_app("made")

if NAMED:
    application = create_app("found")
"""


@pytest.mark.parametrize(
    ("target", "arguments", "content", "remarks"),
    [
        ("application:create_app('given', number=1)", [], b"given 1 2.0", 0),
        ("application:make()", ["--factory"], b"made 0 2.0", 0),
        ("application:make", ["--workers", "2"], b"made 0 2.0", 1),
        ("application", ["--lifespan", "off"], b"found 0 2.0", 0),
    ],
)
def test_application_is_found_or_made(
    tmp_path: Path, target: str, arguments: list[str], content: bytes, remarks: int
) -> None:
    source = FACTORY.replace("NAMED", str(target == "application"))
    (tmp_path / "application.py").write_text(source)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    command = [*arguments, "--port", "0", target]
    with Server(command, cwd=tmp_path, environ=environ) as server, RawClient(server.wait_ready().port) as client:
        client.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert client.receive_until(content)
    assert sum("say so with --factory" in line for line in server.errors) == remarks
