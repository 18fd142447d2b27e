"""The connection to a worker: streams, the greeting, and what breaks it."""

from __future__ import annotations

import logging

import pytest

from edge.dispatch.link import SILENCE
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, WorkerEnd, dispatcher, exchange, worker
from tests.ends import in_loop

ANSWER = b"200\n2"


@in_loop
async def test_worker_counts_when_it_has_greeted_and_is_ready() -> None:
    of = dispatcher()
    end = WorkerEnd(of)
    end.send(wire.encode_hello(1, 0))
    item = exchange(MemoryClient())
    of.submit(item, HEAD)
    assert item.worker == -1
    end.send(wire.encode_frame(wire.READY, 0, 0) * 2)
    assert item.worker == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (wire.encode_frame(wire.READY, 0, 0), "READY before HELLO"),
        (wire.encode_frame(wire.HELLO, 0, 0, b"edge-wire\n9\n1\n1"), "the worker speaks version 9 of the wire"),
        (wire.encode_frame(wire.HELLO, 0, 0, b"HTTP/1.1 200 OK"), "not the greeting of a worker"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "at most 4194304 allowed"),
    ],
)
@in_loop
async def test_end_that_is_no_worker_of_ours_is_hung_up_on(
    caplog: pytest.LogCaptureFixture, data: bytes, message: str
) -> None:
    of = dispatcher()
    end = WorkerEnd(of, 7)
    with caplog.at_level(logging.ERROR):
        end.send(data + wire.encode_frame(wire.READY, 0, 0))
    assert end.transport.is_aborted
    assert not end.link.is_ready
    assert "worker 7: " in caplog.text
    assert message in caplog.text


@in_loop
async def test_streams_are_numbered_and_what_comes_finds_its_exchange() -> None:
    of = dispatcher()
    end = worker(of)
    clients = [MemoryClient() for _ in range(3)]
    for client in clients:
        of.submit(exchange(client), HEAD)
    assert [frame[2] for frame in await end.take()] == [1, 2, 3]
    end.send(wire.encode_frame(wire.RESPONSE, wire.END, 2, ANSWER, b"ok"))
    assert clients[1].take() == [("response", 200, b"2", [], wire.END, b"ok"), ("finished",)]
    assert clients[0].take() == clients[2].take() == []
    assert set(end.link.streams) == {1, 3}


@in_loop
async def test_stream_numbers_begin_again_after_the_last() -> None:
    of = dispatcher()
    end = worker(of)
    end.link._last = 2**32 - 2
    for _ in range(2):
        of.submit(exchange(MemoryClient()), HEAD)
    assert [frame[2] for frame in await end.take()] == [2**32 - 1, 1]


@in_loop
async def test_frames_of_a_stream_that_has_ended_are_ignored() -> None:
    of = dispatcher()
    end = worker(of)
    client = MemoryClient()
    of.submit(exchange(client), HEAD)
    end.send(wire.encode_frame(wire.RESPONSE, wire.END, 1, ANSWER, b"ok"))
    client.take()
    end.send(wire.encode_frame(wire.DATA, 0, 1, b"", b"late") + wire.encode_window(1, 5) + wire.encode_reset(9, b"x"))
    assert client.take() == []
    assert not end.transport.is_aborted


@in_loop
async def test_cancelled_exchange_is_told_to_the_worker_and_makes_room_when_it_has_done() -> None:
    of = dispatcher(concurrency=1)
    end = worker(of)
    first, second = exchange(MemoryClient()), exchange(MemoryClient())
    of.submit(first, HEAD)
    of.submit(second, HEAD)
    first.cancel()
    first.cancel()
    frames = await end.take()
    assert [(frame[0], frame[2]) for frame in frames] == [(wire.REQUEST, 1), (wire.RESET, 1)]
    assert frames[1][3] == b"cancelled"
    end.send(wire.encode_reset(1, b"cancelled"))
    assert [(frame[0], frame[2]) for frame in await end.take()] == [(wire.REQUEST, 2)]


@in_loop
async def test_malformed_credit_breaks_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    of = dispatcher()
    end = worker(of)
    of.submit(exchange(MemoryClient()), HEAD)
    end.send(wire.encode_frame(wire.WINDOW, 0, 1, b"", b"\0"))
    assert end.transport.is_aborted
    assert "a WINDOW frame of 1 bytes, 4 expected" in caplog.text


@in_loop
async def test_unknown_frame_types_are_ignored() -> None:
    of = dispatcher()
    end = worker(of)
    client = MemoryClient()
    of.submit(exchange(client), HEAD)
    end.send(wire.encode_frame(200, 0, 1) + wire.encode_frame(200, 0, 0))
    assert client.take() == []
    assert not end.transport.is_aborted


