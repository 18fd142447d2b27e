"""HTTP/1.1 end to end, over TLS: what is refused never reaches the application, and memory stays bounded."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, Authority, RawClient, Server, serving, wait_until

APPLICATION = """
import asyncio, hashlib, json

seen, released, progress = [], asyncio.Event(), {"sent": 0, "received": 0}

async def answer(send, body, status=200, **start):
    await send({"type": "http.response.start", "status": status, "headers": [], **start})
    await send({"type": "http.response.body", "body": body})

async def read(receive):
    digest, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        digest.update(message.get("body", b""))
        size += len(message.get("body", b""))
        progress["received"] = size
        if not message.get("more_body"):
            return f"{size} {digest.hexdigest()}".encode()

async def app(scope, receive, send):
    path = scope["path"]
    if path == "/control/seen":
        await answer(send, json.dumps(seen).encode())
    elif path == "/control/release":
        released.set()
        await answer(send, b"")
    elif path == "/control/progress":
        await answer(send, json.dumps(progress).encode())
    else:
        seen.append(scope["method"] + " " + path)
        await serve(path, receive, send)

async def serve(path, receive, send):
    if path == "/echo":
        await answer(send, await read(receive))
    elif path == "/waits-then-reads":
        await released.wait()
        await answer(send, await read(receive))
    elif path == "/waits":
        await released.wait()
        await answer(send, b"waited")
    elif path == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        piece = b"0123456789abcdef" * 4096
        for number in range(800):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            progress["sent"] += len(piece)
        await send({"type": "http.response.body", "body": b""})
    elif path == "/trailers":
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"content"})
        fields = [(b"server-timing", b"all;dur=1"), (b"content-length", b"3"), (b"set-cookie", b"a=b")]
        await send({"type": "http.response.trailers", "headers": fields})
    else:
        await answer(send, path.encode())
