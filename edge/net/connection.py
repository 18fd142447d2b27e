"""One client connection: pumps bytes between the socket, TLS and the HTTP core, and keeps its deadlines.

Theory of operation
-------------------
Bytes come in by `data_received`, go through TLS when the listener has it, then into the core; the core's events begin
an exchange or feed it. The exchange answers through the `encode_*`/`send_*` methods here, and `finished()` moves on
to the next request. The connection has one deadline at a time, named by its phase; the process's sweep calls
`expire()` when it has passed, so no request costs a timer.
"""

from __future__ import annotations

import asyncio
import logging
from enum import IntEnum
from time import monotonic
from typing import TYPE_CHECKING, cast

from edge.dispatch.dispatcher import Overloaded
from edge.dispatch.exchange import Exchange
from edge.http.events import Data, Refusal, RequestHead
from edge.http.http1 import IDLE, Http1Connection
from edge.observe import redact
from edge.policy.chain import Answered, Origin
from edge.policy.pages import error_page
from edge.tls.channel import PlainHttpError, State, TlsChannel, TlsError
from edge_backend import wire

if TYPE_CHECKING:
    from edge.process import EdgeProcess, Site

logger = logging.getLogger("edge.net")

NEVER = float("inf")
# Before a connection is closed with input unread: read and drop that much, or that long, so that the answer is not
# lost in the RST that unread input provokes (RFC 9112 section 9.6; nginx's lingering_close is 5 s).
LINGER_SIZE = 256 * 1024
LINGER_TIME = 5.0
# The write buffer above which the application waits, and the socket's share of an answer in memory.
HIGH_WATER = 128 * 1024
# Content must keep its minimum rate from here on; a slow start is allowed (Apache's reqtimeout: body=20).
RATE_GRACE = 20.0
PLAIN_HTTP_ADVICE = b"This port speaks HTTPS: use https:// in place of http://\n"


FieldPairs = tuple[tuple[bytes, bytes], ...]


class Phase(IntEnum):
    """What the deadline is about."""

    HANDSHAKE = 1
    HEAD = 2
    IDLE = 3
    CONTENT = 4
    ANSWER = 5
    WRITE = 6
    LINGER = 7
    CLOSED = 8


# Looking a member up in its enum costs as much as comparing it twice; these are compared for each request.
_IDLE, _HEAD, _ANSWER, _LINGER = Phase.IDLE, Phase.HEAD, Phase.ANSWER, Phase.LINGER
_TLS_OPEN = State.OPEN
_OWN_FIELDS = wire.HAS_DATE | wire.HAS_SERVER


