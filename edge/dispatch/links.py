"""The connections of this edge to its workers: made, watched, and given up, as the master says who serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.link import WorkerLink

# Between two attempts to reach a worker whose socket does not answer.
RECONNECT = 0.1


class Place(NamedTuple):
    """Where a worker is: its pool, its socket, its slot, and whether the master knows it to be ready."""

    pool: str
    path: str
    slot: int
    is_ready: bool


class WorkerLinks:
    """Keeps a connection to each worker that serves. `dispatchers`, by pool, get those that are ready.

    A worker tells the master that it is ready, and each edge, on sockets of their own: one of them hears it first. So a
    worker that is replaced gets requests here until the one in its place is ready here, too. Where nothing may wait
    (`--queue 0`), requests would find no worker in between.
    """

    def __init__(self, dispatchers: Mapping[str, Dispatcher]) -> None:
        self._dispatchers = dispatchers
        self._places: dict[int, Place] = {}
        self._links: dict[int, WorkerLink] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._are_told = False
        # Set when the master has told who serves, and of each pool that can serve somebody can do so here.
        self.complete = asyncio.Event()
        self.left: Callable[[], None] = lambda: None  # called when some get nothing new any more
        self._checked_at = time.monotonic()

    def use(self, places: Mapping[int, Place]) -> None:
        """Send requests to these, and to no other."""
        self._are_told = True
        # The pool of a site that is new is nothing to an edge that does not know the site.
        self._places = {number: place for number, place in places.items() if place.pool in self._dispatchers}
        for number in self._places:
            if number not in self._links:
                self._connect(number)
        self._ready_changed()

    def add(self, number: int, pool: str, slot: int = 0) -> WorkerLink:
        """Return the end of a connection to a worker; it serves as soon as somebody connects it."""
        link = WorkerLink(self._dispatchers[pool], number, self._lost, slot, self._ready_changed)
        self._links[number] = link
        return link

    def drain(self) -> None:
        """Have the WebSockets closed."""
        for link in list(self._links.values()):
            link.drain()

    def check(self, now: float, *, stood_still: bool) -> None:
        """Ask all for a sign of life; `stood_still`: it was this process that gave none."""
        self._checked_at = now
        for number, link in list(self._links.items()):
            place = self._places.get(number)
            if stood_still and link.pinged_at:
                link.pinged_at = now  # the answer may be there unread
            elif not link.is_ready and not link.pinged_at and place is not None and place.is_ready:
                link.pinged_at = now  # it owes READY as it would a PONG: its event loop has come to a stand since
            link.check(now)

    def end_late(self, now: float, limit: float) -> None:
        """Answer for applications that have begun no answer within `limit` seconds."""
        for link in list(self._links.values()):
            link.end_late(now, limit)

    def report(self) -> dict[int, tuple[int, int, float]]:
        """Return the requests, the requests that run, and the seconds without a sign of life of each, by number."""
        return {number: (link.requests, len(link.streams), self._silence(link)) for number, link in self._links.items()}

    @property
    def requests(self) -> int:
        """How many requests the workers of now have had."""
        return sum(link.requests for link in self._links.values())

    @property
    def serving(self) -> list[int]:
        """Those that get requests, or would if they showed signs of life."""
        return [number for number, link in self._links.items() if link.is_ready and not link.is_retired]

    def close(self) -> None:
        """Hang up."""
        self._places = {}
        for task in self._tasks:
            task.cancel()
        for link in list(self._links.values()):
            link.close()

    # Below: how.

    def _silence(self, link: WorkerLink) -> float:
        return round(self._checked_at - link.pinged_at, 1) if link.is_silent else 0.0

    def _ready_changed(self) -> None:
        """Give nothing more to workers that are not listed, where others have taken their place."""
        if not self._are_told:
            return
        places, links = self._places, self._links
        here: set[object] = {link.dispatcher for number, link in links.items() if link.is_ready and number in places}
        awaited = {self._dispatchers[place.pool] for place in places.values() if place.is_ready} - here
        leaving = [link for number, link in links.items() if number not in places and link.dispatcher not in awaited]
        for link in leaving:
            link.retire()
        if leaving:
            self.left()
        if not awaited:
            self.complete.set()

    def _connect(self, number: int) -> None:
        place = self._places[number]
        link = self.add(number, place.pool, place.slot)
        task = asyncio.get_running_loop().create_task(self._reach(link, place.path))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reach(self, link: WorkerLink, path: str) -> None:
        loop = asyncio.get_running_loop()
        while link.number in self._places:
            try:
                await loop.create_unix_connection(lambda: link, path)
            except OSError:
                await asyncio.sleep(RECONNECT)
            else:
                return
        self._links.pop(link.number, None)

    def _lost(self, link: WorkerLink) -> None:
        self._links.pop(link.number, None)
        self._ready_changed()
        if link.number in self._places and not link.is_foreign:
            asyncio.get_running_loop().call_later(RECONNECT, self._reconnect, link.number)

    def _reconnect(self, number: int) -> None:
        if number in self._places and number not in self._links:
            self._connect(number)
