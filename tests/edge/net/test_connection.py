"""A client connection against the clock, on a transport in memory: what would take minutes with real time."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import socket
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic
from typing import Any, ParamSpec

import pytest

from edge.config import build_settings
from edge.dispatch.link import WorkerLink
from edge.net.connection import ClientConnection
from edge.net.service import RATE_GRACE
from edge.net.stream import LINGER_SIZE, LINGER_TIME, NEVER, ClientStream, Phase
from edge.policy.chain import Policy
from edge.policy.forwarded import TrustedProxies
from edge.process import EdgeProcess
from edge.upstream.trust import UpstreamTrust
from edge_backend import wire

P = ParamSpec("P")

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE = (
    b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
POST = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop: the access log is written by one."""

    @functools.wraps(test)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        asyncio.run(test(*arguments, **options))

    return run


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; `unsent` is what the client has not taken of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.is_reading_now = True
        self.ended = ""  # how: eof, closed or aborted
        self.sock: socket.socket | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("203.0.113.7", 4711), "socket": self.sock}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return self.ended in ("closed", "aborted")

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True


class Scene:
    """An edge process with one client connection and, if asked for, one worker."""

    def __init__(self, **options: object) -> None:
        self.edge = EdgeProcess(
            build_settings({"app": "m:a", "log_format": "json", **options}), [], None, UpstreamTrust()
        )
        self._policy = Policy(scheme=b"http", port=80, address=b"127.0.0.1", trust=TrustedProxies(), redirect=None)
        self.client = MemoryTransport()
        self.stream = ClientStream(None, self.edge.settings.timeouts, self._drive)
        self.stream.connection_made(self.client)
        self.worker = MemoryTransport()

    def _drive(self, stream: ClientStream) -> ClientConnection:
        self.connection = ClientConnection(self.edge, self._policy, stream)
        return self.connection

    def add_worker(self) -> WorkerLink:
        """Connect a worker that is ready; only in a running loop."""
        link = WorkerLink(self.edge.dispatchers["*/"], 0, lambda link: None)
        link.connection_made(self.worker)
        link.data_received(wire.encode_hello(1, 0) + wire.encode_frame(wire.READY, 0, 0))
        return link

    def log(self, capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        """Return the access log."""
        assert self.edge.access_log is not None
        self.edge.access_log.flush()
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    @property
    def queued(self) -> int:
        """Requests that wait for a worker, as the dispatcher gives them up in the end."""
        return len(list(self.edge.dispatchers["*/"].expired(float("inf"))))

    @property
    def status(self) -> int:
        """The status of the first answer."""
        return int(self.client.written.split(b" ", 2)[1])


def answer(stream: int, content: bytes = b"", flags: int = wire.END) -> bytes:
    """Return the frame of an answer whose length is not known, unless it is whole."""
    length = b"%d" % len(content) if flags & wire.END else b""
    return wire.encode_frame(wire.RESPONSE, flags, stream, b"200\n" + length, content)


def upload(received: int, after: float) -> Scene:
    """Return a scene in which a worker takes content, so much has come, and the rate was asked for `after` seconds."""

    async def scenario() -> Scene:
        scene = Scene()
        scene.add_worker()
        scene.stream.data_received(POST % 100_000)
        scene.stream.data_received(b"a" * received)
        scene.connection.sweep(monotonic() + after)
        return scene

    return asyncio.run(scenario())


# The end of what is idle.


@pytest.mark.parametrize("end", ["keep-alive", "parting"])
@pytest.mark.parametrize("unread", [b"", b"GET / HTTP/1.1\r\n"])
def test_idle_connection_is_not_closed_over_a_request_that_was_not_read_yet(end: str, unread: bytes) -> None:
    scene = Scene()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        scene.client.sock = ours
        theirs.sendall(unread)
        scene.stream.wait_request(monotonic())
        if end == "keep-alive":
            scene.stream.expire(scene.stream.deadline)
        else:
            scene.connection.part(monotonic() + 60)
        assert scene.client.ended == ("" if unread else "closed")


# Content against the clock.


def test_content_below_the_least_rate_is_refused_with_408(capfd: pytest.CaptureFixture[str]) -> None:
    scene = upload(2000, RATE_GRACE + 10)
    assert scene.status == 408
    assert b"\r\nconnection: close\r\n" in scene.client.written
    [line] = scene.log(capfd)
    assert line["status"] == 408
    assert line["error"].endswith("bytes/s, at least 500 expected")


@pytest.mark.parametrize(
    ("received", "after"),
    [
        pytest.param(20_000, RATE_GRACE + 10, id="slow-but-legal"),
        pytest.param(1, RATE_GRACE - 1, id="slow-start"),
    ],
)
def test_content_of_a_legal_rate_goes_on(received: int, after: float) -> None:
    scene = upload(received, after)
    assert scene.client.written == b""
    assert scene.stream.phase is Phase.CONTENT


def test_rate_is_not_asked_of_a_client_that_must_wait_for_us() -> None:
    scene = Scene()
    # Nobody takes the content: no worker is there, and the connection stops reading.
    scene.stream.data_received(POST % 10_000_000 + b"a" * 100)
    scene.stream.data_received(b"a" * 300_000)
    assert not scene.client.is_reading_now
    scene.connection.sweep(monotonic() + 1000)
    assert scene.client.written == b""
    assert scene.stream.deadline == NEVER


def test_each_piece_of_content_gives_new_time() -> None:
    scene = Scene(body_idle_timeout=30)
    scene.stream.data_received(POST % 100)
    first = scene.stream.deadline
    scene.stream.data_received(b"a")
    assert scene.stream.deadline > first


@in_loop
async def test_websocket_that_had_to_wait_for_us_has_all_the_time_afterwards() -> None:
    scene = Scene()
    link = scene.add_worker()
    scene.stream.data_received(HANDSHAKE)
    link.data_received(wire.encode_frame(wire.RESPONSE, 0, 1, b"101\n", b""))
    scene.stream.data_received(bytes(2 * wire.INITIAL_WINDOW))
    assert not scene.client.is_reading_now
    link.data_received(wire.encode_window(1, 2 * wire.INITIAL_WINDOW))
    assert scene.client.is_reading_now
    assert scene.stream.deadline == NEVER
    scene.connection.sweep(monotonic() + RATE_GRACE + 1000)
    scene.stream.data_received(b"\x81\x00")
    assert (scene.client.ended, scene.stream.phase) == ("", Phase.ANSWER)


# Closing.


@in_loop
async def test_what_comes_after_a_refusal_is_dropped_up_to_a_limit() -> None:
    scene = Scene()
    scene.stream.data_received(b"bad\r\n\r\n")
    answered = scene.client.written
    assert (scene.status, scene.client.ended) == (400, "eof")
    scene.stream.data_received(GET)
    scene.stream.data_received(b"a" * (LINGER_SIZE - len(GET)))
    assert (scene.client.written, scene.client.ended) == (answered, "eof")
    scene.stream.data_received(b"a")
    assert scene.client.ended == "aborted"


@in_loop
async def test_client_that_does_not_close_is_closed_after_a_while() -> None:
    scene = Scene()
    scene.stream.data_received(b"bad\r\n\r\n")
    assert LINGER_TIME - 1 < scene.stream.deadline - monotonic() <= LINGER_TIME
    scene.stream.expire(monotonic() + LINGER_TIME)
    assert scene.client.ended == "aborted"


def test_slow_client_gets_the_end_of_an_answer_that_closes(capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> Scene:
        scene = Scene(write_stall_timeout=60)
        link = scene.add_worker()
        scene.stream.data_received(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        scene.client.unsent = 200_000
        link.data_received(answer(1, b"a" * 200_000))
        return scene

    scene = asyncio.run(scenario())
    stream, client = scene.stream, scene.client
    assert (stream.phase, client.ended) == (Phase.LINGER, "eof")
    now = monotonic() + LINGER_TIME
    # Nothing was cut off at LINGER_TIME, nor later, while it moves.
    for left in (150_000, 50_000, 1):
        client.unsent = left
        stream.expire(now)
        assert client.ended == "eof"
        assert stream.deadline == now + 60
        now += 60
    stream.expire(now)
    assert client.ended == "aborted"
    assert [line["status"] for line in scene.log(capfd)] == [200]


def test_slow_client_of_a_connection_that_is_closed_gets_all() -> None:
    async def scenario() -> Scene:
        scene = Scene(write_stall_timeout=60)
        link = scene.add_worker()
        scene.stream.data_received(GET)
        link.data_received(answer(1, b"a" * 200_000))
        return scene

    scene = asyncio.run(scenario())
    scene.client.unsent = 200_000
    assert scene.stream.phase is Phase.IDLE
    scene.connection.drain()
    assert scene.client.ended == "closed"
    now = monotonic() + LINGER_TIME
    scene.stream.expire(now)
    assert scene.client.ended == "closed"
    scene.stream.expire(now + 60)
    assert scene.client.ended == "aborted"


def test_write_that_stalls_is_broken_off_and_one_that_moves_is_not(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(write_stall_timeout=60)
    scene.stream.data_received(GET)
    scene.client.unsent = 200_000
    scene.stream.pause_writing()
    assert scene.stream.phase is Phase.WRITE
    now = scene.stream.deadline
    scene.client.unsent = 199_999
    scene.stream.expire(now)
    assert scene.client.ended == ""
    logging.getLogger("edge").propagate = True
    with caplog.at_level(logging.INFO, "edge.net"):
        scene.stream.expire(now + 60)
    assert scene.client.ended == "aborted"
    assert "203.0.113.7: connection closed: the client takes no bytes of its answer" in caplog.messages


def test_phase_before_a_stalled_write_comes_back() -> None:
    scene = Scene()
    scene.stream.data_received(POST % 10)
    scene.client.unsent = 200_000
    scene.stream.pause_writing()
    scene.stream.resume_writing()
    assert scene.stream.phase is Phase.CONTENT
    assert scene.stream.deadline != NEVER


# Draining and ending.


def test_drain_closes_what_is_idle_and_spares_what_has_begun() -> None:
    idle, begun, running = Scene(), Scene(), Scene()
    begun.stream.data_received(GET[:20])
    running.stream.data_received(GET)
    for scene in (idle, begun, running):
        scene.connection.drain()
    assert [scene.client.ended for scene in (idle, begun, running)] == ["closed", "", ""]


@in_loop
async def test_request_that_waits_is_answered_503_when_the_server_ends(capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    scene.stream.data_received(GET)
    scene.connection.cut_off()
    assert scene.status == 503
    assert b"\r\nretry-after: 1\r\n" in scene.client.written
    assert b"\r\nconnection: close\r\n" in scene.client.written
    assert scene.queued == 0
    [line] = scene.log(capfd)
    assert (line["status"], line["error"]) == (503, "the server stopped")


def test_answer_that_has_begun_is_broken_off_when_the_server_ends(capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> Scene:
        scene = Scene()
        link = scene.add_worker()
        scene.stream.data_received(GET)
        link.data_received(answer(1, b"part", 0))
        scene.connection.cut_off()
        return scene

    scene = asyncio.run(scenario())
    assert scene.client.written.endswith(b"4\r\npart\r\n")
    assert scene.client.ended == "aborted"
    [line] = scene.log(capfd)
    assert (line["status"], line["error"]) == (200, "the server stopped")


def test_idle_connection_is_closed_when_the_server_ends() -> None:
    scene = Scene()
    scene.connection.cut_off()
    assert (scene.client.ended, scene.client.written) == ("aborted", b"")


@in_loop
async def test_client_that_leaves_the_queue_is_forgotten(capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    scene.stream.data_received(GET)
    scene.stream.connection_lost(None)
    assert scene.queued == 0
    assert scene.edge.connections == {}
    [line] = scene.log(capfd)
    assert (line["status"], line["worker"], line["error"]) == (499, -1, "the client left")


def test_nothing_is_written_after_the_client_has_left() -> None:
    async def scenario() -> Scene:
        scene = Scene()
        link = scene.add_worker()
        scene.stream.data_received(GET)
        scene.stream.connection_lost(None)
        link.data_received(answer(1, b"late"))
        return scene

    assert asyncio.run(scenario()).client.written == b""


def test_client_that_takes_no_answers_gets_no_more_of_them() -> None:
    """Pipelined requests behind an answer that is not taken would fill the memory with answers."""

    async def scenario() -> Scene:
        scene = Scene()
        link = scene.add_worker()
        scene.stream.data_received(GET * 100)
        scene.client.unsent = 200_000
        scene.stream.pause_writing()
        link.data_received(answer(1, b"first"))
        await asyncio.sleep(0)
        requests.append(scene.worker.written.count(b"GET\n"))
        assert scene.stream.phase is Phase.WRITE
        scene.client.unsent = 0
        scene.stream.resume_writing()
        await asyncio.sleep(0)
        requests.append(scene.worker.written.count(b"GET\n"))
        link.data_received(answer(2, b"second"))
        return scene

    requests: list[int] = []
    scene = asyncio.run(scenario())
    assert requests == [1, 2]
    assert b"first" in scene.client.written
    assert b"second" in scene.client.written


def test_connection_that_has_ended_leaves_nothing_to_the_collector() -> None:
    # With TLS each holds 20 KiB outside of Python's sight: a thousand that wait for the collector are 20 MiB.
    scene = Scene()
    scene.stream.data_received(b"GET / HTTP/1.1\r\nHost:")
    scene.stream.connection_lost(None)
    gc.collect()
    del scene.stream, scene.connection
    assert gc.collect() == 0
