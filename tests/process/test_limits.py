"""Each limit: the right status, one line with the reason, and a request id that leads from one to the other."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.server import RawClient, Server, serving, wait_until

# Reads its content if asked to; `/hold` answers when the file `go` is there.
APP = """
import asyncio, pathlib

async def app(scope, receive, send):
    size = 0
    if scope["path"] == "/hold":
        with open("held", "a") as file:
            file.write("x")
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
    else:
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HOLD = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMITS = ("--max-request-line", "100", "--max-header-size", "1KiB", "--max-headers", "5", "--max-body", "1000")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits."""
    with serving(tmp_path_factory.mktemp("limited"), APP, *LIMITS) as server:
        yield server


def fields(count: int, size: int = 1) -> bytes:
    return b"".join(b"X-%d: %b\r\n" % (number, b"a" * size) for number in range(count))


def test_what_is_within_every_limit_is_served(limited: Server) -> None:
    with RawClient(limited.port) as client:
        line = b"POST /".ljust(100 - len(b" HTTP/1.1"), b"a") + b" HTTP/1.1\r\n"
        client.send(line + b"Host: localhost\r\nContent-Length: 1000\r\n" + fields(3, 300) + b"\r\n" + b"b" * 1000)
        assert client.receive_response()[::2] == (200, b"1000")


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        pytest.param(
            b"GET /".ljust(92, b"a") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            414,
            "request line of more than 100 bytes",
            id="request-line",
        ),
        pytest.param(b"GET /" + b"a" * 200, 414, "request line of more than 100 bytes", id="request-line-without-end"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields(4, 300) + b"\r\n",
            431,
            "header section of more than 1024 bytes",
            id="header-size",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2000,
            431,
            "header section of more than 1024 bytes",
            id="header-size-without-end",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields(5) + b"\r\n",
            431,
            "6 header fields, at most 5 allowed",
            id="headers",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n",
            413,
            "content of 1001 bytes, at most 1000 allowed",
            id="body",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n",
            413,
            "content of 1001 bytes, at most 1000 allowed",
            id="body-before-100-continue",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"a" * 1001,
            413,
            "content of more than 1000 bytes",
            id="chunked-body",
        ),
    ],
)
def test_limit_is_told_by_status_and_log(limited: Server, request_bytes: bytes, status: int, reason: str) -> None:
    with RawClient(limited.port) as client:
        client.send(request_bytes)
        data = client.receive_rest()
    head, _, body = data.partition(b"\r\n\r\n")
    assert int(head.split(b" ", 2)[1]) == status
    assert b"\r\nconnection: close" in head
    request_id = re.findall(rb"\r\nx-request-id: ([0-9a-f]+)", head)[0].decode()
    assert request_id.encode() in body
    lines = wait_until(lambda: [x for x in limited.access_lines() if x["request_id"] == request_id], "the access line")
    assert [(line["status"], bool(re.fullmatch(reason, line["error"]))) for line in lines] == [(status, True)]
    limited.wait_error(f"127.0.0.1: request refused with {status}: {reason}; connection closed")


def test_chunked_content_that_grows_too_large_while_it_is_read_is_413(limited: Server) -> None:
    with RawClient(limited.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            client.send(b"190\r\n" + b"a" * 400 + b"\r\n")
        assert client.receive_rest().startswith(b"HTTP/1.1 413 ")


def test_connection_is_closed_after_so_many_requests(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--keepalive-requests", "3") as server, RawClient(server.port) as client:
        closes = []
        for _ in range(3):
            client.send(GET)
            status, found, _ = client.receive_response()
            assert status == 200
            closes.append(found.get(b"connection"))
        assert closes == [None, None, b"close"]
        assert client.receive_rest() == b""


def test_oldest_idle_connection_makes_room(tmp_path: Path) -> None:
    options = ("--max-connections", "2")
    with (
        serving(tmp_path, APP, *options) as server,
        RawClient(server.port) as oldest,
        RawClient(server.port) as other,
    ):
        for client in (oldest, other):
            client.send(GET)
            client.receive_response()
        with RawClient(server.port) as new:
            new.send(GET)
            assert new.receive_response()[0] == 200
            assert oldest.receive_rest() == b""
            other.send(GET)
            assert other.receive_response()[0] == 200


def test_connection_too_many_is_refused_when_none_is_idle(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--max-connections", "1") as server, RawClient(server.port) as busy:
        busy.send(HOLD)
        wait_until((tmp_path / "held").exists, "the application has the request")
        with RawClient(server.port) as refused:
            assert refused.receive_rest() == b""
        server.wait_error("127.0.0.1: connection refused: 1 are open, at most 1 allowed")
        (tmp_path / "go").touch()
        assert busy.receive_response()[0] == 200


def test_queue_is_bounded_and_then_503_with_retry_after(tmp_path: Path) -> None:
    options = ("--worker-concurrency", "1", "--queue", "1")
    with (
        serving(tmp_path, APP, *options) as server,
        RawClient(server.port) as running,
        RawClient(server.port) as queued,
        RawClient(server.port) as refused,
    ):
        running.send(HOLD)
        wait_until((tmp_path / "held").exists, "the application has the request")
        queued.send(GET)
        # The kernel gives connections in order, and this one is looked at after the one that waits.
        refused.send(GET)
        status, found, body = refused.receive_response()
        assert (status, found[b"retry-after"]) == (503, b"1")
        assert body.startswith(b"503 Service Unavailable\nrequest id: ")
        server.wait_error("GET '/' refused with 503: queue full: 1 requests wait, at most 1 allowed")
        (tmp_path / "go").touch()
        assert running.receive_response()[0] == 200
        assert queued.receive_response()[0] == 200
        lines = server.wait_access(3)
        # How long it waited for the worker is in the log.
        waited = next(
            line for line in lines if line["request_id"].encode() and line["target"] == "/" and line["status"] == 200
        )
        assert waited["queue_us"] > 0
        assert next(line for line in lines if line["status"] == 503)["worker"] == -1


def test_queue_has_a_time_limit(tmp_path: Path) -> None:
    options = ("--worker-concurrency", "1", "--queue-timeout", "200ms")
    with (
        serving(tmp_path, APP, *options) as server,
        RawClient(server.port) as running,
        RawClient(server.port) as waiting,
    ):
        running.send(HOLD)
        wait_until((tmp_path / "held").exists, "the application has the request")
        waiting.send(GET)
        status, found, _ = waiting.receive_response()
        assert (status, found[b"retry-after"]) == (503, b"1")
        server.wait_error("GET '/' refused with 503: no worker had room in time")
        # The connection goes on.
        (tmp_path / "go").touch()
        waiting.send(GET)
        assert waiting.receive_response()[0] == 200


def test_request_whose_client_left_the_queue_is_not_run(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--worker-concurrency", "1") as server, RawClient(server.port) as running:
        running.send(HOLD)
        wait_until((tmp_path / "held").exists, "the application has the request")
        with RawClient(server.port) as leaving:
            leaving.send(HOLD.replace(b"/hold", b"/hold?leaving"))
            leaving.sock.shutdown(socket.SHUT_WR)
            leaving.receive_rest()
        [line] = server.wait_access(1)
        assert (line["target"], line["status"], line["worker"]) == ("/hold?leaving", 499, -1)
        (tmp_path / "go").touch()
        assert running.receive_response()[0] == 200
        assert (tmp_path / "held").read_text() == "x"


def test_no_limit_on_content_when_it_is_0(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--max-body", "0") as server, RawClient(server.port) as client:
        size = 101 * 1024 * 1024
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"a" * 1024 * 1024
        for _ in range(size // len(piece)):
            client.send(piece)
        assert client.receive_response()[::2] == (200, b"%d" % size)
