"""A connection within one event loop."""

from __future__ import annotations

import asyncio

import pytest

from edge_backend.memory import MemoryTransport, join_in_memory
from tests.ends import in_loop, turn


class End(asyncio.Protocol):
    """Notes what happens to it; says something as soon as it is connected."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.events: list[bytes] = []
        self.transport: MemoryTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, MemoryTransport)
        self.transport = transport
        transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.events.append(b"lost")


def joined() -> tuple[End, End]:
    one, other = End(b"from one"), End(b"from other")
    join_in_memory(asyncio.get_running_loop(), one, other)
    return one, other


@in_loop
async def test_what_is_written_comes_out_of_the_other_end_in_the_next_turn() -> None:
    one, other = joined()
    assert one.events == other.events == []
    one.transport.write(bytearray(b"more"))
    await turn()
    assert (one.events, other.events) == ([b"from other"], [b"from one", b"more"])


@pytest.mark.parametrize("how", ["close", "abort"])
@in_loop
async def test_what_was_written_arrives_before_the_end(how: str) -> None:
    one, other = joined()
    one.transport.write(b"last")
    getattr(one.transport, how)()
    one.transport.write(b"too late")
    assert one.transport.is_closing()
    assert not other.transport.is_closing()
    await turn()
    assert (one.events, other.events) == ([b"from other", b"lost"], [b"from one", b"last", b"lost"])
    assert other.transport.is_closing()


@in_loop
async def test_both_ends_may_close_at_once() -> None:
    one, other = joined()
    one.transport.close()
    other.transport.close()
    other.transport.close()
    await turn()
    assert (one.events, other.events) == ([b"from other", b"lost"], [b"from one", b"lost"])


@in_loop
async def test_nothing_arrives_after_the_end() -> None:
    one, other = joined()
    await turn()
    one.transport.close()
    other.transport.write(b"crosses the end")
    await turn()
    assert one.events == [b"from other", b"lost"]
