"""The worker's end of the wire, in memory: frames in, application calls, frames out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from edge_backend import wire
from edge_backend.errors import ClientDisconnected
from edge_backend.worker import WireConnection, Worker
from tests.backend.test_asgi import PARTS
from tests.backend.test_settings import SETTINGS
from tests.ends import MemoryTransport, in_loop, turn

Message = dict[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Case:
    """A worker with an application of the test's own, and one edge's connection to it."""

    def __init__(self, app: Application, **settings: Any) -> None:
        self.worker = Worker(replace(SETTINGS, number=3, root_path="", ws_ping_interval=0.0, **settings))
        self.worker.app = app
        self.worker.loop = asyncio.get_running_loop()
        self.transport = MemoryTransport()
        self.connection = WireConnection(self.worker)
        self.connection.connection_made(self.transport)

    def request(self, flags: int = wire.END, stream: int = 1) -> None:
        head = wire.join_request(PARTS, len(PARTS))
        self.connection.data_received(wire.encode_frame(wire.REQUEST, flags, stream, head))

    def send(self, kind: int, flags: int = 0, stream: int = 1, head: bytes = b"", body: bytes = b"") -> None:
        self.connection.data_received(wire.encode_frame(kind, flags, stream, head, body))

    async def take(self) -> list[wire.Frame]:
        """Return the frames since the last time, without the greeting."""
        await turn()
        return [frame for frame in self.transport.take() if frame[0] not in (wire.HELLO, wire.READY)]


async def hello(scope: Message, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


@in_loop
async def test_greeting_comes_first() -> None:
    case = Case(hello)
    await turn()
    frames = case.transport.take()
    assert [frame[0] for frame in frames] == [wire.HELLO, wire.READY]
    assert wire.decode_hello(frames[0][3])[1] == 3


@pytest.mark.parametrize(("wants_whole", "flags"), [(True, wire.WHOLE), (False, 0)])
@in_loop
async def test_greeting_says_whether_requests_are_to_come_whole(wants_whole: bool, flags: int) -> None:
    case = Case(hello)
    case.worker.wants_whole = wants_whole
    again = WireConnection(case.worker)
    again.connection_made(case.transport)
    await turn()
    assert case.transport.take()[-1][:2] == (wire.READY, flags)


@in_loop
async def test_request_is_answered_on_its_stream() -> None:
    case = Case(hello)
    case.request(stream=9)
    assert await case.take() == [(wire.RESPONSE, wire.END, 9, b"200\n5", b"hello")]
    assert case.connection.tasks == []


@in_loop
async def test_content_credit_and_reset_reach_the_exchange() -> None:
    seen: list[Any] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        seen.append((await receive())["type"])

    case = Case(app)
    case.request(0)
    case.send(wire.DATA, 0, body=b"content")
    case.send(wire.WINDOW, body=b"\0\0\0\1")
    await turn()
    case.send(wire.RESET, head=b"cancelled")
    await turn()
    assert seen == [b"content", "http.disconnect"]
    assert await case.take() == [(wire.RESET, 0, 1, b"cancelled", b"")]


@in_loop
async def test_ping_is_answered_with_its_body() -> None:
    case = Case(hello)
    case.send(wire.PING, stream=0, body=b"12345678")
    assert await case.take() == [(wire.PONG, 0, 0, b"", b"12345678")]


@pytest.mark.parametrize(
    "data",
    [
        wire.HEADER.pack(2**32 - 1, 0, 1, wire.DATA, 0),
        wire.encode_frame(wire.REQUEST, wire.END, 1, b"GET\n/\n9"),
        wire.encode_frame(wire.REQUEST, wire.END, 1, b"GET\n/\n2"),
        wire.encode_frame(wire.REQUEST, wire.END, 1, wire.join_request([*PARTS[:5], b"port", *PARTS[6:]], len(PARTS))),
        wire.encode_frame(wire.REQUEST, wire.END, 1, wire.join_request([*PARTS, b"x", b"a\nb"], len(PARTS) + 2)),
    ],
    ids=["too large", "another count", "too few parts", "port", "line feed"],
)
@in_loop
async def test_malformed_frames_end_the_connection(caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    case = Case(hello)
    case.connection.data_received(data)
    assert case.transport.is_aborted
    assert "connection to the edge closed" in caplog.text
    assert await case.take() == []


@in_loop
async def test_malformed_credit_ends_the_connection() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    case = Case(app)
    case.request()
    case.send(wire.WINDOW, body=b"\0")
    assert case.transport.is_aborted


@in_loop
async def test_frames_of_ended_streams_and_unknown_types_are_ignored() -> None:
    case = Case(hello)
    for kind in (wire.DATA, wire.WINDOW, wire.RESET, 200):
        case.send(kind, stream=77)
    case.request()
    case.send(200)
    assert [frame[0] for frame in await case.take()] == [wire.RESPONSE]
    assert not case.transport.is_aborted


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("x"), b"app-error"), (SystemExit(3), b"app-error"), (asyncio.CancelledError(), b"app-error"),
     (ClientDisconnected("not ours"), b"app-error"), (None, b"no-response")],
)  # fmt: skip
@in_loop
async def test_application_that_does_not_answer_is_a_reset(error: BaseException | None, reason: bytes) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        if error is not None:
            raise error

    case = Case(app)
    case.request()
    assert await case.take() == [(wire.RESET, 0, 1, reason, b"")]


@pytest.mark.parametrize("wrapped", [False, True])
@in_loop
async def test_disconnect_is_logged_as_no_error_of_the_application(
    caplog: pytest.LogCaptureFixture, wrapped: bool
) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        try:
            await hello(scope, receive, send)
        except OSError as error:
            if wrapped:
                raise RuntimeError("what a framework makes of it") from error
            raise

    case = Case(app)
    case.request()
    await turn()
    with caplog.at_level(logging.DEBUG):
        case.send(wire.RESET, head=b"cancelled")
        assert await case.take() == [(wire.RESET, 0, 1, b"cancelled", b"")]
    assert "exception" not in caplog.text


@in_loop
async def test_error_of_its_own_after_a_disconnect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        raise KeyError("its own")

    case = Case(app)
    case.request()
    await turn()
    case.send(wire.RESET, head=b"cancelled")
    await turn()
    assert "application: exception in GET '/a'" in caplog.text
    assert "KeyError: 'its own'" in caplog.text


@in_loop
async def test_head_without_content_goes_out_by_the_clock() -> None:
    gate = asyncio.Event()

    async def app(scope: Message, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"late"})

    case = Case(app)
    case.request()
    assert await case.take() == []
    frames: list[wire.Frame] = []
    while not frames:
        await asyncio.sleep(0.005)
        frames = await case.take()
    assert frames == [(wire.RESPONSE, 0, 1, b"200\n", b"")]
    gate.set()
    assert await case.take() == [(wire.DATA, wire.END, 1, b"", b"late")]


@in_loop
async def test_end_of_the_connection_is_the_end_of_its_clients() -> None:
    seen: list[str] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        seen.append((await receive())["type"])

    case = Case(app)
    for stream in (1, 2):
        case.request(stream=stream)
    await turn()
    assert len(case.connection.tasks) == 2
    assert case.worker.connections == {case.connection}
    case.connection.connection_lost(None)
    await turn()
    assert seen == ["http.disconnect"] * 2
    assert not case.worker.connections


@in_loop
async def test_drain_closes_websockets_and_leaves_requests_alone() -> None:
    gate = asyncio.Event()

    async def app(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            assert (await receive())["code"] == 1012
            return
        await gate.wait()
        await hello(scope, receive, send)

    case = Case(app)
    case.request(stream=1)
    case.request(wire.UPGRADE, stream=2)
    assert [(frame[0], frame[2]) for frame in await case.take()] == [(wire.RESPONSE, 2)]
    case.send(wire.DRAIN, stream=0)
    assert await case.take() == [(wire.DATA, 0, 2, b"", b"\x88\x02\x03\xf4")]
    # The stream stays until the client's Close has come, though the application has returned.
    assert len(case.connection.tasks) == 2
    case.send(wire.DATA, stream=2, body=b"\x88\x82\0\0\0\0\x03\xf4")
    assert await case.take() == [(wire.DATA, wire.END, 2, b"", b"")]
    gate.set()
    assert [frame[2] for frame in await case.take()] == [1]
    assert case.connection.tasks == []


@in_loop
async def test_close_sends_what_was_written_first() -> None:
    case = Case(hello)
    case.connection.close()
    assert [frame[0] for frame in case.transport.take()] == [wire.HELLO, wire.READY]
    assert case.transport.is_closed


# Leaving


@in_loop
async def test_worker_that_is_told_to_stop_serves_until_its_edges_have_hung_up() -> None:
    case = Case(hello)
    finishing = asyncio.create_task(case.worker.drain())
    await turn()
    case.request(stream=1)
    assert [frame[0] for frame in await case.take()] == [wire.RESPONSE]
    await turn()
    assert not finishing.done()
    case.connection.connection_lost(None)
    await asyncio.wait_for(finishing, 5)


@in_loop
async def test_worker_cuts_off_what_runs_when_the_drain_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    case = Case(app, drain_timeout=0.02)
    case.request()
    await case.worker.drain()
    assert "worker 3: 1 application calls cut off at the end" in caplog.text
    assert [frame[:4] for frame in case.transport.take()[2:]] == [(wire.RESET, 0, 1, b"app-error")]
    assert case.transport.is_closed


@in_loop
async def test_application_call_is_cancelled_when_its_client_has_been_gone_for_the_grace_time() -> None:
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def app(scope: Message, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.put_nowait(None)

    case = Case(app, disconnect_grace=0.02)
    for stream in (1, 2, 3):
        case.request(stream=stream)
    await turn()
    case.send(wire.RESET, stream=1, head=b"cancelled")
    await turn()
    assert ended.empty()
    case.send(wire.RESET, stream=2, head=b"cancelled")
    for _ in range(2):
        await asyncio.wait_for(ended.get(), 5)
    assert len(case.connection.tasks) == 1
    assert [(frame[0], frame[2]) for frame in await case.take()] == [(wire.RESET, 1), (wire.RESET, 2)]
    case.connection.connection_lost(None)
    await asyncio.wait_for(ended.get(), 5)
