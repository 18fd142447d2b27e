"""One HTTP request as ASGI sees it, over a link in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edge_backend import wire
from edge_backend.asgi import HttpExchange, classify_field, join_fields
from edge_backend.errors import ApplicationError, ClientDisconnected
from edge_backend.scope import build_scope
from tests.ends import in_loop, turn

PARTS = [b"GET", b"/a?b=c", b"1.1", b"https", b"192.0.2.1", b"51234", b"shop.example", b"443", b"host", b"shop.example"]
STREAM = 7


class MemoryLink:
    """Keeps the frames that an exchange writes."""

    def __init__(self) -> None:
        self.sendfile_root = ""
        self._reader = wire.FrameReader()
        self._frames: list[wire.Frame] = []

    def write(self, frames: bytes) -> None:
        self._frames += self._reader.receive(frames)

    def take(self) -> list[wire.Frame]:
        """Return the frames since the last time."""
        frames, self._frames = self._frames, []
        return frames


class Case:
    """An exchange and its link."""

    def __init__(self, flags: int = wire.END, *, method: bytes = b"GET", body: bytes = b"") -> None:
        self.link = MemoryLink()
        self.exchange = HttpExchange(self.link, STREAM, flags, build_scope([method, *PARTS[1:]], "", {}), body)

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200, **more: Any) -> None:
        await self.exchange.send({"type": "http.response.start", "status": status, "headers": headers, **more})

    async def body(self, data: bytes = b"", *, more: bool = False) -> None:
        await self.exchange.send({"type": "http.response.body", "body": data, "more_body": more})


def response(head: bytes, body: bytes = b"", flags: int = wire.END) -> wire.Frame:
    return (wire.RESPONSE, flags, STREAM, head, body)


def data(body: bytes, flags: int = 0) -> wire.Frame:
    return (wire.DATA, flags, STREAM, b"", body)


# Fields


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\n", b"\xff", b"a\0"])
def test_field_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(ApplicationError, match="is not a token"):
        classify_field(name)


@pytest.mark.parametrize("value", [b"\r", b"\n", b"\0", b"a\r\nb: c", b"a\nb\nc"])
def test_value_that_ends_a_line_is_refused_by_the_fields_name(value: bytes) -> None:
    with pytest.raises(ApplicationError, match=r"^response field b'x-bad': its value holds CR, LF or NUL$"):
        join_fields([b"x-good", b"1", b"x-bad", value])


def test_fields_above_the_limit_are_refused() -> None:
    with pytest.raises(ApplicationError, match="response fields of 262150 bytes, at most 262144 allowed"):
        join_fields([b"x-big", b"x" * (wire.MAX_FIELDS)])


def test_no_fields_are_nothing() -> None:
    assert join_fields([]) == b""
    assert join_fields([b"a", b"1", b"b", b""]) == b"\na\n1\nb\n"


# receive()


@in_loop
async def test_request_without_content_is_one_empty_message_and_then_blocks() -> None:
    case = Case()
    assert await case.exchange.receive() == {"type": "http.request", "body": b"", "more_body": False}
    waiting = asyncio.ensure_future(case.exchange.receive())
    await turn()
    assert not waiting.done()
    case.exchange.disconnect()
    assert await waiting == {"type": "http.disconnect"}
    assert await case.exchange.receive() == {"type": "http.disconnect"}


@in_loop
async def test_content_comes_as_it_arrives_and_credit_goes_back_by_the_step() -> None:
    case = Case(0, body=b"one")
    assert await case.exchange.receive() == {"type": "http.request", "body": b"one", "more_body": True}
    waiting = asyncio.ensure_future(case.exchange.receive())
    await turn()
    case.exchange.feed_data(b"x" * wire.WINDOW_STEP, False)
    assert (await waiting)["body"] == b"x" * wire.WINDOW_STEP
    [(kind, _, stream, _, credit)] = case.link.take()
    assert (kind, stream, wire.decode_window(credit)) == (wire.WINDOW, STREAM, wire.WINDOW_STEP + 3)
    case.exchange.feed_data(b"", True)
    assert await case.exchange.receive() == {"type": "http.request", "body": b"", "more_body": False}


@in_loop
async def test_expectation_is_met_by_the_first_receive_once() -> None:
    case = Case(wire.EXPECT)
    first, second = (asyncio.ensure_future(case.exchange.receive()) for _ in range(2))
    await turn()
    [(kind, _, _, _, credit)] = case.link.take()
    assert (kind, wire.decode_window(credit)) == (wire.WINDOW, wire.INITIAL_WINDOW)
    case.exchange.feed_data(b"hello", True)
    assert await first == {"type": "http.request", "body": b"hello", "more_body": False}
    case.exchange.disconnect()
    assert await second == {"type": "http.disconnect"}


@pytest.mark.parametrize("flags", [wire.END, 0, wire.EXPECT])
@in_loop
async def test_receive_after_the_answer_is_a_disconnect_at_once(flags: int) -> None:
    case = Case(flags)
    await case.start()
    waiting = asyncio.ensure_future(case.exchange.receive()) if not flags & wire.END else None
    await turn()
    await case.body(b"hello")
    if waiting is not None:
        assert await waiting == {"type": "http.disconnect"}
    assert await case.exchange.receive() == {"type": "http.disconnect"}
    case.exchange.feed_data(b"late", True)
    assert await case.exchange.receive() == {"type": "http.disconnect"}


@in_loop
async def test_cancelled_receive_leaves_the_others_waiting() -> None:
    case = Case(0)
    first, second = (asyncio.ensure_future(case.exchange.receive()) for _ in range(2))
    await turn()
    first.cancel()
    await turn()
    case.exchange.feed_data(b"hello", True)
    assert (await second)["body"] == b"hello"


# send()


@in_loop
async def test_start_and_one_body_are_one_frame_with_the_length() -> None:
    case = Case()
    await case.start((b"X-A", b"1"))
    assert case.link.take() == []
    await case.body(b"hello")
    assert case.link.take() == [response(b"200\n5\nx-a\n1", b"hello")]
    assert case.exchange.finish() is None


@in_loop
async def test_body_without_keys_is_empty_and_the_last() -> None:
    case = Case()
    await case.exchange.send({"type": "http.response.start", "status": 200})
    await case.exchange.send({"type": "http.response.body"})
    assert case.link.take() == [response(b"200\n0")]


@in_loop
async def test_bodies_in_pieces_have_no_length() -> None:
    case = Case()
    await case.start()
    await case.body(b"one", more=True)
    await case.body(b"", more=True)
    await case.body(b"two")
    assert case.link.take() == [response(b"200\n", b"one", 0), data(b"two", wire.END)]


@in_loop
async def test_head_that_waits_goes_out_after_one_to_two_ticks() -> None:
    case = Case()
    case.exchange.tick()
    await case.start()
    case.exchange.tick()
    assert case.link.take() == []
    case.exchange.tick()
    assert case.link.take() == [response(b"200\n", b"", 0)]
    case.exchange.tick()
    await case.body(b"late")
    assert case.link.take() == [data(b"late", wire.END)]


@in_loop
async def test_head_of_an_event_stream_does_not_wait() -> None:
    case = Case()
    await case.start((b"content-type", b"text/event-stream; charset=utf-8"))
    assert [frame[0] for frame in case.link.take()] == [wire.RESPONSE]


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("more", [False, True])
@in_loop
async def test_content_that_a_status_forbids_is_dropped(status: int, more: bool) -> None:
    case = Case()
    await case.start((b"content-length", b"5"), status=status)
    await case.body(b"hello", more=more)
    if more:
        await case.body()
    frames = case.link.take()
    assert frames[0][3] == (b"304\n5" if status == 304 else b"204\n")
    assert b"".join(frame[4] for frame in frames) == b""
    assert frames[-1][1] == wire.END


@in_loop
async def test_content_of_head_is_dropped_and_its_length_kept() -> None:
    case = Case(method=b"HEAD")
    await case.start((b"content-length", b"5"))
    await case.body(b"hello")
    assert case.link.take() == [response(b"200\n5")]


@in_loop
async def test_fields_of_the_connection_are_dropped_and_own_ones_flagged() -> None:
    case = Case()
    await case.start((b"Connection", b"x"), (b"Date", b"d"), (b"SERVER", b"s"), (b"transfer-encoding", b"chunked"))
    await case.body()
    flags = wire.END | wire.HAS_DATE | wire.HAS_SERVER
    assert case.link.take() == [response(b"200\n0\ndate\nd\nserver\ns", b"", flags)]


@pytest.mark.parametrize(("length", "bodies"), [(b"3", [b"hello"]), (b"8", [b"hello"]), (b"3", [b"he", b"llo"])])
@in_loop
async def test_content_that_is_not_the_announced_length_ends_the_stream(length: bytes, bodies: list[bytes]) -> None:
    case = Case()
    await case.start((b"content-length", length))
    for body in bodies[:-1]:
        await case.body(body, more=True)
    with pytest.raises(ApplicationError, match="content-length"):
        await case.body(bodies[-1])
    (kind, _, _, reason, _) = case.link.take()[-1]
    assert (kind, reason) == (wire.RESET, b"too-short" if length == b"8" else b"too-long")
    assert case.exchange.finish() is None


@pytest.mark.parametrize("status", [99, 100, 101, 600])
@in_loop
async def test_status_that_is_not_final_is_refused(status: int) -> None:
    with pytest.raises(ApplicationError, match="a final status is 200 to 599"):
        await Case().start(status=status)


@in_loop
async def test_refused_start_leaves_room_for_another() -> None:
    case = Case()
    with pytest.raises(ApplicationError):
        await case.start((b"content-length", b"5"), (b"x", b"\n"))
    await case.start()
    await case.body(b"hi")
    assert case.link.take() == [response(b"200\n2", b"hi")]


@pytest.mark.parametrize("values", [(b"5", b"6"), (b"",), (b"-1",), (b"5 ",)])
@in_loop
async def test_length_that_is_not_one_number_is_refused(values: tuple[bytes, ...]) -> None:
    with pytest.raises(ApplicationError, match="is not one number"):
        await Case().start(*[(b"content-length", value) for value in values])


@in_loop
async def test_messages_in_the_wrong_order_are_refused() -> None:
    case = Case()
    with pytest.raises(ApplicationError, match=r"before http\.response\.start"):
        await case.body()
    with pytest.raises(ApplicationError, match="is not allowed in an HTTP response"):
        await case.exchange.send({"type": "http.request"})
    await case.start()
    with pytest.raises(ApplicationError, match="twice"):
        await case.start()
    with pytest.raises(ApplicationError, match="without trailers=True"):
        await case.exchange.send({"type": "http.response.trailers"})
    await case.body()
    with pytest.raises(ApplicationError, match="after the response was complete"):
        await case.body()


@in_loop
async def test_trailers_end_the_answer() -> None:
    case = Case()
    await case.start(trailers=True)
    await case.body(b"hello")
    with pytest.raises(ApplicationError, match="more_trailers is not supported"):
        await case.exchange.send({"type": "http.response.trailers", "more_trailers": True})
    await case.exchange.send({"type": "http.response.trailers", "headers": [(b"X-Sum", b"1")]})
    assert case.link.take() == [
        response(b"200\n", b"hello", 0),
        (wire.TRAILERS, wire.END, STREAM, b"x-sum\n1", b""),
    ]
    assert await case.exchange.receive() == {"type": "http.disconnect"}


@in_loop
async def test_send_after_disconnect_raises_an_oserror() -> None:
    case = Case()
    await case.start(trailers=True)
    case.exchange.disconnect()
    assert case.exchange.is_gone
    for message in ("http.response.body", "http.response.trailers"):
        with pytest.raises(ClientDisconnected):
            await case.exchange.send({"type": message})
    other = Case()
    other.exchange.disconnect()
    with pytest.raises(ClientDisconnected):
        await other.start()
    assert case.link.take() == []
    assert case.exchange.finish() is None


# Credit


@in_loop
async def test_send_waits_without_credit_and_goes_on_with_it() -> None:
    case = Case()
    await case.start()
    sending = asyncio.ensure_future(case.body(b"x" * (wire.INITIAL_WINDOW + 10)))
    await turn()
    frames = case.link.take()
    assert sum(len(frame[4]) for frame in frames) == wire.INITIAL_WINDOW
    assert max(len(frame[4]) for frame in frames) <= wire.MAX_DATA
    assert frames[0][3] == b"200\n%d" % (wire.INITIAL_WINDOW + 10)
    assert not sending.done()
    case.exchange.feed_credit(4)
    await turn()
    assert case.link.take() == [data(b"xxxx")]
    case.exchange.feed_credit(100)
    await sending
    assert case.link.take() == [data(b"xxxxxx", wire.END)]


@in_loop
async def test_send_that_used_up_the_credit_waits_until_there_is_more() -> None:
    case = Case()
    await case.start()
    for _ in range(3):
        await case.body(b"x" * wire.MAX_DATA, more=True)
    sending = asyncio.ensure_future(case.body(b"x" * wire.MAX_DATA, more=True))
    await turn()
    assert not sending.done()
    case.exchange.feed_credit(1)
    await sending


@in_loop
async def test_send_that_waits_raises_when_the_client_leaves() -> None:
    case = Case()
    await case.start()
    sending = asyncio.ensure_future(case.body(b"x" * (wire.INITIAL_WINDOW + 1)))
    await turn()
    case.exchange.disconnect()
    with pytest.raises(ClientDisconnected):
        await sending


# The end


@in_loop
async def test_end_without_an_answer_has_a_reason() -> None:
    case = Case()
    assert case.exchange.finish() == b"no-response"
    await case.start()
    await case.body(b"x", more=True)
    assert case.exchange.finish() == b"incomplete"
    case.exchange.fail(b"incomplete")
    case.exchange.fail(b"app-error")
    assert case.link.take()[1:] == [(wire.RESET, 0, STREAM, b"incomplete", b"")]
    assert await case.exchange.receive() == {"type": "http.disconnect"}


@in_loop
async def test_failure_after_the_client_left_says_nothing() -> None:
    case = Case()
    case.exchange.disconnect()
    case.exchange.fail(b"app-error")
    assert case.link.take() == []
