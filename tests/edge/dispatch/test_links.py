"""The connections to workers, as the master says who serves. Sockets are real, workers say what a test has them say."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from time import monotonic

from edge.dispatch.choice import LeastBusy
from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.link import SILENCE
from edge.dispatch.links import Place, WorkerLinks
from edge_backend import wire
from tests.ends import in_loop, turn

POOL = "*/"


class Worker(asyncio.Protocol):
    """A worker's socket, at which it serves when it is told to."""

    def __init__(self, folder: str, number: int) -> None:
        self.number = number
        self.path = f"{folder}/{number}.sock"
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()  # its edge has hung up, or it has
        self._server: asyncio.Server
        self._transport: asyncio.Transport

    async def listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: self, self.path)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.connected.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    async def serve(self) -> None:
        """Say that it is ready."""
        await self.connected.wait()
        self._transport.write(wire.encode_hello(1, self.number) + wire.encode_frame(wire.READY, 0, 0))

    async def die(self) -> None:
        """Hang up, and listen no more."""
        await self.connected.wait()
        self._transport.close()
        await self.close()

    async def close(self) -> None:
        self._server.close()
        if self.connected.is_set():
            await self.ended.wait()


class Scene:
    """Three workers, and the links of an edge in which no request may wait."""

    def __init__(self, folder: str) -> None:
        self.workers = [Worker(folder, number) for number in range(3)]
        self._choice = LeastBusy(100)
        self.links = WorkerLinks({POOL: Dispatcher(self._choice, queue=0, queue_timeout=1.0)})

    @property
    def serving(self) -> list[int]:
        """The workers that get requests."""
        return [link.number for link in self._choice.links]

    def use(self, *workers: Worker, are_ready: bool = True) -> None:
        """Tell the edge who serves; `are_ready`: and that they do already."""
        self.links.use({worker.number: Place(POOL, worker.path, 0, are_ready) for worker in workers})

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await turn(1)

    async def begin(self) -> None:
        """Have the first worker serve alone."""
        self.use(self.workers[0])
        await self.workers[0].serve()
        await self.until(lambda: self.serving == [0])


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory() as folder:
        made = Scene(folder)
        for worker in made.workers:
            await worker.listen()
        yield made
        made.links.close()
        for worker in made.workers:
            await worker.close()


@in_loop
async def test_worker_serves_until_the_one_in_its_place_is_ready_here_too() -> None:
    async with scene() as edge:
        old, new, _ = edge.workers
        await edge.begin()
        left = asyncio.Event()
        edge.links.left = left.set
        edge.use(new)
        await new.connected.wait()
        await turn()
        assert edge.serving == edge.links.serving == [0]
        assert not left.is_set()
        await new.serve()
        await left.wait()
        assert edge.serving == edge.links.serving == [1]
        await old.ended.wait()


@in_loop
async def test_worker_that_is_to_get_nothing_more_gets_nothing_though_the_new_one_starts_yet() -> None:
    async with scene() as edge:
        old, new, _ = edge.workers
        await edge.begin()
        edge.use(new, are_ready=False)
        assert edge.serving == []
        await old.ended.wait()


@in_loop
async def test_worker_serves_on_when_the_one_in_its_place_dies() -> None:
    async with scene() as edge:
        old, new, newest = edge.workers
        await edge.begin()
        edge.use(new)
        await new.die()
        await edge.until(lambda: 1 not in edge.links.report())
        assert edge.serving == [0]
        edge.use(newest)
        await newest.serve()
        await edge.until(lambda: edge.serving == [2])
        await old.ended.wait()


@in_loop
async def test_worker_that_nobody_replaces_ends() -> None:
    async with scene() as edge:
        old, other, _ = edge.workers
        await edge.begin()
        edge.use(old, other)
        await other.serve()
        await edge.until(lambda: set(edge.serving) == {0, 1})
        edge.use(other)
        await old.ended.wait()
        assert edge.serving == [1]
        edge.use()
        await other.ended.wait()
        assert edge.serving == []


@in_loop
async def test_worker_that_is_known_to_be_ready_and_does_not_say_so_is_silent() -> None:
    async with scene() as edge:
        new, starting, _ = edge.workers
        edge.links.use({0: Place(POOL, new.path, 0, True), 1: Place(POOL, starting.path, 0, False)})
        await new.connected.wait()
        await starting.connected.wait()
        now = monotonic()
        for later, silent in ((0, 0.0), (SILENCE / 2, 0.0), (SILENCE, SILENCE), (30, 30.0)):
            edge.links.check(now + later, stood_still=False)
            assert edge.links.report() == {0: (0, 0, silent), 1: (0, 0, 0.0)}
        edge.links.check(now + 60, stood_still=True)
        assert edge.links.report()[0] == (0, 0, 0.0)
        await new.serve()
        await edge.until(lambda: edge.serving == [0])
        edge.links.check(now + 90, stood_still=False)
        assert edge.links.report()[0] == (0, 0, 0.0)


@in_loop
async def test_links_are_complete_when_all_is_told_and_who_is_ready_is_ready_here() -> None:
    async with scene() as edge:
        first = edge.workers[0]
        assert not edge.links.complete.is_set()
        edge.use(first)
        await first.connected.wait()
        await turn()
        assert not edge.links.complete.is_set()
        await first.serve()
        await edge.links.complete.wait()
        assert edge.serving == [0]
    async with scene() as edge:
        edge.use(edge.workers[0], are_ready=False)
        assert edge.links.complete.is_set()
        await edge.workers[0].connected.wait()
    async with scene() as edge:
        edge.links.use({0: Place("of a site that is new", "", 0, True)})
        assert edge.links.complete.is_set()
