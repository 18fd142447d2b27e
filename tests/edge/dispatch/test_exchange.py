"""One request between a client and a worker: content and credit, answers, and what a lost worker means."""

from __future__ import annotations

from typing import Any

import pytest

from edge.dispatch.exchange import MAX_KEPT, Exchange
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, WorkerEnd, dispatcher, exchange, worker
from tests.ends import in_loop

INVALID = "the worker's answer has no valid status, length or field, or is not due"


class Case:
    """An exchange with a worker of its own, and a client."""

    def __init__(self, method: bytes = b"GET", **of_head: Any) -> None:
        self.of = dispatcher()
        self.client = MemoryClient()
        self.exchange: Exchange = exchange(self.client, method, **of_head)
        self.end: WorkerEnd = worker(self.of)
        self.of.submit(self.exchange, HEAD)

    def send(self, kind: int, flags: int = 0, head: bytes = b"", body: bytes = b"") -> None:
        self.end.send(wire.encode_frame(kind, flags, 1, head, body))

    def answer(self) -> None:
        """Begin an answer of unknown length."""
        self.send(wire.RESPONSE, 0, b"200\n")
        self.client.take()


# The request


@pytest.mark.parametrize(
    ("of_head", "flags"),
    [
        ({}, wire.END),
        ({"complete": False}, 0),
        ({"complete": False, "expect": True}, wire.EXPECT),
        ({"upgrade": b"key"}, wire.UPGRADE),
    ],
)
@in_loop
async def test_flags_say_what_follows(of_head: dict[str, Any], flags: int) -> None:
    case = Case(**of_head)
    assert await case.end.take() == [(wire.REQUEST, flags, 1, HEAD, b"")]


@in_loop
async def test_content_that_came_with_the_head_goes_in_the_same_frame() -> None:
    case = Case(b"POST", body=b"hello")
    assert await case.end.take() == [(wire.REQUEST, wire.END, 1, HEAD, b"hello")]
    assert case.exchange.content_read == 5


@in_loop
async def test_content_goes_on_within_the_credit() -> None:
    case = Case(b"POST", complete=False, body=b"x" * 1000)
    await case.end.take()
    case.client.take()
    assert case.exchange.feed(b"y" * (wire.INITIAL_WINDOW - 1000), False)
    assert not case.exchange.feed(b"z" * 10, False)
    frames = await case.end.take()
    assert sum(len(frame[4]) for frame in frames) == wire.INITIAL_WINDOW - 1000
    assert max(len(frame[4]) for frame in frames) == wire.MAX_DATA
    case.end.send(wire.encode_window(1, 4))
    assert await case.end.take() == [(wire.DATA, 0, 1, b"", b"zzzz")]
    assert case.client.take() == []
    case.end.send(wire.encode_window(1, 100))
    assert await case.end.take() == [(wire.DATA, 0, 1, b"", b"zzzzzz")]
    assert case.client.take() == [("want",)]


@pytest.mark.parametrize("body", [b"", b"end"])
@in_loop
async def test_last_content_carries_end(body: bytes) -> None:
    case = Case(b"POST", complete=False)
    await case.end.take()
    assert case.exchange.feed(body, True)
    assert await case.end.take() == [(wire.DATA, wire.END, 1, b"", body)]


@in_loop
async def test_client_is_told_to_continue_when_the_worker_wants_content() -> None:
    case = Case(b"POST", complete=False, expect=True)
    case.client.take()
    case.end.send(wire.encode_window(1, 1000))
    assert case.client.take() == [("continue",), ("want",)]
    case.end.send(wire.encode_window(1, 1000))
    assert case.client.take() == [("want",)]


@in_loop
async def test_content_that_did_not_wait_is_held_until_the_worker_wants_it() -> None:
    case = Case(b"POST", complete=False, expect=True)
    await case.end.take()
    assert not case.exchange.feed(b"early", True)
    assert await case.end.take() == []
    case.end.send(wire.encode_window(1, 1000))
    assert await case.end.take() == [(wire.DATA, wire.END, 1, b"", b"early")]


@in_loop
async def test_content_of_a_request_that_waits_is_held_and_then_read_on() -> None:
    of, client = dispatcher(), MemoryClient()
    item = exchange(client, b"POST", complete=False)
    of.submit(item, HEAD)
    assert not item.feed(b"early", False)
    assert client.take() == []
    end = worker(of)
    assert await end.take() == [(wire.REQUEST, 0, 1, HEAD, b""), (wire.DATA, 0, 1, b"", b"early")]
    assert client.take() == [("want",)]


