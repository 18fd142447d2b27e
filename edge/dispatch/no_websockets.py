"""A target that takes no WebSockets: `--ws none`."""

from __future__ import annotations

from edge.dispatch.exchange import Exchange
from edge.dispatch.target import Target
from edge.policy.chain import Answered


class NoWebSockets:
    """Refuses the handshakes, and gives everything else to the target behind it."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Take the exchange. Raises Answered (403) for the handshake of a WebSocket, and what the target raises."""
        if exchange.head.upgrade:
            raise Answered(403, "a WebSocket; --ws none takes none")
        exchange.target = self._target
        self._target.submit(exchange, request)

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        self._target.withdraw(exchange)
