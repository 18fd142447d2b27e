"""What becomes of a request for a pool: a worker with room gets it; else a bounded queue; else 503.

Which worker that is, choice.py says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic

from edge.dispatch.choice import Choice
from edge.dispatch.exchange import Exchange
from edge.dispatch.link import WorkerLink
from edge.dispatch.target import Overloaded


class Dispatcher:
    """Gives exchanges to workers. At most `queue` of them wait, for `queue_timeout` seconds each."""

    def __init__(self, choice: Choice, *, queue: int, queue_timeout: float) -> None:
        self._choice = choice
        self._choose = choice.choose
        self._queue_limit = queue
        self._queue_timeout = queue_timeout
        # What the worker said that got ready last: they run the same application, but over a reload.
        self.wants_whole = False
        # What waits for a worker, with its encoded head, and since when.
        self.queue: deque[tuple[Exchange, bytes, float]] = deque()

    def add(self, link: WorkerLink) -> None:
        """A worker is ready."""
        self.wants_whole = link.wants_whole
        self._choice.add(link)
        self.release()

    def remove(self, link: WorkerLink) -> None:
        """A worker is not to get anything more."""
        if link in self._choice.links:
            self._choice.remove(link)

    @property
    def has_worker(self) -> bool:
        """True if somebody takes requests, now or when there is room."""
        return bool(self._choice.links)

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Send the exchange to a worker, now or when one has room. `request` is its encoded head.

        Raises Overloaded if the queue is full.
        """
        if not self.queue:
            link = self._choose(exchange)
            if link is not None:
                exchange.sent_at = exchange.ready_at
                link.start(exchange, request)
                return
        if len(self.queue) >= self._queue_limit:
            raise Overloaded(f"queue full: {len(self.queue)} requests wait, at most {self._queue_limit} allowed")
        self.queue.append((exchange, request, exchange.ready_at))

    def submit_again(self, exchange: Exchange) -> None:
        """Put an exchange whose worker died before the others: it has waited longest."""
        self.queue.appendleft((exchange, exchange.kept_request, monotonic()))
        self.release()

    def release(self) -> None:
        """A worker may have room: give it what waits."""
        while self.queue:
            exchange, request, _ = self.queue[0]
            link = self._choose(exchange)
            if link is None:
                return
            self.queue.popleft()
            exchange.sent_at = monotonic()
            link.start(exchange, request)

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        for entry in self.queue:
            if entry[0] is exchange:
                self.queue.remove(entry)
                return

    def expired(self, now: float) -> Iterable[Exchange]:
        """Take out and return what has waited longer than the queue's timeout."""
        # Not only the first: one whose worker died stands before the others, and has waited less.
        for entry in [entry for entry in self.queue if entry[2] + self._queue_timeout < now]:
            self.queue.remove(entry)
            yield entry[0]
