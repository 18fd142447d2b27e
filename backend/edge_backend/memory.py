"""Two protocols joined in one event loop, as if by a socket: an edge and a worker of the same process."""

from __future__ import annotations

import asyncio


class MemoryTransport(asyncio.Transport):
    """One end; what is written comes out of the other in the next turn of the loop.

    Nothing is ever paused: what may be under way is bounded by the wire's credit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._other: MemoryTransport
        self._is_closing = False
        self._is_lost = False

    def join(self, other: MemoryTransport) -> None:
        """Say which the other end is."""
        self._other = other

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the other end."""
        if not self._is_closing:
            self._loop.call_soon(self._other._receive, bytes(data))

    def is_closing(self) -> bool:
        """True when this end was closed or the connection is lost."""
        return self._is_closing

    def close(self) -> None:
        """Close the connection once what was written has arrived."""
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._other._lose)
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        """Close the connection."""
        self.close()

    def _receive(self, data: bytes) -> None:
        if not self._is_lost:
            self._protocol.data_received(data)

    def _lose(self) -> None:
        self._is_closing = True
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(None)


def join_in_memory(loop: asyncio.AbstractEventLoop, one: asyncio.Protocol, other: asyncio.Protocol) -> None:
    """Connect two protocols of this event loop with each other."""
    first, second = MemoryTransport(loop, one), MemoryTransport(loop, other)
    first.join(second)
    second.join(first)
    one.connection_made(first)
    other.connection_made(second)