class ClientConnection(asyncio.Protocol):
    """A connection from a client, from accept to close."""

    __slots__ = (
        "_content_at",
        "_content_size",
        "_core",
        "_edge",
        "_exchange",
        "_lingered",
        "_origin",
        "_paused",
        "_phase_before",
        "_requests",
        "_site",
        "_stalled_at",
        "_tls",
        "_transport",
        "_write",
        "deadline",
        "is_congested",
        "phase",
        "tls_version",
    )

    def __init__(self, edge: EdgeProcess, site: Site) -> None:
        self._edge = edge
        self._site = site
        self._core = Http1Connection(edge.head_parser, edge.settings.limits.max_body)
        self._tls = TlsChannel(site.tls) if site.tls is not None else None
        self._exchange: Exchange | None = None
        self._paused = False
        self._requests = 0
        self._lingered = 0
        self._stalled_at = 0
        self._content_at = 0.0
        self._content_size = 0
        self._phase_before = Phase.IDLE
        self.is_congested = False
        self._origin: Origin
        self.tls_version = b""
        timeouts = edge.settings.timeouts
        self.phase = Phase.HEAD if self._tls is None else Phase.HANDSHAKE
        self.deadline = monotonic() + (timeouts.header if self._tls is None else timeouts.tls_handshake)

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write
        address = transport.get_extra_info("peername")
        self._origin = self._site.policy.connect(address[:2] if isinstance(address, tuple) else None)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._edge.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.phase = Phase.CLOSED
        self.deadline = NEVER
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._client_left(exchange)
        self._edge.forget(self)

    def data_received(self, data: bytes) -> None:
        tls = self._tls
        if self.phase >= _LINGER:
            self._drop(len(data))
            return
        if tls is not None:
            try:
                data = tls.receive(data) if tls.state is _TLS_OPEN else self._handshake(tls, data)
            except TlsError as error:
                self._tls_failed(tls, error)
                return
            if not data:
                # What came was for TLS alone, and may want an answer: a renegotiation refused, a key update.
                out = tls.data_to_send()
                if out:
                    self._write(out)
                if tls.peer_closed:
                    self._peer_ended()
                return
        events = self._core.receive(data)
        if self.phase is _IDLE and not events:
            self._enter(_HEAD)
        self._handle(events)
        if tls is not None and tls.peer_closed:
            self._peer_ended()

    def eof_received(self) -> bool:
        self._peer_ended()
        return False

    def pause_writing(self) -> None:
        self.is_congested = True
        self._stalled_at = self._transport.get_write_buffer_size()
        if self.phase < Phase.WRITE:
            self._phase_before = self.phase
            self.phase = Phase.WRITE
            self.deadline = monotonic() + self._edge.settings.timeouts.write_stall

    def resume_writing(self) -> None:
        self.is_congested = False
        if self.phase is Phase.WRITE:
            self._enter(self._phase_before)
        if self._exchange is not None:
            self._exchange.settle()

    # What the core reports.

    def _handle(self, events: list[RequestHead | Data | Refusal]) -> None:
        for event in events:
            if type(event) is RequestHead:
                self._begin(event)
            elif type(event) is Data:
                self._feed(event)
            elif type(event) is Refusal:
                self._refuse_request(event)
        if self._core.has_input and not self._paused:
            self._pause_reading()

    def _begin(self, head: RequestHead) -> None:
        edge = self._edge
        now = monotonic()
        self._requests += 1
        if not head.complete and not head.expect:
            self._begin_content(now)
        else:
            self.phase = _ANSWER
            self.deadline = NEVER
        exchange = Exchange(self, head, edge.clock.next_id(), self._origin.address, now)
        self._exchange = exchange
        if self._requests >= edge.max_requests or edge.is_draining:
            self._core.close_after()
        try:
            request, exchange.request_id, exchange.client_address = self._site.policy.apply(
                head, self._origin, exchange.request_id
            )
            edge.dispatcher.submit(exchange, request)
        except Answered as answer:
            self._refuse_soon(exchange, answer.status, answer.reason, answer.fields)
        except Overloaded as error:
            self._refuse_soon(exchange, 503, str(error), ((b"retry-after", b"1"),))

    def _refuse_soon(self, exchange: Exchange, status: int, reason: str, fields: FieldPairs) -> None:
        """Refuse in the next turn of the loop: the answer begins the next request, and a client may send thousands of
        them in one read, which would be thousands of calls within each other."""
        asyncio.get_running_loop().call_soon(self.refuse, exchange, status, reason, fields)

    def _feed(self, data: Data) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self.phase is Phase.CONTENT:
            self._content_size += len(data.body)
            self.deadline = monotonic() + self._edge.settings.timeouts.body_idle
            if data.complete:
                self._enter(Phase.ANSWER)
        if not exchange.feed(data.body, data.complete) and not self._paused:
            self._pause_reading()

    def _refuse_request(self, refusal: Refusal, advice: bytes = b"") -> None:
        """Answer what the core could not read, in the place of the request that it is or belongs to."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            # The content of a request that a worker already has.
            exchange.cancel()
            self._edge.dispatcher.withdraw(exchange)
            if exchange.answered:
                self._log_end(exchange, exchange.status, refusal.reason)
                self._abort()
                return
        else:
            exchange = Exchange(
                self, _unread_head(refusal), self._edge.clock.next_id(), self._origin.address, monotonic()
            )
        body = error_page(refusal.status, exchange.request_id) + advice
        own = self._own_fields(exchange, 0)
        # It may quote a request line that could not be read, with the secrets in it.
        reason = redact(refusal.reason.encode()).decode()
        logger.warning("%s: request refused with %d: %s; connection closed", self.address, refusal.status, reason)
        self._send(self._core.encode_refusal(refusal, own, body))
        exchange.written = len(body)
        self._log_end(exchange, refusal.status, reason)
        self._linger()

    # What the exchange wants.

    def send_response(self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        """Send an answer's head and first content; all of it when `flags` has END.

        Raises ProtocolError if the content is not what the head announces.
        """
        clock = self._edge.clock
        if flags & _OWN_FIELDS:
            own = self._own_fields(exchange, flags)
        else:
            own = b"%b%b\r\n" % (clock.own_fields, exchange.request_id)
        end = flags & wire.END != 0
        data = self._core.encode_response(exchange.head, exchange.status, length, fields, own, body, end)
        tls = self._tls
        self._write(data if tls is None else tls.write(data))

    def send_data(self, body: bytes) -> None:
        """Send content of the answer, or bytes of a WebSocket."""
        exchange = self._exchange
        if exchange is not None and exchange.status == 101:
            exchange.written += len(body)
            self._send(body)
            return
        self._send(self._core.encode_data(body))

    def send_end(self, trailers: list[bytes]) -> None:
        """Send what ends the answer."""
        if self._exchange is not None and self._exchange.status == 101:
            return
        end = self._core.encode_end(trailers)
        if end:
            self._send(end)

    def send_continue(self) -> None:
        """Tell the client to send its content."""
        self._send(self._core.encode_continue())
        if not self._core.request_is_complete:
            self._begin_content(monotonic())  # until now the client was not the one to wait for

    def send_upgrade(self, exchange: Exchange, fields: list[bytes]) -> None:
        """Answer a WebSocket handshake; opaque bytes from here on."""
        self.phase = Phase.ANSWER
        self.deadline = NEVER
        self._send(self._core.encode_upgrade(exchange.head, fields, self._own_fields(exchange, 0)))
        self._read_on(self._core.receive(b""))

    def refuse(self, exchange: Exchange, status: int, reason: str, fields: FieldPairs = ()) -> None:
        """Answer a request that was read but will not be served, or got no answer; `reason` is for the log."""
        if self.phase >= Phase.LINGER or self._exchange is not exchange:
            return
        if reason:
            logger.warning("%s: %s %s refused with %d: %s", self.address, *_name(exchange.head), status, reason)
        exchange.status = status
        exchange.reason = reason
        exchange.answered = True
        body = error_page(status, exchange.request_id)
        lines = [b"content-type", b"text/plain; charset=utf-8"]
        for field in fields:
            lines += field
        own = self._own_fields(exchange, 0)
        data = self._core.encode_response(exchange.head, status, b"%d" % len(body), lines, own, body, True)
        self._send(data)
        self.finished(exchange)

    def abort_exchange(self, exchange: Exchange, reason: str) -> None:
        """An answer that has begun cannot be completed: break the connection, so that the client cannot take it
        for whole (RFC 9112 section 8)."""
        logger.warning("%s: %s %s broken off: %s", self.address, *_name(exchange.head), reason)
        if self._exchange is exchange:
            self._exchange = None
            self._log_end(exchange, exchange.status, reason)
            self._abort()

    def finished(self, exchange: Exchange) -> None:
        """The exchange is over: log it, and go on to the next request or close."""
        self._exchange = None
        exchange.finished_at = now = monotonic()
        core = self._core
        if exchange.status != 101:
            exchange.written = core.written
        edge = self._edge
        if edge.access_log is not None:
            edge.access_log.write(exchange, self.tls_version)
        events = core.finish()
        if events is None:
            self._linger()
            return
        self.phase = _IDLE
        self.deadline = now + edge.settings.timeouts.keep_alive
        if events is not IDLE or self._paused:
            self._read_on(events)

    def want_content(self) -> None:
        """The worker has room for content again."""
        if self._paused and not self._core.has_input:
            self._paused = False
            self._transport.resume_reading()
            if self._exchange is not None and not self._core.request_is_complete and self.phase is Phase.ANSWER:
                self._begin_content(monotonic())

    # Time.

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        match self.phase:
            case Phase.HANDSHAKE:
                self._log_close("no TLS handshake in time")
                self._abort()
            case Phase.HEAD:
                self._head_late()
            case Phase.CONTENT:
                self._content_late("content stopped coming")
            case Phase.WRITE:
                self._check_stall(now)
            case Phase.IDLE:
                self._close()
            case _:
                self._abort()

    def check_rate(self, now: float, least: int) -> None:
        """Refuse content that comes more slowly than `least` bytes per second."""
        if self.phase is Phase.CONTENT and now - self._content_at > RATE_GRACE:
            rate = self._content_size / (now - self._content_at)
            if rate < least:
                self._content_late(f"content comes at {rate:.0f} bytes/s, at least {least} expected")

    def drain(self) -> None:
        """The server is going away: close now if idle, after the answer otherwise."""
        if self.phase is Phase.IDLE or (self.phase is Phase.HEAD and self._core.is_idle):
            self._close()
        else:
            self._core.close_after()

    @property
    def is_idle(self) -> bool:
        """True between two requests."""
        return self.phase is Phase.IDLE

    def close_idle(self) -> None:
        """Make room for another connection."""
        self._close()

    def abort(self) -> None:
        """Close without a word."""
        self._abort()

    def cut_off(self) -> None:
        """The server ends now: answer 503 if there is no answer yet, break off what has begun."""
        exchange = self._exchange
        if exchange is None:
            self._abort()
            return
        exchange.cancel()
        self._edge.dispatcher.withdraw(exchange)
        if exchange.answered:
            self.abort_exchange(exchange, "the server stopped")
        else:
            self._core.close_after()
            self.refuse(exchange, 503, "the server stopped", ((b"retry-after", b"1"),))

    @property
    def address(self) -> str:
        """The peer, for messages."""
        return self._origin.address.decode()

    # Below: how.

    def _handshake(self, tls: TlsChannel, data: bytes) -> bytes:
        data = tls.receive(data)
        out = tls.data_to_send()
        if out:
            self._write(out)
        if tls.state is State.OPEN:
            self.tls_version = tls.version.encode()
            self.phase = Phase.HEAD
            self.deadline = monotonic() + self._edge.settings.timeouts.header
        return data

    def _tls_failed(self, tls: TlsChannel, error: TlsError) -> None:
        if isinstance(error, PlainHttpError):
            self._tls = None
            self._refuse_request(Refusal(0, 400, str(error)), PLAIN_HTTP_ADVICE)
            return
        self._log_close(str(error))
        out = tls.data_to_send()
        if out:
            self._write(out)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._client_left(exchange)
        self._transport.close()
        self.phase = Phase.CLOSED

    def _own_fields(self, exchange: Exchange, flags: int) -> bytes:
        clock = self._edge.clock
        if not flags & _OWN_FIELDS:
            return b"%b%b\r\n" % (clock.own_fields, exchange.request_id)
        own = b"x-request-id: %b\r\n" % exchange.request_id
        if not flags & wire.HAS_DATE:
            own += b"date: %b\r\n" % clock.date
        if not flags & wire.HAS_SERVER:
            own += b"server: edge\r\n"
        return own

    def _send(self, data: bytes) -> None:
        if self.phase is Phase.CLOSED:
            return
        tls = self._tls
        if tls is None:
            self._write(data)
        elif len(data) <= wire.MAX_DATA:
            self._write(tls.write(data))
        else:
            self._transport.writelines(tls.write_large(data))

    def _begin_content(self, now: float) -> None:
        self.phase = Phase.CONTENT
        self._content_at = now
        self._content_size = 0
        self.deadline = now + self._edge.settings.timeouts.body_idle

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        now = monotonic()
        timeouts = self._edge.settings.timeouts
        if phase is Phase.IDLE:
            self.deadline = now + timeouts.keep_alive
        elif phase is Phase.CONTENT:
            self.deadline = now + timeouts.body_idle
        elif phase is Phase.HEAD:
            self.deadline = now + timeouts.header
        else:
            self.deadline = NEVER

    def _pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()
        if self.phase is Phase.CONTENT:
            # It is not the client that is slow now.
            self._enter(Phase.ANSWER)

    def _read_on(self, events: list[RequestHead | Data | Refusal]) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if not self._core.is_idle and self.phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        self._handle(events)

    def _head_late(self) -> None:
        if self._core.is_idle:
            self._close()  # it never began: there is nothing to answer
            return
        self._refuse_request(Refusal(0, 408, "no whole request head in time"))

    def _content_late(self, reason: str) -> None:
        self._refuse_request(Refusal(0, 408, reason))

    def _check_stall(self, now: float) -> None:
        left = self._transport.get_write_buffer_size()
        if left < self._stalled_at:
            self._stalled_at = left
            self.deadline = now + self._edge.settings.timeouts.write_stall
            return
        self._log_close("the client takes no bytes of its answer")
        self._abort()

    def _peer_ended(self) -> None:
        """The client has closed its side. With a request under way that means that it has left (nginx: 499)."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.status == 101 and exchange.link is not None:
            exchange.feed(b"", True)
        if exchange is not None:
            self._client_left(exchange)
        self._close()

    def _client_left(self, exchange: Exchange) -> None:
        exchange.cancel()
        self._edge.dispatcher.withdraw(exchange)
        self._log_end(exchange, exchange.status or 499, "the client left" if exchange.status != 101 else "")

    def _log_end(self, exchange: Exchange, status: int, reason: str) -> None:
        exchange.status = status
        exchange.reason = reason
        exchange.finished_at = monotonic()
        if self._edge.access_log is not None:
            self._edge.access_log.write(exchange, self.tls_version)

    def _log_close(self, reason: str) -> None:
        logger.info("%s: connection closed: %s", self.address, reason)

    def _close(self) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        if self._tls is not None:
            alert = self._tls.close()
            if alert:
                self._write(alert)
        self.deadline = monotonic() + LINGER_TIME
        self._transport.close()

    def _linger(self) -> None:
        """Close our side and read on for a while, so that the client gets the answer before the connection breaks."""
        if self.phase >= Phase.LINGER:
            return
        if self._transport.is_closing():
            return
        self.phase = Phase.LINGER
        self.deadline = monotonic() + LINGER_TIME
        if self._tls is not None:
            alert = self._tls.close()
            if alert:
                self._write(alert)
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._transport.write_eof()

    def _drop(self, size: int) -> None:
        self._lingered += size
        if self._lingered > LINGER_SIZE:
            self._abort()

    def _abort(self) -> None:
        self.phase = Phase.CLOSED
        self.deadline = NEVER
        self._transport.abort()


def _unread_head(refusal: Refusal) -> RequestHead:
    """Stand in for a head that could not be read, for the log."""
    return RequestHead(refusal.stream, b"-", b"-", b"1.1", b"")


def _name(head: RequestHead) -> tuple[str, str]:
    return head.method.decode("latin-1"), repr(redact(head.target)[:100].decode("latin-1"))
