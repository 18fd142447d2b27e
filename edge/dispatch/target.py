"""Where a request goes once the policies have let it through: a pool of workers, files, another server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge.dispatch.exchange import Exchange


class Overloaded(Exception):
    """A target takes no more requests for now."""


class Target(Protocol):
    """Whoever answers the requests of a route.

    It answers in a later turn of the event loop, never within `submit`: an answer begins the client's next request,
    and thousands of pipelined ones would be as many calls within each other.
    """

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Take the exchange. `request` is its head as a worker gets it: see edge_backend.wire.join_request.

        Raises Overloaded.
        """

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
