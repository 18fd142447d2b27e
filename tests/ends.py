"""The two ends of the wire in memory: a transport that keeps what it is given, and tests that run in an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

from edge_backend import wire

P = ParamSpec("P")


def in_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a coroutine test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def body() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 10)

        asyncio.run(body())

    return run


async def turn(count: int = 5) -> None:
    """Let everything run that is ready to."""
    for _ in range(count):
        await asyncio.sleep(0)


class MemoryTransport(asyncio.Transport):
    """Keeps the frames that are written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False
        self.is_closed = False
        self._reader = wire.FrameReader()
        self._frames: list[wire.Frame] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._frames += self._reader.receive(bytes(data))

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> list[wire.Frame]:
        """Return the frames that were written since the last call."""
        frames, self._frames = self._frames, []
        return frames
