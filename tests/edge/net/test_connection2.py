"""An HTTP/2 connection against the clock, on a transport in memory: what would take minutes with real time."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from hpack import Encoder

from edge.config import build_settings
from edge.dispatch.link import WorkerLink
from edge.http import frames
from edge.http.flood import NOISE
from edge.http.frames import Code
from edge.http.http2 import MAX_REPLIES
from edge.net import connection2
from edge.net.connection import ClientConnection
from edge.net.connection2 import Http2ClientConnection
from edge.net.service import RATE_GRACE
from edge.net.stream import LINGER_TIME, ClientStream, Phase
from edge.net.untaken import LEAST_PROGRESS
from edge.policy.chain import Policy
from edge.policy.forwarded import TrustedProxies
from edge.process import EdgeProcess
from edge.upstream.trust import UpstreamTrust
from edge_backend import wire
from tests.edge.net.test_connection import MemoryTransport, in_loop

GREETING = frames.PREFACE + frames.encode_settings({}) + frames.encode_frame(frames.SETTINGS, frames.ACK, 0)
END = frames.END_STREAM
Frames = list[tuple[int, int, int, bytes]]


class Scene:
    """An edge process with one HTTP/2 connection and one worker; only in a running loop."""

    def __init__(self, **options: object) -> None:
        self.edge = EdgeProcess(
            build_settings({"app": "m:a", "log_format": "json", **options}), [], None, UpstreamTrust()
        )
        self._policy = Policy(scheme=b"https", port=443, address=b"127.0.0.1", trust=TrustedProxies(), redirect=None)
        self.client = MemoryTransport()
        self.stream = ClientStream(None, self.edge.settings.timeouts, self._drive)
        self.stream.connection_made(self.client)
        self.worker = MemoryTransport()
        self.link = WorkerLink(self.edge.dispatchers["*/"], 0, lambda link: None)
        self.link.connection_made(self.worker)
        self.link.data_received(wire.encode_hello(1, 0) + wire.encode_frame(wire.READY, 0, 0))
        self._encoder = Encoder()
        self.stream.enter(Phase.HEAD)

    def _drive(self, stream: ClientStream) -> Http2ClientConnection:
        self.connection = ClientConnection(self.edge, self._policy, stream).to_http2()
        return self.connection

    async def receive(self, data: bytes) -> None:
        """Take what the client sends, and let the loop turn."""
        self.stream.data_received(data)
        await turn()

    def head(self, number: int, method: str = "GET", flags: int = END) -> bytes:
        """Return the head of a request."""
        fields = [(":method", method), (":scheme", "https"), (":path", "/a"), (":authority", "localhost")]
        block = self._encoder.encode(fields)
        return frames.encode_frame(frames.HEADERS, flags | frames.END_HEADERS, number, block)

    async def answer(self, stream: int, content: bytes = b"", flags: int = wire.END) -> None:
        """Have the worker answer its `stream`th request."""
        length = b"%d" % len(content) if flags & wire.END else b""
        self.link.data_received(wire.encode_frame(wire.RESPONSE, flags, stream, b"200\n" + length, content))
        await turn()

    def written(self, kind: int) -> Frames:
        """Return the frames of a type that were written."""
        return [frame for frame in split(self.client.written) if frame[0] == kind]

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """Last stream and code of each GOAWAY."""
        return [struct.unpack("!II", payload[:8]) for *_, payload in self.written(frames.GOAWAY)]

    def log(self, capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        """Return the access log."""
        assert self.edge.access_log is not None
        self.edge.access_log.flush()
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


async def turn() -> None:
    """Let the loop do what is due."""
    for _ in range(3):
        await asyncio.sleep(0)


def split(data: bytes) -> Frames:
    found: Frames = []
    while data:
        high, low, kind, flags, number = frames.HEADER.unpack_from(data)
        end = frames.HEADER_SIZE + (high << 8 | low)
        found.append((kind, flags, number, data[frames.HEADER_SIZE : end]))
        data = data[end:]
    return found


def later(seconds: float) -> Callable[[], float]:
    """Return a clock that is ahead."""
    return lambda: monotonic() + seconds


# The end.


@in_loop
async def test_drain_says_so_after_a_second_and_takes_what_comes_for_another() -> None:
    scene = Scene()
    await scene.receive(GREETING + scene.head(1))
    scene.connection.drain()
    await turn()
    assert scene.goaways == []
    scene.connection.sweep(monotonic() + 1.1)
    await turn()
    assert scene.goaways == [(frames.MAX_WINDOW, Code.NO_ERROR)]
    await scene.receive(scene.head(3))  # under way when GOAWAY was written
    scene.connection.sweep(monotonic() + 2.2)
    await turn()
    assert scene.goaways[1:] == [(3, Code.NO_ERROR)]
    await scene.answer(1, b"hello")
    assert scene.client.ended == ""
    await scene.answer(2, b"hello")
    assert [number for _, flags, number, _ in scene.written(frames.DATA) if flags & END] == [1, 3]
    assert scene.client.ended == "eof"


@in_loop
async def test_drain_of_an_idle_connection_says_so_at_once() -> None:
    scene = Scene()
    await scene.receive(GREETING)
    scene.connection.drain()
    await turn()
    assert scene.goaways == [(frames.MAX_WINDOW, Code.NO_ERROR)]
    scene.connection.sweep(monotonic() + 1.1)
    await turn()
    assert (scene.goaways[1:], scene.client.ended) == ([(0, Code.NO_ERROR)], "eof")


@pytest.mark.parametrize("size", [5, 40_000])
def test_drain_is_told_with_the_end_of_the_last_answer_under_way(size: int) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.receive(GREETING + scene.head(1) + scene.head(3))
        scene.connection.drain()
        await scene.answer(1, b"hello")
        assert scene.goaways == []
        before = len(scene.client.written)
        scene.link.data_received(wire.encode_frame(wire.RESPONSE, wire.END, 2, b"200\n%d" % size, bytes(size)))
        await turn()
        *_, last, goaway = split(scene.client.written[before:])
        assert (last[:3], goaway[0]) == ((frames.DATA, END, 3), frames.GOAWAY)
        await scene.receive(scene.head(5))  # under way when GOAWAY was written
        await scene.answer(3, b"hello")
        scene.connection.sweep(monotonic() + 1.1)
        await turn()
        assert scene.goaways == [(frames.MAX_WINDOW, Code.NO_ERROR), (5, Code.NO_ERROR)]

    asyncio.run(scenario())


@in_loop
async def test_request_behind_the_last_goaway_is_dropped_and_those_before_it_live_on() -> None:
    scene = Scene()
    await scene.receive(GREETING + scene.head(1))
    scene.connection.drain()
    scene.connection.sweep(monotonic() + 1.1)
    scene.connection.sweep(monotonic() + 2.2)
    # A client that has not seen GOAWAY yet sends a request with content.
    late = scene.head(3, "POST", 0) + frames.encode_frame(frames.DATA, 0, 3, b"content")
    await scene.receive(late)
    await scene.receive(frames.encode_frame(frames.DATA, END, 3, b"more"))
    await scene.answer(1, b"hello")
    assert [frame[2:] for frame in scene.written(frames.DATA)] == [(1, b"hello")]
    assert [code for _, code in scene.goaways] == [Code.NO_ERROR, Code.NO_ERROR]


@in_loop
async def test_idle_connection_ends_with_goaway() -> None:
    scene = Scene(keepalive_timeout=75)
    await scene.receive(GREETING + scene.head(1))
    await scene.answer(1, b"hello")
    assert scene.stream.phase is Phase.IDLE
    assert 74 < scene.stream.deadline - monotonic() <= 75
    scene.stream.expire(scene.stream.deadline + 1)
    assert scene.goaways == [(1, Code.NO_ERROR)]
    assert scene.client.ended == "closed"


@in_loop
async def test_connection_with_a_request_under_way_is_never_idle() -> None:
    scene = Scene()
    await scene.receive(GREETING + scene.head(1) + scene.head(3))
    await scene.answer(1, b"hello")
    assert scene.stream.phase is Phase.ANSWER
    assert not scene.connection.is_idle


@in_loop
async def test_process_that_ends_answers_503_and_breaks_off_what_has_begun(capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    await scene.receive(GREETING + scene.head(1) + scene.head(3))
    await scene.answer(1, b"part", 0)
    scene.connection.cut_off()
    assert [frame[2:] for frame in scene.written(frames.RST_STREAM)] == [(1, struct.pack("!I", Code.INTERNAL_ERROR))]
    assert [number for _, flags, number, _ in scene.written(frames.DATA) if flags & END] == [3]
    assert scene.client.ended != ""
    assert [(line["status"], line["error"]) for line in scene.log(capfd)] == [
        (200, "the server stopped"),
        (503, "the server stopped"),
    ]


# Clients that take too little, or send too much.


@in_loop
async def test_goaway_is_written_behind_what_the_client_does_not_take() -> None:
    scene = Scene()
    await scene.receive(GREETING + scene.head(1))
    scene.client.unsent = 200_000
    scene.stream.pause_writing()
    await scene.receive(frames.encode_frame(frames.PING, 0, 0, bytes(8)) * (MAX_REPLIES + 1))
    assert [code for _, code in scene.goaways] == [Code.ENHANCE_YOUR_CALM]
    assert scene.client.ended == "eof"
    written = scene.client.written
    scene.stream.resume_writing()
    scene.connection.sweep(monotonic() + 1000)
    scene.connection.drain()
    scene.connection.cut_off()
    await turn()
    assert scene.client.written == written, "something was written behind the end"


@in_loop
async def test_client_that_takes_nothing_is_not_read_from() -> None:
    scene = Scene()
    await scene.receive(GREETING + scene.head(1))
    scene.client.unsent = 200_000
    scene.stream.pause_writing()
    await scene.receive(frames.encode_frame(frames.PING, 0, 0, bytes(8)))
    assert not scene.client.is_reading_now
    scene.client.unsent = 0
    scene.stream.resume_writing()
    await turn()
    assert scene.client.is_reading_now
    assert scene.written(frames.PING) == [(frames.PING, frames.ACK, 0, bytes(8))]


@pytest.mark.parametrize("size", [1, 100, 16_384, 40_000])
def test_all_content_that_the_socket_does_not_take_counts_whatever_the_windows_allow(size: int) -> None:
    async def scenario() -> None:
        scene = Scene()
        settings = frames.encode_settings({frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW})
        await scene.receive(GREETING + settings + frames.encode_window_update(0, 1 << 30) + scene.head(1))
        await scene.answer(1, b"", 0)
        scene.stream.pause_writing()
        await scene.receive(b"")
        for _ in range(20):
            scene.link.data_received(wire.encode_frame(wire.DATA, 0, 1, b"", bytes(size)))
            await turn()
        assert (scene.edge.untaken.size, scene.written(frames.DATA)) == (20 * size, [])
        scene.stream.resume_writing()
        await turn()
        assert scene.edge.untaken.size == 0
        scene.link.data_received(wire.encode_frame(wire.DATA, wire.END, 1, b"", b"at once"))
        await turn()
        content = [payload for *_, payload in scene.written(frames.DATA)]
        assert b"".join(content) == bytes(20 * size) + b"at once"
        assert b"at once" in content

    asyncio.run(scenario())


@pytest.mark.parametrize(("window", "is_ended"), [(0, True), (1 << 20, False)])
def test_answer_whose_window_stays_closed_ends_in_time(window: int, is_ended: bool) -> None:
    async def scenario() -> Scene:
        scene = Scene(write_stall_timeout=60)
        settings = frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 0})
        await scene.receive(GREETING + settings + scene.head(1) + scene.head(3))
        await scene.answer(1, bytes(20_000))
        await scene.answer(2, b"part", 0)
        scene.connection.sweep(monotonic())
        if window:
            await scene.receive(frames.encode_window_update(1, window))
        scene.connection.sweep(monotonic() + 61)
        await turn()
        return scene

    scene = asyncio.run(scenario())
    resets = {number: struct.unpack("!I", payload)[0] for _, _, number, payload in scene.written(frames.RST_STREAM)}
    assert resets == ({1: Code.CANCEL, 3: Code.INTERNAL_ERROR} if is_ended else {})
    assert scene.goaways == []


@pytest.mark.parametrize(("taken", "is_ended"), [(LEAST_PROGRESS, False), (LEAST_PROGRESS - 1, True)])
def test_what_a_slow_socket_takes_is_progress_before_it_has_room_for_more(taken: int, is_ended: bool) -> None:
    async def scenario() -> Scene:
        scene = Scene(write_stall_timeout=60)
        await scene.receive(GREETING + scene.head(1))
        scene.client.unsent = 200_000
        scene.stream.pause_writing()
        scene.connection.sweep(monotonic())
        await scene.answer(1, bytes(20_000))
        scene.client.unsent -= taken
        scene.connection.sweep(monotonic() + 61)
        scene.client.unsent = 0
        scene.stream.resume_writing()
        await turn()
        return scene

    scene = asyncio.run(scenario())
    assert bool(scene.written(frames.RST_STREAM)) == is_ended


@in_loop
async def test_pings_of_a_day_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    await scene.receive(GREETING)
    for number in range(3 * NOISE):
        monkeypatch.setattr(connection2, "monotonic", later(20.0 * number))
        await scene.receive(frames.encode_frame(frames.PING, 0, 0, bytes(8)))
    assert scene.goaways == []
    assert len(scene.written(frames.PING)) == 3 * NOISE


@in_loop
async def test_head_has_its_time_from_its_first_byte(capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene(header_timeout=10)
    await scene.receive(GREETING)
    await scene.receive(frames.encode_frame(frames.HEADERS, END, 1, b"\x82"))
    assert scene.stream.phase is Phase.HEAD
    deadline = scene.stream.deadline
    await scene.receive(frames.encode_frame(frames.CONTINUATION, 0, 1, b"\x87"))
    assert scene.stream.deadline == deadline
    scene.stream.expire(deadline + 1)
    assert scene.goaways == [(0, Code.NO_ERROR)]


# Content.


@pytest.mark.parametrize(
    ("received", "after", "status"),
    [
        pytest.param(2000, RATE_GRACE + 10, b"408", id="too-slow"),
        pytest.param(20_000, RATE_GRACE + 10, b"", id="slow-but-legal"),
        pytest.param(1, RATE_GRACE - 1, b"", id="slow-start"),
        pytest.param(20_000, RATE_GRACE + 20, b"408", id="stopped"),
    ],
)
def test_content_has_to_come_in_time(received: int, after: float, status: bytes) -> None:
    async def scenario() -> Scene:
        scene = Scene(body_idle_timeout=RATE_GRACE + 15)
        await scene.receive(GREETING + scene.head(1, "POST", 0))
        for start in range(0, received, 10_000):
            size = min(10_000, received - start)
            await scene.receive(frames.encode_frame(frames.DATA, 0, 1, bytes(size)))
        for _ in range(3):  # refused, given time to read the answer, reset
            scene.connection.sweep(monotonic() + after)
        await turn()
        return scene

    scene = asyncio.run(scenario())
    bodies = [payload[:3] for *_, payload in scene.written(frames.DATA)]
    assert bodies == ([status] if status else [])
    assert [payload for *_, payload in scene.written(frames.RST_STREAM)] == [bytes(4)] * len(bodies)


@in_loop
async def test_too_much_content_behind_a_whole_answer_spoils_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene(max_body=1000)
    settings = frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 10})
    await scene.receive(GREETING + settings + scene.head(1, "POST", 0))
    await scene.answer(1, b"0123456789abcdef")  # early, and larger than the window
    await scene.receive(frames.encode_frame(frames.DATA, 0, 1, bytes(1001)))
    await scene.receive(frames.encode_window_update(1, 10))
    for _ in range(2):
        scene.connection.sweep(monotonic())
    await turn()
    assert len(scene.written(frames.HEADERS)) == 1
    assert b"".join(payload for *_, payload in scene.written(frames.DATA)) == b"0123456789abcdef"
    assert [payload for *_, payload in scene.written(frames.RST_STREAM)] == [struct.pack("!I", Code.NO_ERROR)]
    assert [line["status"] for line in scene.log(capfd)] == [200]


@in_loop
async def test_linger_ends_by_itself() -> None:
    scene = Scene()
    await scene.receive(b"GET / HTTP/1.1\r\n\r\n" + bytes(40))
    assert [code for _, code in scene.goaways] == [Code.PROTOCOL_ERROR]
    assert scene.stream.phase is Phase.LINGER
    assert scene.stream.deadline <= monotonic() + LINGER_TIME


# Requests that are given up.


@in_loop
async def test_requests_that_are_given_up_in_one_read_count_until_their_worker_is_done() -> None:
    scene = Scene(http2_max_streams=10)
    cancel = struct.pack("!I", Code.CANCEL)
    pairs = [
        scene.head(number) + frames.encode_frame(frames.RST_STREAM, 0, number, cancel) for number in range(1, 61, 2)
    ]
    await scene.receive(GREETING + b"".join(pairs))
    refused = [payload for *_, payload in scene.written(frames.RST_STREAM)]
    assert refused == [struct.pack("!I", Code.REFUSED_STREAM)] * 20
    # A client that is within what was announced cannot know how many run, and is told so without end.
    await scene.receive(scene.head(61))
    assert scene.goaways == []
    for stream in range(1, 11):
        scene.link.data_received(wire.encode_reset(stream, b"cancelled"))
    await scene.receive(scene.head(63))
    await scene.answer(11, b"hello")
    assert [number for _, _, number, _ in scene.written(frames.DATA)] == [63]
