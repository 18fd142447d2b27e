"""One client connection: what the HTTP core reports becomes exchanges, and what exchanges say becomes answers.

Theory of operation
-------------------
The stream (stream.py) hands over plaintext; the core (edge/http) turns it into events; an event begins an exchange
(edge/dispatch) or feeds it. The exchange answers through the `send_*` methods here, and ends with one call of
`finished()`, `refuse()` or `abort_exchange()`, which moves on to the next request. One exchange is under way at a time.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from edge.dispatch.exchange import Exchange
from edge.dispatch.intake import RETRY_SOON
from edge.dispatch.sides import FileSender
from edge.http.client_cert import Identity
from edge.http.events import Data, Event, Refusal, RequestHead
from edge.http.http1 import IDLE, Http1Connection
from edge.net.connection2 import Http2ClientConnection
from edge.net.service import (
    RATE_GRACE,
    Edge,
    FieldPairs,
    Refused,
    describe,
    log_end,
    make_refusal,
    note_refusal,
    submit,
)
from edge.net.stream import ClientStream, Phase
from edge.observe import OWN, redact
from edge.policy.chain import Policy
from edge.policy.pages import TEXT, error_page
from edge_backend import wire

logger = logging.getLogger("edge.net")

# How long a connection has to be idle before it is closed for no reason of its own.
PARTING_IDLE = 2.0
PLAIN_HTTP_ADVICE = b"This port speaks HTTPS: use https:// in place of http://\n"

_IDLE = Phase.IDLE


class ClientConnection:
    """The requests and answers of one client connection of HTTP/1.1."""

    __slots__ = (
        "_content_at",
        "_content_size",
        "_core",
        "_edge",
        "_exchange",
        "_is_held",
        "_origin",
        "_policy",
        "_requests",
        "stream",
    )

    # What a worker may send of an answer before the client takes it, in bytes.
    answer_window = wire.INITIAL_WINDOW

    def __init__(self, edge: Edge, policy: Policy, stream: ClientStream) -> None:
        self.stream = stream
        self._edge = edge
        self._policy = policy
        self._origin = policy.connect(stream.peer)
        self._core = Http1Connection(edge.head_parser, edge.max_body)
        self._exchange: Exchange | None = None
        self._requests = 0
        self._is_held = False  # the answer is made, and not taken: the next request has to wait
        self._content_at = 0.0
        self._content_size = 0
        edge.admit(self)

    # The stream's calls.

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        events = self._core.receive(data)
        if not events and self.stream.phase is _IDLE and not self._core.is_idle:
            self.stream.enter(Phase.HEAD)
        self._handle(events)

    def receive_plain_http(self) -> None:
        """Answer plain HTTP on the TLS port so that a person can read it."""
        self._refuse_request(Refusal(0, 400, "plain HTTP on a TLS port"), PLAIN_HTTP_ADVICE)

    def receive_end(self) -> None:
        """The client has closed its side. With a request under way that means that it has left (nginx: 499)."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            if exchange.status == 101 and exchange.link is not None:
                exchange.feed(b"", True)
            exchange.withdraw()
            reason = "the client left" if exchange.status != 101 else ""
            log_end(self._edge, exchange, self.stream, exchange.status or 499, reason)

    def forget(self) -> None:
        """The connection is lost, or closed."""
        self.receive_end()
        self._edge.forget(self)

    def identify(self, identity: Identity | None) -> None:
        """It is known who the client is: all its requests carry it."""
        self._origin = self._policy.connect(self.stream.peer, identity)

    def to_http2(self) -> Http2ClientConnection:
        """The peer agreed on HTTP/2: return who drives the connection from here on."""
        return Http2ClientConnection(self._edge, self._policy, self._origin, self.stream, self)

    def resume(self) -> None:
        """The client takes bytes again."""
        if self._exchange is not None:
            self._exchange.settle()
        elif self._is_held:
            self._is_held = False
            self._go_on(monotonic())

    def expire(self, phase: Phase) -> None:
        """Refuse a request that does not come in time; a connection that never began one is only closed."""
        if phase is Phase.CONTENT:
            self._refuse_request(Refusal(0, 408, "content stopped coming"))
        elif self._core.is_idle:
            self.stream.close()
        else:
            self._refuse_request(Refusal(0, 408, "no whole request head in time"))

    # The process's calls.

    def sweep(self, now: float) -> None:
        """Refuse content that comes too slowly."""
        least = self._edge.body_min_rate
        if self.stream.phase is Phase.CONTENT and now - self._content_at > RATE_GRACE:
            rate = self._content_size / (now - self._content_at)
            if rate < least:
                reason = f"content comes at {rate:.0f} bytes/s, at least {least} expected"
                self._refuse_request(Refusal(0, 408, reason))

    def close(self) -> None:
        """Close: it is idle."""
        self.stream.close()

    def drain(self) -> None:
        """The server is going away: close now if idle, after the answer otherwise."""
        if self._exchange is None and self._core.is_idle:
            self.stream.close()
        else:
            self._core.close_after()

    def part(self, now: float) -> None:
        """Another process takes the connections that come: close this one when it has been idle for a while.

        Answers that begin from now on announce the close. A client that sends one request after the other never sees
        the connection end between two of them.
        """
        if self.is_idle and self.stream.idle_for(now) > PARTING_IDLE and not self.stream.has_unread:
            self.stream.close()

    def cut_off(self) -> None:
        """The server ends now: answer 503 if there is no answer yet, break off what has begun."""
        exchange = self._exchange
        if exchange is None:
            self.stream.abort()
            return
        exchange.withdraw()
        if exchange.answered:
            self.abort_exchange(exchange, "the server stopped")
        else:
            self._core.close_after()
            self.refuse(exchange, 503, "the server stopped", RETRY_SOON)

    @property
    def is_idle(self) -> bool:
        """True between two requests."""
        return self.stream.phase is Phase.IDLE

    @property
    def address(self) -> str:
        """The peer, for messages."""
        return self._origin.address.decode()

    # What the core reports.

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is RequestHead:
                self._begin(event)
            elif type(event) is Data:
                self._feed(event)
            elif type(event) is Refusal:
                self._refuse_request(event)
        if self._core.has_input:
            self.stream.pause()

    def _begin(self, head: RequestHead) -> None:
        edge = self._edge
        now = monotonic()
        self._requests += 1
        if head.complete or head.expect:
            self.stream.wait_answer()
        else:
            self._begin_content(now)
        exchange = Exchange(self, head, edge.clock.next_id(), self._origin.address, now)
        self._exchange = exchange
        if self._requests >= edge.max_requests or edge.is_draining:
            self._core.close_after()
        try:
            submit(edge, self._policy, self._origin, exchange)
        except Refused as answer:
            # In the next turn of the loop: the answer begins the next request, and a client may send thousands of them
            # in one read, which would be thousands of calls within each other.
            later = asyncio.get_running_loop().call_soon
            later(self.refuse, exchange, answer.status, answer.reason, answer.fields, answer.content)

    def _begin_content(self, now: float) -> None:
        self._content_at = now
        self._content_size = 0
        self.stream.enter(Phase.CONTENT)

    def _feed(self, data: Data) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self.stream.phase is Phase.CONTENT:
            self._content_size += len(data.body)
            self.stream.enter(Phase.ANSWER if data.complete else Phase.CONTENT)
        if not exchange.feed(data.body, data.complete):
            self.stream.pause()

    # What the exchange wants.

    @property
    def files(self) -> FileSender | None:
        """Who sends files that an application names."""
        return self._edge.files

    def is_congested(self, exchange: Exchange) -> bool:
        """Tell whether more has been written than the client takes."""
        return self.stream.is_congested

    def released(self, exchange: Exchange) -> None:
        """The worker has done with a request whose client had left: the connection has forgotten it."""

    def send_response(self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        """Send an answer's head and first content; all of it when `flags` has END.

        Raises ProtocolError if the content is not what the head announces.
        """
        if self._policy.has_hsts:
            fields = self._policy.add_hsts(exchange.head.host, fields)
        own = self._own_fields(exchange, flags)
        end = flags & wire.END != 0
        self.stream.send(self._core.encode_response(exchange.head, exchange.status, length, fields, own, body, end))

    def send_data(self, exchange: Exchange, body: bytes) -> None:
        """Send content of the answer, or bytes of a WebSocket."""
        if exchange.status == 101:
            exchange.written += len(body)
        else:
            body = self._core.encode_data(body)
        self.stream.send(body)

    def send_end(self, exchange: Exchange, trailers: list[bytes]) -> None:
        """Send what ends the answer."""
        if exchange.status != 101:
            end = self._core.encode_end(trailers)
            if end:
                self.stream.send(end)

    def send_continue(self, exchange: Exchange) -> None:
        """Tell the client to send its content."""
        self.stream.send(self._core.encode_continue())
        if not self._core.request_is_complete:
            self._begin_content(monotonic())  # until now the client was not the one to wait for

    def send_upgrade(self, exchange: Exchange, fields: list[bytes]) -> None:
        """Answer a WebSocket handshake; opaque bytes from here on."""
        self.stream.wait_answer()
        self.stream.send(self._core.encode_upgrade(exchange.head, fields, self._own_fields(exchange, 0)))
        self._read_on(self._core.receive(b""))

    def want_content(self, exchange: Exchange) -> None:
        """The worker has room for content again."""
        if self.stream.is_paused and not self._core.has_input:
            self.stream.read_on()
            if self._exchange is not None and not self._core.request_is_complete and self.stream.phase is Phase.ANSWER:
                self._begin_content(monotonic())

    def refuse(
        self, exchange: Exchange, status: int, reason: str, fields: FieldPairs = (), content: bytes | None = None
    ) -> None:
        """Answer a request that was read but will not be served, or got no answer; `reason` is for the log.

        Without `content`, the answer is the page of the status.
        """
        if self._exchange is not exchange:
            return
        note_refusal(exchange, self.address, status, reason)
        lines, body = make_refusal(self._policy, exchange, fields, content)
        if self._policy.has_hsts:
            lines = self._policy.add_hsts(exchange.head.host, lines)
        own = self._own_fields(exchange, 0)
        self.stream.send(self._core.encode_response(exchange.head, status, b"%d" % len(body), lines, own, body, True))
        self.finished(exchange)

    def abort_exchange(self, exchange: Exchange, reason: str) -> None:
        """An answer that has begun cannot be completed: break the connection, so that the client cannot take it
        for whole (RFC 9112 section 8)."""
        logger.warning("%s: %s broken off: %s", self.address, describe(exchange), reason)
        if self._exchange is exchange:
            self._exchange = None
            log_end(self._edge, exchange, self.stream, exchange.status, reason)
            self.stream.abort()

    def finished(self, exchange: Exchange) -> None:
        """The exchange is over: log it, and go on to the next request or close."""
        self._exchange = None
        exchange.finished_at = now = monotonic()
        core = self._core
        if exchange.status != 101:
            exchange.written = core.written
        edge = self._edge
        if edge.access_log is not None:
            edge.access_log.write(exchange, self.stream.tls_version)
        if self.stream.is_congested:
            # Answers to pipelined requests must not gather for a client that takes none: resume() goes on.
            self._is_held = True
        else:
            self._go_on(now)

    # Below: how.

    def _go_on(self, now: float) -> None:
        """Take the next request, which may be there already, or close."""
        events = self._core.finish()
        if events is None:
            self.stream.linger()
            return
        self.stream.wait_request(now)
        if events is not IDLE or self.stream.is_paused:
            self._read_on(events)

    def _read_on(self, events: list[Event]) -> None:
        self.stream.read_on()
        if not self._core.is_idle and self.stream.phase is _IDLE:
            self.stream.enter(Phase.HEAD)
        self._handle(events)

    def _refuse_request(self, refusal: Refusal, advice: bytes = b"") -> None:
        """Answer what the core could not read, in the place of the request that it is or belongs to."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            # The content of a request that a worker already has.
            exchange.withdraw()
            if exchange.answered:
                log_end(self._edge, exchange, self.stream, exchange.status, refusal.reason)
                self.stream.abort()
                return
        else:
            # Stands in for a head that could not be read, for the log.
            head = RequestHead(refusal.stream, b"-", b"-", b"1.1", b"")
            exchange = Exchange(self, head, self._edge.clock.next_id(), self._origin.address, monotonic())
        # The reason may quote a request line that could not be read, with the secrets in it.
        status, reason = refusal.status, redact(refusal.reason.encode()).decode()
        logger.warning("%s: request refused with %d: %s; connection closed", self.address, status, reason)
        if advice:
            media_type, body = TEXT, error_page(status, exchange.request_id) + advice
        else:
            media_type, body = self._policy.page(exchange.head, status, exchange.request_id)
        own = self._own_fields(exchange, 0) + b"content-type: %b\r\n" % media_type
        self.stream.send(self._core.encode_refusal(refusal, own, body))
        exchange.written = len(body)
        log_end(self._edge, exchange, self.stream, status, reason)
        self.stream.linger()

    def _own_fields(self, exchange: Exchange, flags: int) -> bytes:
        """Return the field lines that the edge sets; the application's own Date and Server win."""
        return b"%b%b\r\n" % (self._edge.clock.lines[flags & OWN], exchange.request_id)
