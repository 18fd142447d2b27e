"""Which of the workers that have room gets a request.

The choice is this edge's own: it counts what it has sent. A kernel's accept queue knows nothing of that, which is why
shared listeners load one worker while others idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Protocol

from edge.dispatch.exchange import Exchange
from edge.dispatch.link import WorkerLink

# Clients whose order of the workers is remembered: about 1 MiB. Their keys are their own choice, so there is an end.
MEMORY: Final = 4096


class Choice(Protocol):
    """Knows the workers that are ready, and chooses between them."""

    @property
    def links(self) -> Sequence[WorkerLink]:
        """Those that are ready."""

    def add(self, link: WorkerLink) -> None:
        """One is ready."""

    def remove(self, link: WorkerLink) -> None:
        """One of them is not to get anything more."""

    def choose(self, exchange: Exchange) -> WorkerLink | None:
        """Return who gets the exchange; None if nobody has room. Whoever is returned gets it."""


class LeastBusy:
    """The one that runs the fewest requests. `concurrency` is the most that one gets from this edge at a time."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self.links: list[WorkerLink] = []

    def add(self, link: WorkerLink) -> None:
        """One is ready."""
        self.links.append(link)

    def remove(self, link: WorkerLink) -> None:
        """One of them is not to get anything more."""
        self.links.remove(link)

    def choose(self, exchange: Exchange) -> WorkerLink | None:
        """Return who gets the exchange; None if nobody has room. Whoever is returned gets it."""
        links = self.links
        if len(links) == 1:
            link = links[0]
            return link if len(link.streams) < self._concurrency else None
        best, load = -1, self._concurrency
        for index, link in enumerate(links):
            busy = len(link.streams)
            if busy < load:
                best, load = index, busy
        if best < 0:
            return None
        # The one that got a request goes to the end: among equals, the longest idle is next.
        link = links.pop(best)
        links.append(link)
        return link


class SameForEach:
    """The same one for the same `exchange.affinity`, while it is there and has room; else the next in the key's order.

    The order is by the weight of key and slot (rendezvous hashing, Thaler and Ravishankar 1998): every edge process
    comes to the same one without a word to the others, and when a slot goes or comes, only its own keys move.
    `concurrency` is the most that one worker gets from this edge at a time.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self.links: list[WorkerLink] = []
        self._orders: dict[bytes, list[WorkerLink]] = {}

    def add(self, link: WorkerLink) -> None:
        """One is ready."""
        self.links.append(link)
        self._orders.clear()

    def remove(self, link: WorkerLink) -> None:
        """One of them is not to get anything more."""
        self.links.remove(link)
        self._orders.clear()

    def choose(self, exchange: Exchange) -> WorkerLink | None:
        """Return who gets the exchange; None if nobody has room."""
        for link in self._orders.get(exchange.affinity) or self._order(exchange.affinity):
            if len(link.streams) < self._concurrency:
                return link
        return None

    def _order(self, key: bytes) -> list[WorkerLink]:
        if len(self._orders) >= MEMORY:
            self._orders.clear()
        # Of two with one slot, the later takes the place of the other.
        order = sorted(self.links, key=lambda link: (weight(key, link.slot), link.number), reverse=True)
        self._orders[key] = order
        return order


def weight(key: bytes, slot: int) -> bytes:
    """Return how much a key wants a slot, to be compared with what it wants others; the same in every process."""
    return blake2b(b"%d %b" % (slot, key), digest_size=8).digest()
