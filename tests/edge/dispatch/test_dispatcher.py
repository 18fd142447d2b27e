"""Which worker gets a request, which requests wait, and which are refused."""

from __future__ import annotations

import time

import pytest

from edge.dispatch.exchange import Exchange
from edge.dispatch.target import Overloaded
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, WorkerEnd, dispatcher, exchange, worker
from tests.ends import in_loop


def numbers(exchanges: list[Exchange]) -> list[int]:
    return [item.worker for item in exchanges]


def answer(end: WorkerEnd, item: Exchange) -> None:
    """End an exchange from the worker's side."""
    end.link.data_received(b"\0\0\0\4\0\0\0\4" + item.stream.to_bytes(4, "big") + b"\5\1" + b"200\n")


@in_loop
async def test_requests_go_around_between_idle_workers() -> None:
    of = dispatcher()
    for number in range(3):
        worker(of, number)
    items = [exchange(MemoryClient()) for _ in range(6)]
    for item in items:
        of.submit(item, HEAD)
    assert sorted(numbers(items[:3])) == sorted(numbers(items[3:])) == [0, 1, 2]


@in_loop
async def test_least_busy_worker_is_next() -> None:
    of = dispatcher()
    ends = [worker(of, number) for number in range(3)]
    items = [exchange(MemoryClient()) for _ in range(9)]
    for item in items:
        of.submit(item, HEAD)
    for item in items:
        if item.worker == 1:
            answer(ends[1], item)
    more = [exchange(MemoryClient()) for _ in range(3)]
    for item in more:
        of.submit(item, HEAD)
    assert numbers(more) == [1, 1, 1]


@pytest.mark.parametrize("count", [1, 2])
@in_loop
async def test_worker_gets_no_more_than_its_share(count: int) -> None:
    of = dispatcher(concurrency=2)
    ends = [worker(of, number) for number in range(count)]
    items = [exchange(MemoryClient()) for _ in range(2 * count + 2)]
    for item in items:
        of.submit(item, HEAD)
    assert numbers(items)[2 * count :] == [-1, -1]
    assert len(of.queue) == 2
    answer(ends[items[0].worker], items[0])
    assert items[2 * count].worker == items[0].worker
    assert items[2 * count].sent_at > 0
    assert len(of.queue) == 1


@in_loop
async def test_requests_wait_in_order_for_the_first_worker() -> None:
    of = dispatcher(concurrency=1)
    items = [exchange(MemoryClient()) for _ in range(3)]
    for item in items:
        of.submit(item, HEAD)
    worker(of)
    assert numbers(items) == [0, -1, -1]


@in_loop
async def test_full_queue_is_overloaded() -> None:
    of = dispatcher(queue=2)
    for _ in range(2):
        of.submit(exchange(MemoryClient()), HEAD)
    with pytest.raises(Overloaded, match="queue full: 2 requests wait, at most 2 allowed"):
        of.submit(exchange(MemoryClient()), HEAD)


@in_loop
async def test_worker_that_is_removed_gets_nothing_more() -> None:
    of = dispatcher()
    end = worker(of)
    of.remove(end.link)
    of.remove(end.link)
    item = exchange(MemoryClient())
    of.submit(item, HEAD)
    assert item.worker == -1


@in_loop
async def test_client_that_leaves_is_taken_from_the_queue() -> None:
    of = dispatcher()
    items = [exchange(MemoryClient()) for _ in range(3)]
    for item in items:
        of.submit(item, HEAD)
    of.withdraw(items[1])
    of.withdraw(items[1])
    assert [entry[0] for entry in of.queue] == [items[0], items[2]]


@in_loop
async def test_what_has_waited_too_long_is_given_back_once() -> None:
    of = dispatcher(queue_timeout=5)
    items = [exchange(MemoryClient(), at=at) for at in (0, 1, 2)]
    for item in items:
        of.submit(item, HEAD)
    assert list(of.expired(5)) == []
    assert list(of.expired(6.5)) == items[:2]
    assert list(of.expired(6.5)) == []


@in_loop
async def test_request_of_a_dead_worker_goes_first_and_its_wait_begins_anew() -> None:
    of = dispatcher(queue_timeout=5, concurrency=1)
    end = worker(of)
    old = exchange(MemoryClient(), at=time.monotonic() - 60)
    waiting = exchange(MemoryClient(), at=time.monotonic() - 4)
    of.submit(old, HEAD)
    of.submit(waiting, HEAD)
    end.die()
    assert [entry[0] for entry in of.queue] == [old, waiting]
    assert list(of.expired(time.monotonic())) == []
    assert list(of.expired(time.monotonic() + 2)) == [waiting]
    assert list(of.expired(time.monotonic() + 6)) == [old]


@in_loop
async def test_end_of_content_that_no_worker_took_yet_is_not_forgotten() -> None:
    # It came though nobody had said 100 Continue, as a client may send it that has waited long enough.
    of, item = dispatcher(), exchange(MemoryClient(), b"PUT", complete=False, expect=True)
    first = worker(of)
    of.submit(item, HEAD)
    item.feed(b"all", True)
    second = worker(of, 1)
    first.die()
    await second.take()
    second.send(wire.encode_window(1, 100))
    assert [(frame[1], frame[4]) for frame in await second.take()] == [(wire.END, b"all")]