@in_loop
async def test_lost_worker_is_reported_and_gets_nothing_more() -> None:
    of = dispatcher()
    end = worker(of)
    end.die()
    assert end.lost == [end.link]
    item = exchange(MemoryClient())
    of.submit(item, HEAD)
    assert item.worker == -1


@in_loop
async def test_drain_is_told_to_a_ready_worker_alone() -> None:
    of = dispatcher()
    ready, starting = worker(of), WorkerEnd(of, 1)
    for end in (ready, starting):
        end.link.drain()
    assert [frame[0] for frame in await ready.take()] == [wire.DRAIN]
    assert await starting.take() == []


@in_loop
async def test_close_sends_what_was_written_first() -> None:
    of = dispatcher()
    end = worker(of)
    of.submit(exchange(MemoryClient()), HEAD)
    end.link.close()
    assert [frame[0] for frame in end.transport.take()] == [wire.REQUEST]
    assert end.transport.is_closed


# Retiring


@in_loop
async def test_retired_worker_gets_nothing_new_and_is_hung_up_on_when_it_has_finished() -> None:
    of = dispatcher()
    end = worker(of)
    running, late = exchange(MemoryClient()), exchange(MemoryClient())
    of.submit(running, HEAD)
    await end.take()
    end.link.retire()
    of.submit(late, HEAD)
    assert late.worker == -1
    assert [frame[0] for frame in await end.take()] == [wire.DRAIN]
    end.link.check(1.0)
    assert [frame[0] for frame in await end.take()] == [wire.PING, wire.DRAIN]
    assert not end.transport.is_closed
    end.send(wire.encode_frame(wire.RESPONSE, wire.END, 1, ANSWER, b"ok"))
    end.link.check(1.5)
    assert end.transport.is_closed


@in_loop
async def test_idle_worker_that_is_retired_is_hung_up_on_at_once() -> None:
    end = worker(dispatcher())
    end.link.retire()
    assert end.transport.is_closed


@in_loop
async def test_worker_that_is_retired_before_it_is_ready_gets_no_request() -> None:
    of = dispatcher()
    end = WorkerEnd(of)
    end.link.retire()
    end.link.check(0.5)
    end.greet()
    item = exchange(MemoryClient())
    of.submit(item, HEAD)
    assert item.worker == -1
    end.link.check(1.0)
    assert end.transport.is_closed


# Signs of life


@in_loop
async def test_silent_worker_gets_nothing_new_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    of = dispatcher()
    end = worker(of)
    end.link.check(10.0)
    end.link.check(11.9)
    assert [frame[0] for frame in await end.take()] == [wire.PING]
    assert not end.link.is_silent
    with caplog.at_level(logging.WARNING):
        end.link.check(10.0 + SILENCE)
        end.link.check(13.0)
    assert caplog.text.count("worker 0: no sign of life for 2.0 s; no new requests") == 1
    assert end.link.is_silent
    item = exchange(MemoryClient())
    of.submit(item, HEAD)
    assert item.worker == -1
    end.send(wire.encode_frame(wire.PONG, 0, 0))
    assert item.worker == 0
    assert not end.link.is_silent


@in_loop
async def test_worker_that_answers_is_asked_again() -> None:
    end = worker(dispatcher())
    for now in (1.0, 1.5):
        end.link.check(now)
        end.send(wire.encode_frame(wire.PONG, 0, 0))
    assert [frame[0] for frame in await end.take()] == [wire.PING, wire.PING]


@in_loop
async def test_silent_worker_that_was_retired_stays_so() -> None:
    of = dispatcher()
    end = worker(of)
    running, late = exchange(MemoryClient()), exchange(MemoryClient())
    of.submit(running, HEAD)
    end.link.check(1.0)
    end.link.check(9.0)
    end.link.retire()
    end.send(wire.encode_frame(wire.PONG, 0, 0))
    of.submit(late, HEAD)
    assert late.worker == -1


@in_loop
async def test_requests_are_counted() -> None:
    of = dispatcher()
    end = worker(of)
    for _ in range(3):
        of.submit(exchange(MemoryClient()), HEAD)
    assert end.link.requests == 3


@pytest.mark.parametrize(("version", "foreign"), [(9, True), (wire.VERSION, False)])
@in_loop
async def test_worker_of_another_version_is_known_as_such(version: int, foreign: bool) -> None:
    end = WorkerEnd(dispatcher())
    end.send(wire.encode_frame(wire.HELLO, 0, 0, b"edge-wire\n%d\n1\n1" % version))
    end.send(wire.HEADER.pack(2**32 - 1, 0, 1, wire.DATA, 0))
    assert end.transport.is_aborted
    assert end.link.is_foreign == foreign
