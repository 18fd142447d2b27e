"""Requests whose content is held until it is whole: who gets what when, and where the room goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.exchange import Exchange
from edge.dispatch.intake import Holding, Intake, TooLarge
from edge.dispatch.spool import IN_MEMORY, Spool
from edge.dispatch.target import Overloaded
from edge.http.events import UNKNOWN_LENGTH
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, WorkerEnd, dispatcher, exchange, worker
from tests.ends import in_loop, turn

WINDOW = wire.INITIAL_WINDOW
LARGE = bytes(range(256)) * 1024  # 256 KiB


class Case:
    """An intake before one worker, and one request that is still to come."""

    def __init__(
        self,
        *,
        mode: str = "auto",
        folder: str = "",
        method: bytes = b"POST",
        max_disk: int = 2**20,
        max_memory: int = 2**20,
        served_by: Dispatcher | None = None,
        **of_head: Any,
    ) -> None:
        self.dispatcher = served_by or dispatcher(queue=1)
        self.spool = Spool(folder, max_disk, max_memory=max_memory)
        holding = Holding(small=mode != "off", all=mode == "on", pool=self.dispatcher if mode == "auto" else None)
        self.intake = Intake(self.spool, {self.dispatcher: holding})
        self.client = MemoryClient()
        self.exchange = self.request(method, **of_head)

    def request(self, method: bytes = b"POST", **of_head: Any) -> Exchange:
        return exchange(self.client, method, complete=False, **of_head)

    def submit(self) -> None:
        self.exchange.target = self.dispatcher
        self.intake.submit(self.dispatcher, self.exchange, HEAD)

    @property
    def room_taken(self) -> int:
        return self.spool.in_memory + self.spool.on_disk


async def content_of(end: WorkerEnd) -> tuple[bytes, list[int]]:
    """Return the content that a worker got, giving credit as it is used up, and the flags of the frames."""
    body, flags = b"", []
    while frames := await end.take():
        for kind, flag, stream, _, piece in frames:
            assert kind in (wire.REQUEST, wire.DATA)
            body += piece
            flags.append(flag)
            if piece and not flag & wire.END:
                end.send(wire.encode_window(stream, len(piece)))
    return body, flags


@in_loop
async def test_small_content_goes_on_when_it_is_whole_in_one_frame() -> None:
    case = Case(length=6, body=b"ab")
    end = worker(case.dispatcher)
    case.submit()
    assert case.exchange.feed(b"cd", False)
    assert await end.take() == []
    assert case.exchange.ready_at == case.exchange.started_at
    assert case.exchange.feed(b"ef", True)
    assert await end.take() == [(wire.REQUEST, wire.END, 1, HEAD, b"abcdef")]
    assert case.exchange.content_read == 6
    assert case.exchange.sent_at == case.exchange.ready_at > case.exchange.started_at
    assert case.room_taken == 0
    assert case.client.take() == []


@pytest.mark.parametrize(
    "of_request",
    [
        {"mode": "off", "length": 6},
        {"length": IN_MEMORY + 1},
        {"length": UNKNOWN_LENGTH},
        {"length": 0},
        {"length": 6, "expect": True},
        {"length": 0, "upgrade": b"key"},
        {"length": UNKNOWN_LENGTH, "upgrade": b"key", "mode": "on"},
    ],
)
@in_loop
async def test_streams_and_who_waits_for_continue_go_on_at_once(of_request: dict[str, Any]) -> None:
    case = Case(**of_request)
    end = worker(case.dispatcher)
    case.submit()
    frames = await end.take()
    assert [frame[0] for frame in frames] == [wire.REQUEST]
    assert not frames[0][1] & wire.END


@in_loop
async def test_small_content_flows_when_memory_is_full() -> None:
    case = Case(length=6, max_memory=3)
    end = worker(case.dispatcher)
    case.submit()
    assert case.exchange.feed(b"ab", False)
    assert await end.take() == []
    assert case.exchange.feed(b"cd", False)
    assert case.room_taken == 0
    assert case.exchange.feed(b"ef", True)
    assert await end.take() == [(wire.REQUEST, 0, 1, HEAD, b"abcd"), (wire.DATA, wire.END, 1, b"", b"ef")]


@in_loop
async def test_nothing_more_is_read_when_memory_is_full_and_nobody_has_room() -> None:
    case = Case(length=6, max_memory=3)
    case.submit()
    case.exchange.feed(b"ab", False)
    assert not case.exchange.feed(b"cd", False)
    end = worker(case.dispatcher)
    assert [frame[4] for frame in await end.take()] == [b"abcd"]
    assert case.client.take() == [("want",)]


@in_loop
async def test_small_content_that_finds_the_queue_full_is_refused_in_a_later_turn() -> None:
    case = Case(length=2)
    other = Case(served_by=case.dispatcher, mode="off")
    other.submit()
    case.submit()
    assert case.exchange.feed(b"ab", True)
    assert case.client.take() == []
    await turn()
    [(name, status, reason, fields)] = case.client.take()
    assert (name, status, fields) == ("refuse", 503, ((b"retry-after", b"1"),))
    assert reason.startswith("queue full")
    assert case.room_taken == 0


@pytest.mark.parametrize("size", [10, IN_MEMORY + 1, len(LARGE)])
@pytest.mark.parametrize("known", [True, False])
@in_loop
async def test_all_content_is_held_when_that_is_asked_for(tmp_path: Path, size: int, known: bool) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=size if known else UNKNOWN_LENGTH)
    end = worker(case.dispatcher)
    case.submit()
    for start in range(0, size, 50_000):
        assert case.exchange.feed(LARGE[start : min(size, start + 50_000)], False)
    assert await end.take() == []
    assert case.exchange.feed(b"", True)
    [(kind, _, _, head, first)] = await end.take() if size == 10 else (await end.take())[:1]
    assert kind == wire.REQUEST
    assert head == (HEAD if known else b"GET\n/\ncontent-length\n%d\n4" % size)
    assert case.exchange.head.length == size
    assert first == (LARGE[:10] if size == 10 else b"")
    assert case.room_taken == 0 or size > WINDOW


@in_loop
async def test_application_that_wants_whole_requests_gets_those(tmp_path: Path) -> None:
    case = Case(folder=str(tmp_path), length=UNKNOWN_LENGTH)
    end = WorkerEnd(case.dispatcher)
    end.send(wire.encode_hello(1, 0) + wire.encode_frame(wire.READY, wire.WHOLE, 0))
    case.submit()
    case.exchange.feed(LARGE, False)
    assert await end.take() == []
    case.exchange.feed(b"", True)
    assert (await content_of(end))[0] == LARGE


@in_loop
async def test_nothing_is_held_for_a_target_of_which_nothing_is_said() -> None:
    case = Case(length=6)
    end = worker(case.dispatcher)
    Intake(case.spool, {}).submit(case.dispatcher, case.exchange, HEAD)
    assert [frame[0] for frame in await end.take()] == [wire.REQUEST]


@in_loop
async def test_held_content_goes_within_the_credit_of_the_worker(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=len(LARGE) + 10)
    end = worker(case.dispatcher)
    case.submit()
    case.exchange.feed(LARGE, False)
    case.exchange.feed(b"0123456789", True)
    frames = await end.take()
    assert [len(frame[4]) for frame in frames] == [0, *[wire.MAX_DATA] * 4]
    assert case.room_taken == len(LARGE) + 10
    end.send(wire.encode_window(1, 4))
    assert [(frame[1], frame[4]) for frame in await end.take()] == [(0, b"0123")]
    end.send(wire.encode_window(1, 100))
    assert [(frame[1], frame[4]) for frame in await end.take()] == [(wire.END, b"456789")]
    assert case.room_taken == 0, "a POST is not given to another worker"


@in_loop
async def test_edge_says_continue_for_content_that_it_holds(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=3, expect=True)
    end = worker(case.dispatcher)
    case.submit()
    assert case.client.take() == [("continue",)]
    case.exchange.feed(b"abc", True)
    assert await end.take() == [(wire.REQUEST, wire.END, 1, HEAD, b"abc")]


@in_loop
async def test_content_that_can_never_fit_is_refused_before_any_of_it_comes(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=200_000, max_disk=100_000, expect=True)
    with pytest.raises(TooLarge, match="content of 200000 bytes is to be held, and there is room for 100000"):
        case.submit()
    assert case.client.take() == []


@in_loop
async def test_content_that_turns_out_not_to_fit_is_refused(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=UNKNOWN_LENGTH, max_disk=100_000)
    case.submit()
    assert case.exchange.feed(LARGE, False)
    assert case.exchange.feed(LARGE, False), "what still comes is dropped"
    await turn()
    assert [call[:2] for call in case.client.take()] == [("refuse", 413)]
    assert case.room_taken == 0


@in_loop
async def test_content_without_room_now_is_to_come_again(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=len(LARGE), max_disk=len(LARGE) + 100_000)
    case.submit()
    case.exchange.feed(LARGE, False)
    known, unknown = case.request(length=len(LARGE)), case.request(length=UNKNOWN_LENGTH)
    with pytest.raises(Overloaded, match="the spool is full"):
        case.intake.submit(case.dispatcher, known, HEAD)
    case.intake.submit(case.dispatcher, unknown, HEAD)
    unknown.feed(LARGE, False)
    await turn()
    [(name, status, _, fields)] = case.client.take()
    assert (name, status, fields) == ("refuse", 503, ((b"retry-after", b"1"),))
    case.exchange.withdraw()
    assert case.room_taken == 0
    case.intake.submit(case.dispatcher, known, HEAD)


@in_loop
async def test_folder_that_cannot_be_written_to_is_503_and_says_why(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path / "gone"), length=len(LARGE))
    case.submit()
    case.exchange.feed(LARGE, True)
    await turn()
    [(name, status, reason, _)] = case.client.take()
    assert (name, status) == ("refuse", 503)
    assert reason.endswith("gone': No such file or directory")
    assert case.room_taken == 0


@in_loop
async def test_file_that_cannot_be_read_is_503(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=len(LARGE))
    case.submit()
    case.exchange.feed(LARGE, True)
    assert case.exchange.content is not None
    file = case.exchange.content._content._file
    assert file is not None
    file.truncate(10)
    end = worker(case.dispatcher)
    await end.take()
    assert [call[:2] for call in case.client.take()] == [("refuse", 503)]
    assert case.room_taken == 0


@pytest.mark.parametrize("method", [b"PUT", b"POST"])
@in_loop
async def test_held_content_goes_to_a_second_worker_whatever_its_size(tmp_path: Path, method: bytes) -> None:
    case = Case(mode="on", folder=str(tmp_path), method=method, length=len(LARGE))
    first = worker(case.dispatcher)
    case.submit()
    case.exchange.feed(LARGE, True)
    assert (await content_of(first))[0] == LARGE
    second = worker(case.dispatcher, 1)
    first.die()
    body, flags = await content_of(second)
    if method == b"POST":
        assert (body, flags) == (b"", [])
        assert case.client.take()[-1][:2] == ("refuse", 502)
    else:
        assert body == LARGE
        assert flags[-1] & wire.END
        second.send(wire.encode_frame(wire.RESPONSE, wire.END, 1, b"200\n", b"ok"))
        assert [call[0] for call in case.client.take()[-2:]] == ["response", "finished"]
    assert case.room_taken == 0


@in_loop
async def test_early_answer_ends_what_is_held_when_it_is_whole(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=len(LARGE) + 1)
    end = worker(case.dispatcher)
    case.submit()
    case.exchange.feed(LARGE, False)
    case.exchange.feed(b"x", True)
    await end.take()
    end.send(wire.encode_frame(wire.RESPONSE, 0, 1, b"200\n", b"begin"))
    assert case.room_taken == len(LARGE) + 1, "the application may read on"
    end.send(wire.encode_frame(wire.DATA, wire.END, 1, b"", b"end"))
    assert case.room_taken == 0


@in_loop
async def test_answer_to_what_was_sent_lets_the_room_go(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), method=b"PUT", length=len(LARGE))
    end = worker(case.dispatcher)
    case.submit()
    case.exchange.feed(LARGE, True)
    await end.take()
    assert case.room_taken == len(LARGE)
    end.send(wire.encode_frame(wire.RESPONSE, 0, 1, b"200\n", b"begin"))
    assert case.room_taken == 0


@in_loop
async def test_request_that_waits_too_long_for_a_worker_lets_the_room_go(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=len(LARGE))
    case.submit()
    case.exchange.feed(LARGE, True)
    [waiting] = case.dispatcher.expired(case.exchange.ready_at + 11)
    waiting.queue_timed_out()
    assert [call[:2] for call in case.client.take()] == [("refuse", 503)]
    assert case.room_taken == 0


@in_loop
async def test_time_in_the_queue_begins_when_the_content_is_whole(tmp_path: Path) -> None:
    case = Case(mode="on", folder=str(tmp_path), length=3)
    case.submit()
    case.exchange.feed(b"abc", True)
    assert list(case.dispatcher.expired(case.exchange.ready_at + 9)) == []


@in_loop
async def test_client_that_leaves_lets_the_room_go(tmp_path: Path) -> None:
    case = Case(length=6)
    case.submit()
    case.exchange.feed(b"ab", False)
    case.exchange.withdraw()
    assert case.room_taken == 0
    end = worker(case.dispatcher)
    assert await end.take() == []
