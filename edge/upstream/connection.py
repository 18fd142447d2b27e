"""A connection to an upstream: one request at a time, and credit both ways as on the link to a worker."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Final, Protocol, cast

from edge.dispatch.exchange import Exchange
from edge.http.events import ProtocolError
from edge.http.websocket import accept_key
from edge.upstream.answer import MAX_HEAD, AnswerHead, AnswerReader
from edge.upstream.frames import CLOSE, FrameEnds
from edge.upstream.request import encode_chunk, encode_request, is_chunked
from edge_backend import wire

_ACCEPT: Final = b"sec-websocket-accept"
# What both ends of a WebSocket may take to end it when they are told to; as long as a worker waits.
CLOSE_TIMEOUT: Final = 10.0


class Owner(Protocol):
    """The server that it leads to."""

    host: bytes
    prefix: bytes

    def done(self, connection: UpstreamConnection) -> None:
        """It can carry another request."""

    def lost(self, connection: UpstreamConnection) -> None:
        """It has ended."""

    def failed(self, reason: str) -> None:
        """The server did not do what it should."""

    def succeeded(self) -> None:
        """The server has answered."""

    def again(self, exchange: Exchange, reason: str) -> None:
        """The exchange lost its connection before there was an answer."""


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange after the other."""

    number = -1

    def __init__(self, owner: Owner) -> None:
        self.used = 0  # requests that it has carried
        self.idle_since = 0.0
        self._owner = owner
        self._reader = AnswerReader()
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport
        self._is_lost = False
        self._is_chunked = False
        self._is_sent = False  # all of the request has left
        self._is_full = False  # the upstream does not take what is written
        self._has_answered = False
        self._key = b""
        self._frames: FrameEnds | None = None  # of a WebSocket that is open
        self._is_leaving = False
        self._closed_at = 0.0  # when the WebSocket's client was told to close it
        self._window = 0
        self._owed = 0
        self._waits_since = 0.0  # for the first byte of an answer, or for the next one

    # The exchange's calls.

    def start(self, exchange: Exchange, request: bytes) -> None:
        """Send a request; `request` is its head as a worker gets it."""
        head = exchange.head
        self.used += 1
        self._exchange = exchange
        self._has_answered = False
        self._key = base64.b64encode(secrets.token_bytes(16)) if head.upgrade else b""
        self._is_chunked, self._is_sent = is_chunked(head), head.complete or bool(head.upgrade)
        self._waits_since = monotonic()
        self._owed = 0
        self._window = exchange.begin_local(self, request)
        self._reader.expect(head.method, upgrade=bool(head.upgrade))
        owner = self._owner
        self._transport.write(encode_request(head, request, host=owner.host, prefix=owner.prefix, key=self._key))
        if not head.complete:
            if head.expect:
                self._give_credit(wire.INITIAL_WINDOW)
            exchange.pour()

    def send_content(self, exchange: Exchange, content: bytes, end: bool) -> None:
        """Write content of the request, or bytes of a WebSocket."""
        self._waits_since = monotonic()
        self._is_sent = end or self._is_sent
        if exchange.head.upgrade:
            self._transport.write(content)
            if end:
                self._transport.close()
        else:
            self._transport.write(encode_chunk(content, end=end) if self._is_chunked else content)
        self._give_credit(len(content))

    def open_window(self, exchange: Exchange, credit: int) -> None:
        """The client has taken some of the answer."""
        if self._window <= 0 < self._window + credit:
            self._waits_since = monotonic()
            self._transport.resume_reading()
        self._window += credit

    def cancel(self, exchange: Exchange) -> bool:
        """Nobody waits any more: HTTP/1.1 has no other way to say so than to hang up."""
        self._exchange = None
        self._break()
        return False

    def drain(self) -> None:
        """The edge is going away: close the WebSocket, if there is one, as workers do."""
        self._is_leaving = True
        exchange = self._exchange
        if exchange is not None and self._frames is not None and self._frames.is_between:
            self._say_close(exchange)

    @property
    def is_closing(self) -> bool:
        """True if it can carry nothing more: `lost` follows."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End it: nothing runs on it."""
        self._transport.close()

    def check(self, now: float, response_timeout: float, idle_timeout: float) -> None:
        """Give up on an upstream that does not answer in time, or does not go on with an answer."""
        exchange = self._exchange
        if exchange is not None and self._closed_at and now - self._closed_at > CLOSE_TIMEOUT:
            self._exchange = None
            self._break()
            exchange.receive_data(wire.END, b"")
            return
        if exchange is None or self._window <= 0 or (self._is_full and self._has_answered):
            return  # the time is somebody else's
        waited = now - self._waits_since
        if self._is_full:
            if response_timeout and waited > response_timeout:
                self._give_up(exchange, 504, f"the upstream takes nothing of the request within {response_timeout:g} s")
        elif self._has_answered:
            if idle_timeout and waited > idle_timeout and self._frames is None:
                self._give_up(exchange, 502, f"nothing more of the upstream's answer within {idle_timeout:g} s")
        elif self._is_sent and response_timeout and waited > response_timeout:
            self._give_up(exchange, 504, f"no answer of the upstream within {response_timeout:g} s")

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # An answer that nobody asked for (RFC 9112 section 9.3), or the timeout that some servers send.
            self._transport.abort()
            return
        try:
            head, content = self._reader.receive(data)
            if head is not None:
                self._begin_answer(exchange, head)
        except ProtocolError as error:
            self._give_up(exchange, 502, error.reason)
            return
        if self._has_answered:
            self._waits_since = monotonic()
            self._pass_on(exchange, head, content)

    def eof_received(self) -> bool | None:
        exchange = self._exchange
        if exchange is not None and self._has_answered and self._reader.ends_with_connection:
            self._exchange = None
            exchange.receive_data(wire.END, b"")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if exc is not None and not self._has_answered:
            self._hear_out()
        exchange, self._exchange = self._exchange, None
        self._owner.lost(self)
        if exchange is None or exchange.link is not self:
            return
        if self._frames is not None and exc is None:
            exchange.receive_data(wire.END, b"")  # its client had ended it
            return
        how = "broke the connection" if exc is not None else "closed the connection"
        if self._has_answered:
            exchange.refuse(502, f"the upstream {how} within its answer")
            return
        if self.used == 1:
            self._owner.failed(f"it {how}")  # one that was used before may have been closed as idle: no fault of anyone
        self._owner.again(exchange, f"the upstream {how} before it answered")

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._waits_since = monotonic()
        self._settle()

    # Below: how.

    def _hear_out(self) -> None:
        """Take what the upstream said before it hung up on an upload that it does not want.

        Writing fails then while the answer is there unread, and the loop reads no more.
        """
        sock = self._transport.get_extra_info("socket")
        if self._exchange is None or sock is None or self._transport.get_extra_info("ssl_object") is not None:
            return
        with contextlib.suppress(OSError):
            data = os.read(sock.fileno(), MAX_HEAD)
            if data:
                self.data_received(data)

    def _begin_answer(self, exchange: Exchange, head: AnswerHead) -> None:
        if head.status == 101:
            _check_accept(head.fields, accept_key(self._key))
        self._has_answered = True
        self._owner.succeeded()

    def _pass_on(self, exchange: Exchange, head: AnswerHead | None, content: bytes) -> None:
        if head is not None and self._key and 200 <= head.status < 300 and exchange.head.version == b"2":
            # There, that would accept the WebSocket (RFC 8441 section 5), and the content would be taken for frames.
            exchange.refuse(502, f"the upstream answers the handshake of a WebSocket with {head.status}")
            return
        if head is not None and head.status == 101:
            self._frames = FrameEnds()
            exchange.respond(head.status, head.length, _without_accept(head.fields), head.flags, b"")
            self._give_credit(wire.INITIAL_WINDOW)
        if self._frames is not None:
            self._pass_frames(exchange, self._frames, content)
            return
        is_end = self._reader.is_done
        self._window -= len(content)
        if is_end:
            self._exchange = None
        elif self._window <= 0:
            self._transport.pause_reading()
        trailers = self._reader.trailers
        flags = wire.END if is_end and not trailers else 0
        if head is not None:
            exchange.respond(head.status, head.length, list(head.fields), flags | head.flags, content)
        elif content or flags:
            exchange.receive_data(flags, content)
        if trailers and exchange.link is self:
            exchange.receive_trailers(b"\n".join(trailers))
        if is_end and not self._is_lost:
            self._end()

    def _pass_frames(self, exchange: Exchange, frames: FrameEnds, content: bytes) -> None:
        """Pass bytes of a WebSocket on; when the edge is going away, those of the frame under way, and then Close."""
        at, size = 0, len(content)
        while at < size and not (self._is_leaving and frames.is_between):
            at = frames.take(content, at)
        self._window -= at  # nobody gets the rest
        if self._window <= 0:
            self._transport.pause_reading()
        if at:
            exchange.receive_data(0, content if at == size else content[:at])
        if self._is_leaving and frames.is_between:
            self._say_close(exchange)

    def _say_close(self, exchange: Exchange) -> None:
        """Tell the client to close. Its answer ends the WebSocket at the server, too."""
        if not self._closed_at and exchange.link is self:
            self._closed_at = monotonic()
            self._window -= len(CLOSE)
            exchange.receive_data(0, CLOSE)

    def _end(self) -> None:
        """The answer is whole: the connection is free, or of no use any more."""
        if self._reader.can_be_reused and self._is_sent and not self._is_full:
            self.idle_since = monotonic()
            self._owner.done(self)
        elif self._is_sent and not self._is_full:
            self._transport.close()
        else:
            self._transport.abort()  # nobody is to take the rest of the request, however long that would be

    def _give_up(self, exchange: Exchange, status: int, reason: str) -> None:
        self._exchange = None
        self._owner.failed(reason)
        self._break()
        if exchange.link is self:
            exchange.refuse(status, reason)

    def _break(self) -> None:
        self._is_lost = True
        self._transport.abort()

    def _give_credit(self, size: int) -> None:
        self._owed += size
        asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Let the client send as much again as the upstream has taken."""
        exchange, owed = self._exchange, self._owed
        if exchange is not None and owed and not self._is_full:
            self._owed = 0
            exchange.receive_credit(owed)


def _check_accept(fields: Sequence[bytes], accept: bytes) -> None:
    """Raise ProtocolError if a 101 has no proof that it answers our key (RFC 6455 section 4.1)."""
    if [value for name, value in _pairs(fields) if name == _ACCEPT] != [accept]:
        raise ProtocolError(502, "the upstream's Sec-WebSocket-Accept does not answer the key that it got")


def _without_accept(fields: Sequence[bytes]) -> list[bytes]:
    """Return the fields of a 101 without the proof: the client had another key, and its end makes its own."""
    return [part for field in _pairs(fields) if field[0] != _ACCEPT for part in field]


def _pairs(fields: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)
