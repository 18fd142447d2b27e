"""Slow clients cost no worker: one with a single place serves everyone else while hundreds drip and dawdle."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.http2_client import Http2Client
from tests.process.server import (
    DEADLINE,
    Authority,
    RawClient,
    Server,
    clean_environment,
    running,
    serving,
    wait_until,
)

APPLICATION = """
import asyncio, hashlib, os, signal

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    path = scope["path"]
    answer = f"{len(body)} {hashlib.sha256(body).hexdigest()} {dict(scope['headers']).get(b'content-length')}".encode()
    if path.startswith("/large/"):
        answer = bytes(int(path.removeprefix("/large/")))
    elif path.startswith("/die/") and not os.path.exists(path.removeprefix("/die/")):
        open(path.removeprefix("/die/"), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    elif path == "/holds":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})
"""
FORM = os.urandom(60_000)
LARGE = 250_000
UPLOAD = os.urandom(300_000)


def expected(body: bytes, length: int | None) -> bytes:
    field = repr(str(length).encode()) if length is not None else "None"
    return f"{len(body)} {hashlib.sha256(body).hexdigest()} {field}".encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def slow_http1(port: int, authority: Authority) -> Iterator[socket.socket]:
    """A connection whose client takes next to nothing until it reads."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(DEADLINE)
    plain.connect(("127.0.0.1", port))
    with authority.client_context().wrap_socket(plain, server_hostname="localhost") as sock:
        yield sock