"""
LARGE = 50 * 1024 * 1024
HOST = b"Host: localhost\r\n"


class Site:
    """The server with its application, and what the application saw."""

    def __init__(self, server: Server, context: ssl.SSLContext | None) -> None:
        self.server = server
        self._context = context

    def connect(self) -> RawClient:
        return RawClient(self.server.port, self._context)

    def get(self, path: str) -> bytes:
        """Return the content at a path, asked for on a connection of its own."""
        with self.connect() as client:
            client.send(b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), HOST))
            status, _, body = client.receive_response()
            assert status == 200
            return body

    def seen(self) -> str:
        return self.get("/control/seen").decode()

    def edge_memory(self) -> int:
        """Return the bytes that the edge process has resident."""
        [edge] = self.server.edges()
        return resident(edge)

    def worker_memory(self) -> int:
        """Return the bytes that the worker has resident."""
        [worker] = self.server.workers()
        return resident(worker)


def resident(pid: int) -> int:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


@contextlib.contextmanager
def site(folder: Path, *arguments: str, authority: Authority | None = None) -> Iterator[Site]:
    with serving(folder, APPLICATION, *arguments, authority=authority) as server:
        yield Site(server, authority.client_context() if authority is not None else None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Site]:
    """One server for the tests that leave nothing behind in it."""
    with site(tmp_path_factory.mktemp("shared"), "--max-body", "1MiB", authority=authority) as running:
        yield running


# What is refused.


SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    ("status", "head", "content"),
    [
        (400, b"POST /x HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (400, b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"),
        (400, b"POST /x HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n", b""),
        (400, b"POST /x HTTP/1.1\r\nContent-Length: +0\r\n", b""),
        (400, b"POST /x HTTP/1.1\r\nContent-Length : 0\r\n", b""),
        (400, b"POST /x HTTP/1.1\r\nX: y\r\n Content-Length: 0\r\n", b""),
        (400, b"POST /x HTTP/1.1\r\nX: y\nContent-Length: 0\r\n", b""),
        (400, b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (400, b"GET http://other.example/x HTTP/1.1\r\n", b""),
        (400, b"GET /x#y HTTP/1.1\r\n", b""),
        (405, b"CONNECT localhost:443 HTTP/1.1\r\n", b""),
        (413, b"POST /x HTTP/1.1\r\nContent-Length: 1048577\r\n", b""),
        (413, b"POST /x HTTP/1.1\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n", b""),
        (414, b"GET /%b HTTP/1.1\r\n" % (b"x" * 9000), b""),
        (417, b"POST /x HTTP/1.1\r\nContent-Length: 0\r\nExpect: cake\r\n", b""),
        (426, b"GET /x HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n", b""),
        (431, b"GET /x HTTP/1.1\r\nX: %b\r\n" % (b"y" * 40_000), b""),
        (431, b"GET /x HTTP/1.1\r\n" + b"X: y\r\n" * 101, b""),
        (501, b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        (501, b"BREW /x HTTP/1.1\r\n", b""),
        (505, b"GET /x HTTP/1.2\r\n", b""),
    ],
)
def test_refused_request_and_what_it_smuggles_never_reach_the_application(
    shared: Site, status: int, head: bytes, content: bytes
) -> None:
    before = shared.seen()
    with shared.connect() as client:
        client.send(head + HOST + b"\r\n" + content + SMUGGLED)
        got, fields, body = client.receive_response()
        assert client.receive_rest() == b""
    assert got == status
    assert fields[b"connection"].endswith(b"close") or status == 426
    assert body.startswith(b"%d " % status)
    assert b"request id: " + fields[b"x-request-id"] in body
    assert shared.seen() == before
    shared.server.wait_error(rf"request refused with {status}: .+; connection closed")


def test_chunk_that_breaks_off_reaches_the_application_as_a_client_that_left(shared: Site) -> None:
    with shared.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
        wait_until(lambda: "POST /echo" in shared.seen(), "the application has the request")
        client.send(b"0x4\r\nabcd\r\n0\r\n\r\n" + SMUGGLED)
        status, _, _ = client.receive_response()
        assert status == 400
        assert client.receive_rest() == b""
    assert "smuggled" not in shared.seen()


def test_content_over_the_limit_in_chunks_is_refused_while_it_comes(shared: Site) -> None:
    with shared.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(33):
            client.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        status, _, _ = client.receive_response()
    assert status == 413


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_413_comes_before_the_content_and_without_100(shared: Site, expect: bytes) -> None:
    with shared.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1048577\r\n" + expect + b"\r\n")
        assert client.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 413 Content Too Large\r\n")


def test_requests_before_a_refused_one_are_answered_first_and_none_after_it(shared: Site) -> None:
    with shared.connect() as client:
        good = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in (1, 2))
        client.send(good + b"GET /3 HTTP/1.1\r\n\r\n" + SMUGGLED)
        data = client.receive_rest()
    assert re.findall(rb"HTTP/1\.1 (\d+)", data) == [b"200", b"200", b"400"]
    assert re.findall(rb"\r\n\r\n(/\d)", data) == [b"/1", b"/2"]
    assert "smuggled" not in shared.seen()


def test_requests_that_come_together_are_answered_in_order(shared: Site) -> None:
    paths = [b"/p%03d" % number for number in range(300)]
    with shared.connect() as client:
        client.send(b"".join(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST) for path in paths[:-1]))
        client.send(b"GET %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (paths[-1], HOST))
        data = client.receive_rest()
    assert re.findall(rb"/p\d{3}", data) == paths


def test_many_requests_in_one_read_that_the_edge_answers_itself_are_answered_in_order(
    tmp_path: Path, authority: Authority
) -> None:
    # Each answer begins the next request: done by calling, a few hundred of them would end the stack.
    with site(tmp_path, "--http-bind", "127.0.0.1:0", "--host", "127.0.0.1", authority=authority) as running:
        [port] = running.server.ports("http")
        with RawClient(port) as client:
            count = 3000
            requests = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(count - 1))
            client.send(requests + b"GET /%d HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (count - 1, HOST))
            data = client.receive_rest()
        assert [int(number) for number in re.findall(rb"location: \S+/(\d+)\r\n", data)] == list(range(count))
        assert not [line for line in running.server.errors if "Traceback" in line]


# Framing and time.


def test_trailers_that_would_frame_or_authenticate_are_dropped(shared: Site) -> None:
    with shared.connect() as client:
        client.send(b"GET /trailers HTTP/1.1\r\n" + HOST + b"TE: trailers\r\nConnection: TE\r\n\r\n")
        data = client.receive_until(b"0\r\n")
        data += client.receive_until(b"\r\n\r\n") if not data.endswith(b"\r\n\r\n") else b""
    assert b"7\r\ncontent\r\n0\r\nserver-timing: all;dur=1\r\n\r\n" in data
    assert b"set-cookie" not in data


def test_content_may_come_in_chunks_cut_anywhere(shared: Site) -> None:
    content = bytes(range(256)) * 3000
    chunks = [content[start : start + 77_777] for start in range(0, len(content), 77_777)]
    sent = b"".join(b"%x;name=value\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nA: b\r\n\r\n"
    with shared.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(sent), 9_999):
            client.send(sent[start : start + 9_999])
        status, _, body = client.receive_response()
        assert (status, body) == (200, f"{len(content)} {hashlib.sha256(content).hexdigest()}".encode())
        client.send(b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.receive_response()[2] == b"/next"


def test_stray_empty_line_behind_content_does_not_disturb_the_next_request(shared: Site) -> None:
    with shared.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\na\r\n")
        assert client.receive_response()[0] == 200
        client.send(b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.receive_response()[2] == b"/next"


def test_head_and_content_that_stop_coming_get_408(tmp_path: Path, authority: Authority) -> None:
    options = ("--header-timeout", "0.5", "--body-idle-timeout", "0.5")
    with site(tmp_path, *options, authority=authority) as running:
        for start in (b"GET / HTTP/1.1\r\nX: ", b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc"):
            with running.connect() as client:
                client.send(start)
                status, _, _ = client.receive_response()
                assert status == 408
                assert client.receive_rest() == b""
        with running.connect() as silent:
            assert silent.receive_rest() == b""  # it never began: there is nothing to answer


def test_client_that_waits_for_100_is_not_taken_for_slow(tmp_path: Path, authority: Authority) -> None:
    with site(tmp_path, "--body-idle-timeout", "0.5", authority=authority) as running, running.connect() as client:
        client.send(
            b"POST /waits-then-reads HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        wait_until(lambda: "POST" in running.seen(), "the application has the request")
        with running.connect() as other:  # what comes later is late first: then the time of `client` is up, too
            other.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n")
            assert other.receive_response()[0] == 408
        running.get("/control/release")
        assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.receive_response()[2].startswith(b"3 ")


# Memory.


def wait_still(count: list[int], what: str) -> None:
    """Wait until a count has begun to grow and grows no more."""
    last, since = 0, time.monotonic()

    def is_still() -> bool:
        nonlocal last, since
        if count[0] != last:
            last, since = count[0], time.monotonic()
        return last > 0 and time.monotonic() - since > 0.5

    wait_until(is_still, what)


def test_upload_that_the_application_does_not_read_stays_with_the_client(tmp_path: Path, authority: Authority) -> None:
    piece = bytes(range(256)) * 256
    sent = [0]

    def upload(client: RawClient) -> None:
        client.send(b"POST /waits-then-reads HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (HOST, LARGE))
        for _ in range(LARGE // len(piece)):
            client.send(piece)
            sent[0] += len(piece)

    with site(tmp_path, authority=authority) as running, running.connect() as client:
        running.get("/warm")
        edge, worker = running.edge_memory(), running.worker_memory()
        thread = threading.Thread(target=upload, args=(client,))
        thread.start()
        wait_still(sent, "the upload has come to a stop")
        assert sent[0] < LARGE // 2, "what the sockets hold is all that goes"
        assert running.edge_memory() - edge < 4 * 1024 * 1024
        assert running.worker_memory() - worker < 4 * 1024 * 1024
        running.get("/control/release")
        thread.join(DEADLINE)
        digest = hashlib.sha256(piece * (LARGE // len(piece))).hexdigest()
        assert client.receive_response()[2] == f"{LARGE} {digest}".encode()
        assert running.edge_memory() - edge < 8 * 1024 * 1024
        assert running.worker_memory() - worker < 8 * 1024 * 1024


def test_download_that_the_client_does_not_read_stays_with_the_application(
    tmp_path: Path, authority: Authority
) -> None:
    with site(tmp_path, authority=authority) as running, running.connect() as client:
        running.get("/warm")
        edge, worker = running.edge_memory(), running.worker_memory()
        client.send(b"GET /large HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        sent = [0]

        def is_still() -> bool:
            before = sent[0]
            match = re.search(rb'"sent": (\d+)', running.get("/control/progress"))
            assert match is not None
            sent[0] = int(match[1])
            return 0 < sent[0] == before

        wait_until(is_still, "the application has come to a stop")
        assert sent[0] < LARGE // 2, "what the sockets hold is all that goes"
        assert running.edge_memory() - edge < 4 * 1024 * 1024
        assert running.worker_memory() - worker < 4 * 1024 * 1024
        data = client.receive_rest()
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    piece = b"10000\r\n" + b"0123456789abcdef" * 4096 + b"\r\n"
    assert rest == piece * 800 + b"0\r\n\r\n"


# TLS as HTTP/1.1 meets it.


def test_renegotiation_is_refused(shared: Site, authority: Authority) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "s_client", "-connect", f"127.0.0.1:{shared.server.port}", "-tls1_2"]
    client = subprocess.Popen(
        [*command, "-CAfile", str(authority.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = client.communicate(b"R\n", DEADLINE)
    assert b"RENEGOTIATING" in output
    assert b"no renegotiation" in output


def test_client_that_closes_its_tls_gets_no_more(shared: Site) -> None:
    with shared.connect() as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        plain = client.sock.unwrap()
        plain.shutdown(socket.SHUT_RDWR)
        plain.close()
    assert shared.get("/still-there") == b"/still-there"