@in_loop
async def test_content_after_the_answer_is_dropped() -> None:
    case = Case(b"POST", complete=False)
    case.send(wire.RESPONSE, wire.END, b"200\n0")
    await case.end.take()
    assert case.exchange.feed(b"late", False)
    assert await case.end.take() == []


# The answer


@in_loop
async def test_answer_in_pieces_reaches_the_client() -> None:
    case = Case()
    case.send(wire.RESPONSE, 0, b"200\n\na\n1\nb\n2", b"one")
    case.send(wire.DATA, 0, b"", b"two")
    case.send(wire.DATA, wire.END, b"", b"three")
    assert case.client.take() == [
        ("response", 200, b"", [b"a", b"1", b"b", b"2"], 0, b"one"),
        ("data", b"two"),
        ("data", b"three"),
        ("end", []),
        ("finished",),
    ]
    assert not case.end.link.streams


@in_loop
async def test_fields_that_are_the_edges_own_are_dropped() -> None:
    case = Case()
    fields = [b"connection", b"x", b"x-accel-redirect", b"/etc", b"a", b"1", b"transfer-encoding", b"chunked"]
    case.send(wire.RESPONSE, wire.END, b"\n".join([b"200", b"0", *fields]))
    assert case.client.take()[0][3] == [b"a", b"1"]


@pytest.mark.parametrize(
    "head",
    [b"", b"200", b"200\n\nname", b"200\n\na\n\r", b"200\n\na\n\0", b"99\n", b"600\n", b"0200\n", b"abc\n", b"200\n-1",
     b"200\nx", b"101\n", b"+200\n"],
)  # fmt: skip
@in_loop
async def test_malformed_answer_is_a_502(head: bytes) -> None:
    case = Case()
    case.send(wire.RESPONSE, 0, head)
    assert case.client.take() == [("refuse", 502, INVALID, ())]
    assert [frame[0] for frame in await case.end.take()] == [wire.REQUEST, wire.RESET]


@in_loop
async def test_second_answer_breaks_the_first_off() -> None:
    case = Case()
    case.answer()
    case.send(wire.RESPONSE, 0, b"200\n")
    assert case.client.take() == [("abort", INVALID)]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(wire.DATA, "the worker sent content before a head"), (wire.TRAILERS, "the worker sent trailers before a head")],
)
@in_loop
async def test_content_and_trailers_before_a_head_are_a_502(kind: int, reason: str) -> None:
    case = Case()
    case.send(kind, wire.END)
    assert case.client.take() == [("refuse", 502, reason, ())]


@pytest.mark.parametrize("kind", [wire.RESPONSE, wire.DATA, wire.TRAILERS])
@in_loop
async def test_answer_that_the_core_refuses_is_broken_off(kind: int) -> None:
    case = Case()
    if kind != wire.RESPONSE:
        case.answer()
    case.client.refuses_answers = True
    case.send(kind, wire.END, b"200\n5" if kind == wire.RESPONSE else b"", b"x" * 10)
    assert case.client.take() == [("abort", "the application's content is longer than its content-length")]


@in_loop
async def test_upgrade_is_answered_where_it_was_asked_for() -> None:
    case = Case(upgrade=b"key")
    case.send(wire.RESPONSE, 0, b"101\n\nsec-websocket-protocol\nchat")
    assert case.client.take() == [("upgrade", [b"sec-websocket-protocol", b"chat"])]
    assert case.exchange.status == 101


@pytest.mark.parametrize(("trailers", "sent"), [(True, [b"x-sum", b"1"]), (False, [])])
@in_loop
async def test_trailers_go_to_clients_that_take_them(trailers: bool, sent: list[bytes]) -> None:
    case = Case(trailers=trailers)
    case.answer()
    case.send(wire.TRAILERS, wire.END, b"x-sum\n1")
    assert case.client.take() == [("end", sent), ("finished",)]


@pytest.mark.parametrize("head", [b"x", b"x\n\r", b"x\n\0"])
@in_loop
async def test_malformed_trailers_break_the_answer_off(head: bytes) -> None:
    case = Case(trailers=True)
    case.answer()
    case.send(wire.TRAILERS, wire.END, head)
    assert case.client.take() == [("abort", "the worker's trailers are malformed")]


