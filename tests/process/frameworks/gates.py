"""What the applications of tests/process/test_frameworks.py share: pieces, and gates that a second request opens."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

PIECES = 40
GATES: defaultdict[str, threading.Event] = defaultdict(threading.Event)


def describe(body: bytes) -> str:
    """Return what an upload is answered with."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def pieces() -> Iterator[bytes]:
    """Yield what a stream consists of."""
    for number in range(PIECES):
        yield b"%06d" % number * 1000


def wait_gate(name: str) -> None:
    """Wait until somebody has opened this gate."""
    GATES[name].wait(20)


def events(name: str) -> Iterator[str]:
    """Yield an event, and another one when the gate has been opened."""
    yield "data: first\n\n"
    wait_gate(name)
    yield "data: second\n\n"


async def pieces_later() -> AsyncIterator[bytes]:
    """Yield the same from a coroutine."""
    for piece in pieces():
        await asyncio.sleep(0)
        yield piece


async def events_later(name: str) -> AsyncIterator[str]:
    """Yield the same from a coroutine."""
    yield "data: first\n\n"
    await asyncio.to_thread(wait_gate, name)
    yield "data: second\n\n"
