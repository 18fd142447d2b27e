"""Targets that need nobody else: another place to go to, and nothing at all."""

from __future__ import annotations

import asyncio

from edge.dispatch.exchange import Exchange
from edge_backend import wire


class Redirect:
    """Sends requests to `location`.

    With `prefix`, what follows it in the request target, and the query, are put behind the location.
    """

    number = -1

    def __init__(self, location: bytes, status: int, prefix: bytes | None) -> None:
        self._location = location
        self._status = status
        self._prefix = prefix

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Answer in the next turn of the event loop."""
        exchange.begin_local(self, b"")
        asyncio.get_running_loop().call_soon(self._answer, exchange)

    def _answer(self, exchange: Exchange) -> None:
        if exchange.link is self:
            place = redirect_place(self._location, self._prefix, exchange.head.target)
            exchange.receive_response(wire.END, b"%d\n0\nlocation\n%b" % (self._status, place), b"")

    def withdraw(self, exchange: Exchange) -> None:
        """Nothing waits here."""

    def send_content(self, exchange: Exchange, content: bytes, end: bool) -> None:
        """Nobody wants it."""

    def open_window(self, exchange: Exchange, credit: int) -> None:
        """All has been sent."""

    def cancel(self, exchange: Exchange) -> bool:
        """Nothing is held for it."""
        return False


class NotFound:
    """Serves what no route leads anywhere: 404."""

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Refuse it in the next turn of the event loop."""
        asyncio.get_running_loop().call_soon(exchange.refuse, 404, "no route of the site fits")

    def withdraw(self, exchange: Exchange) -> None:
        """Nothing waits here; a client that has left gets no answer."""


def redirect_place(location: bytes, prefix: bytes | None, target: bytes) -> bytes:
    """Return where a request target is redirected to, see Redirect."""
    if prefix is None or target[:1] != b"/":
        return location
    path, mark, query = target.partition(b"?")
    # The route was found by the path without its escapes. One that has them within the prefix keeps nothing of it.
    rest = path[len(prefix) :] if path.startswith(prefix) else b""
    return location.rstrip(b"/") + b"/" + rest.lstrip(b"/") + mark + query