# Credit for the worker


@in_loop
async def test_credit_goes_back_in_pieces_of_a_step() -> None:
    case = Case()
    case.answer()
    await case.end.take()
    case.send(wire.DATA, 0, b"", b"x" * (wire.WINDOW_STEP - 1))
    assert await case.end.take() == []
    case.send(wire.DATA, 0, b"", b"xx")
    [(kind, _, stream, _, body)] = await case.end.take()
    assert (kind, stream, wire.decode_window(body)) == (wire.WINDOW, 1, wire.WINDOW_STEP + 1)


@in_loop
async def test_credit_is_held_back_while_the_client_is_congested() -> None:
    case = Case()
    case.answer()
    await case.end.take()
    case.client.congested = True
    case.send(wire.DATA, 0, b"", b"x" * wire.WINDOW_STEP)
    assert await case.end.take() == []
    case.exchange.settle()
    case.exchange.settle()
    [(_, _, _, _, body)] = await case.end.take()
    assert wire.decode_window(body) == wire.WINDOW_STEP


# The end before its time


@pytest.mark.parametrize(
    ("reason", "status", "message"),
    [
        (b"app-error", 500, "the application raised an exception"),
        (b"no-response", 500, "the application returned without an answer"),
        (b"incomplete", 500, "the application returned before its answer was whole"),
        (b"too-long", 500, "the application's content is longer than its content-length"),
        (b"too-short", 500, "the application's content is shorter than its content-length"),
        (b"denied", 403, "the application refused the WebSocket"),
        (b"never heard of", 500, "the worker gave the request up"),
    ],
)
@in_loop
async def test_reset_before_the_answer_has_its_status(reason: bytes, status: int, message: str) -> None:
    case = Case()
    case.send(wire.RESET, 0, reason)
    assert case.client.take() == [("refuse", status, message, ())]
    assert [frame[0] for frame in await case.end.take()] == [wire.REQUEST]


@in_loop
async def test_reset_in_the_answer_breaks_it_off() -> None:
    case = Case()
    case.answer()
    case.send(wire.RESET, 0, b"app-error")
    assert case.client.take() == [("abort", "the application raised an exception")]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
@in_loop
async def test_idempotent_request_goes_to_another_worker_once(method: bytes) -> None:
    case = Case(method, body=b"content")
    second, third = worker(case.of, 1), worker(case.of, 2)
    case.end.die()
    ends = {1: second, 2: third}
    [frame] = await ends[case.exchange.worker].take()
    assert frame == (wire.REQUEST, wire.END, 1, HEAD, b"content")
    assert case.client.take() == []
    ends[case.exchange.worker].die()
    assert case.client.take() == [("refuse", 502, f"worker {case.exchange.worker} died", ())]


@pytest.mark.parametrize(("method", "complete"), [(b"POST", True), (b"PATCH", True), (b"POST", False)])
@in_loop
async def test_request_that_may_not_be_done_twice_is_a_502(method: bytes, complete: bool) -> None:
    case = Case(method, complete=complete)
    second = worker(case.of, 1)
    case.client.take()
    case.end.die()
    assert case.client.take() == [("refuse", 502, "worker 0 died", ())]
    assert await second.take() == []


@pytest.mark.parametrize("ended", [True, False])
@in_loop
async def test_content_that_went_to_a_dead_worker_goes_to_the_next_one(ended: bool) -> None:
    case = Case(b"PUT", complete=False, body=b"a")
    case.exchange.feed(b"b", False)
    case.exchange.feed(b"c", ended)
    second = worker(case.of, 1)
    case.end.die()
    frames = await second.take()
    assert [(frame[0], frame[1], frame[4]) for frame in frames] == [
        (wire.REQUEST, 0, b"a"),
        (wire.DATA, wire.END if ended else 0, b"bc"),
    ]
    if not ended:
        assert case.exchange.feed(b"d", True)
        assert [(frame[1], frame[4]) for frame in await second.take()] == [(wire.END, b"d")]


@in_loop
async def test_end_that_came_after_the_content_comes_after_it_again() -> None:
    case = Case(b"PUT", complete=False)
    case.exchange.feed(b"all", False)
    case.exchange.feed(b"", True)
    second = worker(case.of, 1)
    case.end.die()
    assert [(frame[1], frame[4]) for frame in await second.take()] == [(0, b""), (wire.END, b"all")]