def head(method: str, path: str, *fields: str) -> bytes:
    return "".join(line + "\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "")).encode()


def read_answer(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    start, _, body = data.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200 "), start
    [length] = [int(line[16:]) for line in start.split(b"\r\n") if line.startswith(b"content-length: ")]
    while len(body) < length:
        piece = sock.recv(65536)
        assert piece, "the connection ended within the answer"
        body += piece
    return body


def assert_others_are_served(server: Server, authority: Authority) -> None:
    """Ask a hundred times in each version; no answer comes without the worker's one place."""
    with RawClient(server.port, authority.client_context()) as client:
        for _ in range(100):
            client.send(head("POST", "/", "Content-Length: 2") + b"hi")
            status, _, body = client.receive_response()
            assert (status, body) == (200, expected(b"hi", 2))
    with Http2Client(server, authority) as client2:
        for _ in range(100):
            assert client2.ask("/").body == expected(b"", None)


def test_two_hundred_slow_clients_leave_a_worker_with_one_place_to_everyone_else(
    tmp_path: Path, authority: Authority
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            serving(tmp_path, APPLICATION, "--worker-concurrency", "1", "--no-access-log", authority=authority)
        )
        drips = [stack.enter_context(slow_http1(server.port, authority)) for _ in range(60)]
        for drip in drips:
            drip.sendall(head("POST", "/form", f"Content-Length: {len(FORM)}") + FORM[:1000])
        readers = [stack.enter_context(slow_http1(server.port, authority)) for _ in range(40)]
        for reader in readers:
            reader.sendall(head("GET", f"/large/{LARGE}"))
        drips2 = [stack.enter_context(Http2Client(server, authority)) for _ in range(5)]
        forms = []
        for client in drips2:
            for _ in range(10):
                form = client.begin("/form", (b"content-length", b"%d" % len(FORM)), method="POST", end=False)
                client.send(form, FORM[:1000])
                forms.append((client, form))
        readers2 = [stack.enter_context(Http2Client(server, authority, initial_window_size=0)) for _ in range(2)]
        unread = [(client, client.begin(f"/large/{LARGE}")) for client in readers2 for _ in range(25)]
        assert len(drips) + len(readers) + len(forms) + len(unread) == 200

        assert_others_are_served(server, authority)

        for drip in drips:
            drip.sendall(FORM[1000:])
            assert read_answer(drip) == expected(FORM, len(FORM))
        for client, form in forms:
            client.send(form, FORM[1000:], end=True)
            assert client.wait(form).body == expected(FORM, len(FORM))
        for reader in readers:
            assert len(read_answer(reader)) == LARGE
        for client, number in unread:
            client.h2.increment_flow_control_window(LARGE, number)
            client.flush()
            assert len(client.wait(number).body) == LARGE


WSGI = """
import hashlib

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [f"{len(body)} {hashlib.sha256(body).hexdigest()} {environ.get('CONTENT_LENGTH')}".encode()]
"""


def test_wsgi_application_gets_whole_requests_whatever_their_size(tmp_path: Path) -> None:
    def answer(body: bytes) -> bytes:
        return f"{len(body)} {hashlib.sha256(body).hexdigest()} {len(body)}".encode()

    options = ["--port", "0", "--worker-concurrency", "1", "--no-access-log"]
    with running(tmp_path, WSGI, *options) as server, RawClient(server.port) as slow, RawClient(server.port) as other:
        other.send(head("POST", "/", "Content-Length: 2") + b"hi")
        assert other.receive_response()[2] == answer(b"hi")
        slow.send(head("POST", "/", "Transfer-Encoding: chunked") + chunk(UPLOAD[:200_000]))
        for _ in range(10):
            other.send(head("POST", "/", "Content-Length: 2") + b"hi")
            assert other.receive_response()[2] == answer(b"hi")
        slow.send(chunk(UPLOAD[200_000:]) + b"0\r\n\r\n")
        assert slow.receive_response()[2] == answer(UPLOAD)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def spooling(tmp_path_factory: pytest.TempPathFactory, authority: Authority, spool: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("spooling")
    options = ["--request-buffering", "on", "--spool-dir", str(spool), "--spool-max", "1MiB"]
    limits = ["--worker-concurrency", "1", "--workers", "2", "--log-format", "json"]
    with serving(folder, APPLICATION, *options, *limits, authority=authority) as server:
        yield server


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_large_uploads_wait_in_the_spool_and_become_whole_requests(
    spooling: Server, spool: Path, authority: Authority
) -> None:
    with contextlib.ExitStack() as stack:
        known, chunked = [stack.enter_context(slow_http1(spooling.port, authority)) for _ in range(2)]
        client = stack.enter_context(Http2Client(spooling, authority))
        known.sendall(head("POST", "/", f"Content-Length: {len(UPLOAD)}") + UPLOAD[:200_000])
        chunked.sendall(head("POST", "/", "Transfer-Encoding: chunked") + chunk(UPLOAD[:200_000]))
        number = client.begin("/", method="POST", end=False)
        client.send(number, UPLOAD[:200_000])
        assert_others_are_served(spooling, authority)
        assert list(spool.iterdir()) == []
        known.sendall(UPLOAD[200_000:])
        assert read_answer(known) == expected(UPLOAD, len(UPLOAD))
        chunked.sendall(chunk(UPLOAD[200_000:]) + b"0\r\n\r\n")
        assert read_answer(chunked) == expected(UPLOAD, len(UPLOAD))
        client.send(number, UPLOAD[200_000:], end=True)
        assert client.wait(number).body == expected(UPLOAD, len(UPLOAD))


@pytest.fixture
def raw(spooling: Server, authority: Authority) -> Iterator[RawClient]:
    with RawClient(spooling.port, authority.client_context()) as client:
        yield client


def test_upload_that_can_never_fit_is_refused_before_it_is_sent(raw: RawClient) -> None:
    raw.send(head("POST", "/", "Content-Length: 2000000", "Expect: 100-continue"))
    assert raw.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_edge_asks_for_an_upload_that_it_holds(raw: RawClient) -> None:
    raw.send(head("POST", "/", "Content-Length: 5", "Expect: 100-continue"))
    assert raw.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.send(b"hello")
    assert raw.receive_response()[2] == expected(b"hello", 5)


def test_upload_without_room_is_to_come_again(spooling: Server, raw: RawClient, authority: Authority) -> None:
    with RawClient(spooling.port, authority.client_context()) as other:
        other.send(head("POST", "/", "Transfer-Encoding: chunked") + chunk(bytes(900_000)))

        def ask() -> bytes:
            with RawClient(spooling.port, authority.client_context()) as third:
                third.send(head("POST", "/", "Content-Length: 300000", "Expect: 100-continue"))
                return third.receive_until(b"\r\n\r\n")

        # Until the other's content has come, there is room, and the edge says so.
        refusal = wait_until(lambda: (answer := ask()).startswith(b"HTTP/1.1 503 ") and answer, "the spool is full")
        assert b"\r\nretry-after: 1\r\n" in refusal
        other.send(b"0\r\n\r\n")
        assert other.receive_response()[0] == 200
    raw.send(head("POST", "/", f"Content-Length: {len(UPLOAD)}") + UPLOAD)
    assert raw.receive_response()[2] == expected(UPLOAD, len(UPLOAD))


def test_worker_that_dies_leaves_a_large_upload_to_another(raw: RawClient, tmp_path: Path) -> None:
    raw.send(head("PUT", f"/die/{tmp_path}/died", f"Content-Length: {len(UPLOAD)}") + UPLOAD)
    assert raw.receive_response()[2] == expected(UPLOAD, len(UPLOAD))
    assert (tmp_path / "died").exists()


def test_client_that_leaves_gives_its_room_back(spooling: Server, authority: Authority) -> None:
    with RawClient(spooling.port, authority.client_context()) as leaving:
        leaving.send(head("POST", "/", "Content-Length: 1000000") + bytes(900_000))

    def upload() -> bool:
        with RawClient(spooling.port, authority.client_context()) as client:
            client.send(head("POST", "/", "Content-Length: 1000000", "Expect: 100-continue"))
            if not client.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 "):
                return False
            client.send(bytes(1_000_000))
            return client.receive_response()[0] == 200

    wait_until(upload, "room for an upload")


def test_spool_that_is_gone_is_503_and_nothing_else_suffers(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    options = ["--port", "0", "--request-buffering", "on", "--spool-dir", str(spool)]
    with running(tmp_path, APPLICATION, *options) as server, RawClient(server.port) as client:
        spool.rmdir()
        client.send(head("POST", "/", "Content-Length: 600000") + bytes(600_000))
        status, fields, _ = client.receive_response()
        assert (status, fields.get(b"retry-after")) == (503, b"1"), server.errors
        server.wait_error("refused with 503: content cannot be held in .*: No such file or directory")
        with RawClient(server.port) as other:
            other.send(head("POST", "/", "Content-Length: 2") + b"hi")
            assert other.receive_response()[2] == expected(b"hi", 2)


@pytest.mark.parametrize("held", [("--request-buffering", "on"), ("--interface", "wsgi")])
def test_folder_that_cannot_be_written_to_ends_the_start_with_one_line(tmp_path: Path, held: tuple[str, str]) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    options = ["--port", "0", *held, "--spool-dir", "/proc/self", "application:app"]
    with Server(options, cwd=tmp_path, environ=clean_environment(EDGE_HOME=str(tmp_path))) as server:
        assert server.wait_end() == 2
        [line] = server.errors
        assert "--spool-dir '/proc/self': " in line
        assert line.endswith("; name a folder that this user may write to")
