"""Each timer: what is ended, with which status, and what is slow but legal goes on."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.process.server import RawClient, Server, serving, wait_until

# Counts its content; `/large` answers with more than all buffers hold, `/early` without reading.
APP = """
import asyncio

async def app(scope, receive, send):
    size = 0
    while scope["path"] == "/":
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200 if scope["path"] == "/large" else 0):
        await send({"type": "http.response.body", "body": bytes(256 * 1024), "more_body": True})
    await send({"type": "http.response.body", "body": b"%d" % size})
"""
WAIT_FOR_DISCONNECT = """
    assert scope["type"] == "http"
    size = 0
    open("began", "w")
    while (await receive())["type"] != "http.disconnect":
        pass
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def refused_with_408(server: Server, client: RawClient, reason: str) -> None:
    answer = client.receive_rest()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    server.wait_error(f"127.0.0.1: request refused with 408: {reason}; connection closed")
    [line] = server.wait_access(1)
    assert (line["status"], bool(re.fullmatch(reason, line["error"]))) == (408, True)


def test_head_that_does_not_end_is_408(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--header-timeout", "300ms") as server, RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: loc")
        refused_with_408(server, client, "no whole request head in time")


def test_head_that_trickles_does_not_get_more_time(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--header-timeout", "500ms") as server, RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        client.sock.settimeout(0.05)
        started = time.monotonic()
        answer = b""
        while not answer and time.monotonic() - started < 20:
            client.send(b"X-A: b\r\n")
            try:
                answer = client.sock.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_connection_without_a_byte_is_closed_without_a_word(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--header-timeout", "300ms") as server, RawClient(server.port) as client:
        assert client.receive_rest() == b""


def test_content_that_stops_is_408(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--body-idle-timeout", "300ms") as server, RawClient(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        refused_with_408(server, client, "content stopped coming")


def test_slow_content_within_its_pauses_is_served(tmp_path: Path) -> None:
    # Twice as long in all as one pause may be.
    with serving(tmp_path, APP, "--body-idle-timeout", "600ms") as server, RawClient(server.port) as client:
        pieces = 12
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % pieces)
        client.sock.settimeout(0.1)
        for _ in range(pieces):
            # The pause between two pieces is the wait for an answer that must not come yet.
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
            client.send(b"a")
        client.sock.settimeout(10)
        assert client.receive_response()[::2] == (200, b"%d" % pieces)


def test_answer_that_nobody_takes_is_broken_off(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--write-stall-timeout", "300ms") as server, RawClient(server.port) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.wait_error("127.0.0.1: connection closed: the client takes no bytes of its answer")
        [line] = server.wait_access(1)
        assert (line["target"], line["status"]) == ("/large", 200)
        assert line["error"]


def test_slow_reader_that_takes_bytes_gets_all(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--write-stall-timeout", "400ms") as server, RawClient(server.port) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = 0
        tail = b""
        started = time.monotonic()
        # Slow while that takes longer than the limit; then as fast as it comes.
        while piece := client.sock.recv(65536 if time.monotonic() - started < 1.5 else 1 << 20):
            received += len(piece)
            tail = (tail + piece)[-10:]
            if time.monotonic() - started < 1.5:
                wait_for_more(client)
        assert received > 200 * 256 * 1024
        assert tail.endswith(b"0\r\n\r\n")


def wait_for_more(client: RawClient) -> None:
    """Take a while, as a client does that writes to a slow disk."""
    time.sleep(0.01)


def test_idle_connection_is_closed(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--keepalive-timeout", "300ms") as server, RawClient(server.port) as client:
        client.send(GET)
        assert client.receive_response()[0] == 200
        started = time.monotonic()
        assert client.receive_rest() == b""
        assert time.monotonic() - started > 0.2


def test_keep_alive_of_0_closes_after_each_answer_and_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--keep-alive", "0") as server, RawClient(server.port) as client:
        client.send(GET)
        status, fields, _ = client.receive_response()
        assert (status, fields[b"connection"]) == (200, b"close")
        assert client.receive_rest() == b""


def test_long_request_is_not_cut_off_by_the_timers_of_the_client(tmp_path: Path) -> None:
    slow = APP.replace("    size = 0\n", "    size = 0\n    await asyncio.sleep(1.2)\n", 1)
    options = ("--header-timeout", "200ms", "--keepalive-timeout", "200ms", "--body-idle-timeout", "200ms")
    with serving(tmp_path, slow, *options) as server, RawClient(server.port) as client:
        client.send(GET)
        assert client.receive_response()[0] == 200


def test_client_that_leaves_is_logged_as_499(tmp_path: Path) -> None:
    waiting = APP.replace("    size = 0\n", WAIT_FOR_DISCONNECT, 1)
    with serving(tmp_path, waiting) as server:
        with RawClient(server.port) as client:
            client.send(GET)
            wait_until((tmp_path / "began").exists, "the application has the request")
        [line] = server.wait_access(1)
        assert (line["status"], line["error"]) == (499, "the client left")
