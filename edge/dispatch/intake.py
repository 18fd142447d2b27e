"""Requests whose content is held here until it is whole, so that a slow client takes no worker's time.

Theory of operation
-------------------
Content that came with its head needs none of this. Of the others, a small one (its length is known) waits in memory and
then goes to its target as if it had come at once, in one frame. What has no length, or a larger one, is a stream, and
flows as it comes: nobody but the application knows when it will want the first of it. A client that waits for
100 Continue is the application's as well.

Where all content is held, only its end makes a request, whatever it is: it waits in the spool (spool.py), the edge
says 100 Continue by itself, and the application learns how long the content is, also when the client did not say so.

Held content is given back as often as it takes, so the retry rule (exchange.py) holds for it whatever its size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Link
from edge.dispatch.spool import IN_MEMORY, Content, NeverFits, Spool, SpoolFull
from edge.dispatch.target import Overloaded, Target
from edge.http.events import UNKNOWN_LENGTH, RequestHead
from edge_backend.wire import MAX_DATA, extend_request

RETRY_SOON = ((b"retry-after", b"1"),)


class TooLarge(Exception):
    """Content that has to be held and never can be: 413."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What of a target's requests is held: nothing, those with little content, or all; or what its pool asks for."""

    small: bool = False
    all: bool = False
    pool: Dispatcher | None = None

    @property
    def is_whole(self) -> bool:
        """True if the target gets nothing but whole requests."""
        return self.all or (self.pool is not None and self.pool.wants_whole)


NOTHING = Holding()


class Intake:
    """Gives requests whose content is still to come to their targets. Targets without a holding get them at once."""

    def __init__(self, spool: Spool, holdings: Mapping[Target, Holding]) -> None:
        self._spool = spool
        self._holdings = holdings

    def submit(self, target: Target, exchange: Exchange, request: bytes) -> None:
        """Give the request to its target, now or when its content is whole. `request` is its encoded head.

        Raises Overloaded, and TooLarge if there is no room for its content, ever.
        """
        head = exchange.head
        holding = self._holdings.get(target, NOTHING)
        is_whole = holding.is_whole
        if head.upgrade or not (is_whole or (holding.small and _is_small(head))):
            target.submit(exchange, request)
            return
        if is_whole:
            self._check(head)
        content = HeldContent(self._spool, target, request, is_whole=is_whole)
        exchange.hold(content)
        if head.body:
            body, head.body = head.body, b""
            content.feed(exchange, body, False)

    def _check(self, head: RequestHead) -> None:
        """Look for room while nothing of the content has come: the client need not send what will be refused."""
        try:
            if head.length != UNKNOWN_LENGTH:
                self._spool.check(head.length)
        except NeverFits as error:
            raise TooLarge(str(error)) from None
        except SpoolFull as error:
            raise Overloaded(str(error)) from None


def _is_small(head: RequestHead) -> bool:
    return 0 < head.length <= IN_MEMORY and not head.expect


class HeldContent:
    """The content of one request that is held, and where it goes when it is whole."""

    __slots__ = ("_content", "_is_refused", "_is_whole", "_request", "_spool", "_target")

    def __init__(self, spool: Spool, target: Target, request: bytes, *, is_whole: bool) -> None:
        self._spool = spool
        self._content = Content(spool, in_memory_only=not is_whole)
        self._target = target
        self._request = request
        self._is_whole = is_whole  # nothing but the whole of it may go on
        self._is_refused = False

    def feed(self, exchange: Exchange, body: bytes, complete: bool) -> bool:
        """Take content from the client; False when no more should be read until `client.want_content()`."""
        if self._is_refused:
            return True
        try:
            self._content.add(body)
        except (NeverFits, SpoolFull) as error:
            if not self._is_whole:
                self._stream(exchange, body, complete)
                return exchange.link is not None
            self._refuse(exchange, 413 if isinstance(error, NeverFits) else 503, str(error))
        except OSError as error:
            reason = f"content cannot be held in {self._spool.folder!r}: {error.strerror or error}"
            self._refuse(exchange, 503, reason)
        else:
            if complete:
                self._finish(exchange)
        return True

    def send(self, exchange: Exchange, link: Link, credit: int) -> tuple[int, bool]:
        """Hand on what comes next of the whole content; return the credit that is left, and whether it was the last."""
        content = self._content
        try:
            while credit > 0 and content.position < content.size:
                piece = content.read(min(credit, MAX_DATA))
                credit -= len(piece)
                link.send_content(exchange, piece, content.position == content.size)
        except OSError as error:
            # In a later turn: who serves it is only about to get it.
            reason = f"content that was held cannot be read: {error.strerror or error}"
            asyncio.get_running_loop().call_soon(exchange.refuse, 503, reason)
        return credit, content.position == content.size

    def rewind(self) -> None:
        """Begin again: somebody else gets it."""
        self._content.position = 0

    def close(self) -> None:
        """Nobody needs it any more."""
        self._content.close()

    def _finish(self, exchange: Exchange) -> None:
        """All of it is here."""
        head, content = exchange.head, self._content
        if head.length == UNKNOWN_LENGTH:
            head.length = content.size
            self._request = extend_request(self._request, b"content-length", b"%d" % content.size)
        if content.is_in_memory:
            exchange.content = None
            head.body, head.complete = content.take(), True
        self._submit(exchange)

    def _stream(self, exchange: Exchange, body: bytes, complete: bool) -> None:
        """Memory is full of what others send: the rest flows as it comes."""
        exchange.content = None
        exchange.head.body, exchange.head.complete = self._content.take() + body, complete
        self._submit(exchange)

    def _submit(self, exchange: Exchange) -> None:
        exchange.ready_at = monotonic()
        try:
            self._target.submit(exchange, self._request)
        except Overloaded as error:
            self._refuse(exchange, 503, str(error))

    def _refuse(self, exchange: Exchange, status: int, reason: str) -> None:
        """Answer in a later turn: the connection is in the middle of what the client sent."""
        self._is_refused = True
        self.close()
        fields = RETRY_SOON if status == 503 else ()
        asyncio.get_running_loop().call_soon(exchange.refuse, status, reason, fields)