@in_loop
async def test_request_with_more_content_than_is_kept_is_a_502() -> None:
    case = Case(b"PUT", complete=False)
    case.exchange.feed(b"x" * MAX_KEPT, False)
    case.exchange.feed(b"x", True)
    second = worker(case.of, 1)
    case.client.take()
    case.end.die()
    assert case.client.take() == [("refuse", 502, "worker 0 died", ())]
    assert await second.take() == []


@in_loop
async def test_answer_that_has_begun_is_broken_off_when_its_worker_dies() -> None:
    case = Case()
    second = worker(case.of, 1)
    case.answer()
    case.end.die()
    assert case.client.take() == [("abort", "worker 0 died")]
    assert await second.take() == []


@in_loop
async def test_client_that_left_hears_only_that_the_worker_has_done_with_it() -> None:
    case = Case()
    case.exchange.cancel()
    case.send(wire.RESPONSE, 0, b"200\n")
    case.send(wire.DATA, 0, b"", b"content")
    assert case.client.take() == []
    case.send(wire.DATA, wire.END, b"", b"content")
    assert case.client.take() == [("released",)]
    case.end.die()
    assert case.client.take() == []


@in_loop
async def test_worker_that_dies_has_done_with_what_was_cancelled() -> None:
    case = Case()
    case.exchange.cancel()
    case.end.die()
    assert case.client.take() == [("released",)]


@in_loop
async def test_answer_to_a_client_with_many_requests_begins_narrow_and_widens() -> None:
    case = Case()
    case.client.answer_window = 64 * 1024
    narrow = exchange(case.client)
    case.of.submit(narrow, HEAD)
    assert [frame[1] for frame in await case.end.take()] == [wire.END, wire.END | wire.NARROW]
    case.end.send(wire.encode_frame(wire.RESPONSE, 0, 2, b"200\n", b"x" * wire.NARROW_WINDOW))
    assert await case.end.take() == [(wire.WINDOW, 0, 2, b"", (64 * 1024).to_bytes(4, "big"))]
    case.client.answer_window = wire.NARROW_WINDOW
    case.end.send(wire.encode_frame(wire.DATA, 0, 2, b"", b"x" * (40 * 1024)))
    assert await case.end.take() == []
    case.end.send(wire.encode_frame(wire.DATA, 0, 2, b"", b"x" * (24 * 1024)))
    assert await case.end.take() == [(wire.WINDOW, 0, 2, b"", (16 * 1024).to_bytes(4, "big"))]


@in_loop
async def test_wait_that_took_too_long_is_a_503_with_retry_after() -> None:
    client = MemoryClient()
    exchange(client).queue_timed_out()
    assert client.take() == [("refuse", 503, "no worker had room in time", ((b"retry-after", b"1"),))]


# Time


@pytest.mark.parametrize("of_head", [{}, {"upgrade": b"key"}])
@in_loop
async def test_answer_that_does_not_begin_in_time_is_a_504(of_head: dict[str, Any]) -> None:
    case = Case(**of_head)
    await case.end.take()
    case.exchange.sent_at = 100.0
    case.end.link.end_late(105.0, 5.0)
    assert case.client.take() == []
    case.end.link.end_late(105.1, 5.0)
    assert case.client.take() == [("refuse", 504, "no answer of the application within 5 s", ())]
    assert await case.end.take() == [(wire.RESET, 0, 1, b"cancelled", b"")]
    case.end.link.end_late(200.0, 5.0)
    assert case.client.take() == []


@in_loop
async def test_client_that_sends_slowly_has_the_time_of_the_application_not_counted() -> None:
    case = Case(b"POST", complete=False)
    case.exchange.sent_at = 100.0
    case.end.link.end_late(200.0, 5.0)
    case.exchange.feed(b"all", True)
    case.client.take()
    case.end.link.end_late(201.0, 5.0)
    case.end.link.end_late(206.0, 5.0)
    assert case.client.take() == []
    case.end.link.end_late(206.1, 5.0)
    assert case.client.take() == [("refuse", 504, "no answer of the application within 5 s", ())]


@in_loop
async def test_answer_that_has_begun_may_take_its_time() -> None:
    case = Case()
    case.answer()
    case.exchange.sent_at = 100.0
    case.end.link.end_late(200.0, 5.0)
    assert case.client.take() == []
