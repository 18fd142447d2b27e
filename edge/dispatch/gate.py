"""Where requests wait, or are turned away, while the server is paused or in maintenance.

Theory of operation
-------------------
The gate stands in the router's place, so that a server that is neither pays nothing for it: whoever looks for a target
finds the gate, behind all policies, and probes and challenges have been answered by then. When it opens, what waits
goes the way that it would have gone, in the order in which it came. What runs is not touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from edge.dispatch.exchange import Exchange
from edge.dispatch.intake import RETRY_SOON, Intake, TooLarge
from edge.dispatch.target import Overloaded, Target
from edge.http.events import RequestHead
from edge.policy.chain import Answered


class Finder(Protocol):
    """What knows who serves a request: the router, or the gate in its place."""

    def find(self, head: RequestHead) -> Target:
        """Return who serves the request."""


class Gate:
    """Keeps requests from the targets of `router`; at most `max_waiting` of them wait.

    `parse_allowed` makes of the networks in an order what tells whether a client's address is in one of them.
    """

    def __init__(
        self,
        router: Finder,
        intake: Intake,
        max_waiting: int,
        parse_allowed: Callable[[list[str]], Callable[[bytes], bool]],
    ) -> None:
        self._router = router
        self._intake = intake
        self._max_waiting = max_waiting
        self._parse_allowed = parse_allowed
        self._is_paused = False
        self._limit = 0.0
        self._retry_after = b""
        self._is_allowed: Callable[[bytes], bool] = lambda address: True
        self._waiting: deque[tuple[Exchange, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def obey(self, order: dict[str, Any]) -> Finder:
        """Take the state that the master gives (edge/gate.py); return what finds targets from now on."""
        self._is_paused = order["mode"] == "paused"
        self._limit = order["limit"]
        self._retry_after = b"%d" % order["retry_after"]
        self._is_allowed = self._parse_allowed(order["allow"])
        if self._is_paused:
            return self
        waiting, self._waiting = self._waiting, deque()
        finder: Finder = self._router if order["mode"] == "open" else self
        for exchange, request in waiting:
            self._release(finder, exchange, request)
        return finder

    def find(self, head: RequestHead) -> Target:
        """Return the gate itself, in place of who would serve the request."""
        return self

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Let the request wait, or turn it away, or let it through if its client is allowed.

        Raises Answered and Overloaded.
        """
        if self._is_paused:
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(f"paused: {len(self._waiting)} requests wait, at most {self._max_waiting} allowed")
            self._waiting.append((exchange, request))
        elif self._is_allowed(exchange.client_address):
            self._pass_on(exchange, request)
        else:
            raise Answered(503, "maintenance", ((b"retry-after", self._retry_after),))

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that waits has left."""
        for entry in self._waiting:
            if entry[0] is exchange:
                self._waiting.remove(entry)
                return

    def sweep(self, now: float) -> None:
        """Refuse what has waited for too long."""
        while self._waiting and self._waiting[0][0].started_at + self._limit < now:
            exchange, _ = self._waiting.popleft()
            exchange.refuse(503, f"paused for longer than {self._limit:g} s", RETRY_SOON)

    def _release(self, finder: Finder, exchange: Exchange, request: bytes) -> None:
        """Send what has waited on its way; who cannot go gets its answer."""
        if not exchange.head.upgrade:  # bytes of a WebSocket are no content
            exchange.gather()
        exchange.ready_at = monotonic()
        try:
            if finder is self:
                self.submit(exchange, request)
            else:
                self._pass_on(exchange, request)
        except Answered as answer:
            exchange.refuse(answer.status, answer.reason, answer.fields)
        except (Overloaded, TooLarge) as error:
            exchange.refuse(413 if isinstance(error, TooLarge) else 503, str(error), RETRY_SOON)

    def _pass_on(self, exchange: Exchange, request: bytes) -> None:
        target = self._router.find(exchange.head)
        exchange.target = target
        if exchange.head.complete:
            target.submit(exchange, request)
        else:
            self._intake.submit(target, exchange, request)
            exchange.read_on()
