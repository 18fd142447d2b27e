"""Which of the workers that have room gets a request.

The choice is this edge's own: it counts what it has sent. A kernel's accept queue knows nothing of that, which is why
shared listeners load one worker while others idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge.dispatch.exchange import Exchange
from edge.dispatch.link import WorkerLink


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
