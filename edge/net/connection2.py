"""One client connection of HTTP/2: its streams become exchanges, and what exchanges say becomes frames.

Theory of operation
-------------------
The core (edge/http/http2.py) turns plaintext into events and answers into frames; each request is an exchange, under
the number of its stream. What is to be written gathers in the core and leaves once in a turn of the loop, as far as the
client takes it: while it does not, content stays in the core within each answer's window, and nothing is read.

A stream ends with one call of `finished()`, `refuse()` or `abort_exchange()`, as in HTTP/1.1, and nothing ends with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from edge.dispatch.exchange import Exchange
from edge.dispatch.intake import RETRY_SOON
from edge.dispatch.sides import FileSender
from edge.http.client_cert import Identity
from edge.http.events import Data, Failure, Refusal, RequestHead, Reset
from edge.http.frames import Code
from edge.http.http2 import Http2Connection
from edge.net.farewell import Farewell
from edge.net.service import (
    Connection,
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
from edge.net.untaken import UNTAKEN_ANSWERS, Share
from edge.net.uploads import Uploads
from edge.observe import OWN, redact
from edge.policy.chain import Origin, Policy
from edge_backend import wire

logger = logging.getLogger("edge.net")

# Content goes to TLS and the socket in pieces of about this size, so that no more than that is beyond recall.
_PIECE = 64 * 1024
# Fields of a 101 that are the handshake's in HTTP/1.1 (RFC 8441 section 5).
_HANDSHAKE = frozenset((b"sec-websocket-accept", b"connection", b"upgrade"))

_ANSWER, _IDLE, _WRITE, _LINGER = Phase.ANSWER, Phase.IDLE, Phase.WRITE, Phase.LINGER


class Http2ClientConnection:
    """The requests and answers of one client connection."""

    __slots__ = (
        "_answers",
        "_core",
        "_edge",
        "_exchanges",
        "_farewell",
        "_is_flushing",
        "_later",
        "_origin",
        "_policy",
        "_requests",
        "_untaken",
        "_uploads",
        "stream",
    )

    def __init__(self, edge: Edge, policy: Policy, origin: Origin, stream: ClientStream, before: Connection) -> None:
        self.stream = stream
        self._edge = edge
        self._policy = policy
        self._origin = origin
        self._core = Http2Connection(edge.field_memory, edge.http2_limits)
        self._answers = self._core.answers
        self._exchanges: dict[int, Exchange] = {}
        self._uploads = Uploads(self._core)
        self._requests = 0
        self._is_flushing = False
        self._later: Callable[[Callable[[], None]], object] = asyncio.get_running_loop().call_soon
        self._untaken = Share(edge.untaken, monotonic())
        self._farewell = Farewell(self._core)
        edge.replace(before, self)
        self._flush_later()

    # The stream's calls.

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        now = monotonic()
        for event in self._core.receive(data, now):
            kind = type(event)
            if kind is RequestHead:
                self._begin(event, now)  # type: ignore[arg-type]
            elif kind is Data:
                self._feed(event, now)  # type: ignore[arg-type]
            else:
                self._receive_rare(event)  # type: ignore[arg-type]
        self._flush_later()

    def receive_plain_http(self) -> None:
        """Not before HTTP/2 was agreed on, and so never."""

    def receive_end(self) -> None:
        """The client has closed its side: it has left (nginx: 499)."""
        exchanges, self._exchanges = self._exchanges, {}
        self._uploads.clear()
        for exchange in exchanges.values():
            self._give_up(exchange, "the client left")

    def forget(self) -> None:
        """The connection is lost, or closed."""
        self.receive_end()
        self._untaken.count(0)
        self._edge.forget(self)

    def identify(self, identity: Identity | None) -> None:
        """Not after HTTP/2 was agreed on, and so never."""

    def to_http2(self) -> Http2ClientConnection:
        """It is HTTP/2 already."""
        return self

    def resume(self) -> None:
        """The client takes bytes again."""
        self._core.sender.block(is_blocked=False)
        self._flush()
        if not self.stream.is_congested:
            self.stream.read_on()
            for exchange in list(self._exchanges.values()):
                exchange.settle()

    def expire(self, phase: Phase) -> None:
        """A head did not come in time, or no request for the keep-alive time."""
        if phase is Phase.HEAD:
            logger.info("%s: connection closed: no whole head in time", self.address)
        self.close()

    # The process's calls.

    def sweep(self, now: float) -> None:
        """Refuse content that comes too slowly, and end answers of which the client takes nothing."""
        if self._uploads:
            for number, reason in self._uploads.late(now, self._edge.body_idle, self._edge.body_min_rate):
                self._end_early(self._exchanges[number], 408, reason)
        if self._core.sender.answered:
            self._core.end_late()
            self._flush_later()
        sender = self._core.sender
        if self._untaken.is_stalled(now, sender.waiting, sender.sent - self.stream.unsent, self._edge.write_stall):
            self._end_stalled()
        if self._farewell.is_begun:
            self._farewell.go_on(now)
            self._flush_later()

    def drain(self) -> None:
        """The server is going away: say so soon, take what is under way, and close when it has ended."""
        self._farewell.begin(monotonic())
        self._flush_later()

    def part(self, now: float) -> None:
        """Another process takes the connections that come: say so, and close when what is under way has ended."""
        self.drain()

    def cut_off(self) -> None:
        """The server ends now: answer 503 where there is no answer yet, break off what has begun."""
        for exchange in list(self._exchanges.values()):
            self._end_early(exchange, 503, "the server stopped", RETRY_SOON)
        self.close()

    @property
    def is_idle(self) -> bool:
        """True between two requests."""
        return self.stream.phase is _IDLE

    @property
    def address(self) -> str:
        """The peer, for messages."""
        return self._origin.address.decode()

    # What the core reports.

    def _begin(self, head: RequestHead, now: float) -> None:
        edge = self._edge
        self._requests += 1
        exchange = Exchange(self, head, edge.clock.next_id(), self._origin.address, now)
        self._exchanges[head.stream] = exchange
        if not head.complete:
            self._uploads.begin(head.stream, now, is_timed=not head.expect and not head.upgrade)
        if self._requests >= edge.max_requests or edge.is_draining:
            self.drain()
        try:
            submit(edge, self._policy, self._origin, exchange)
        except Refused as answer:
            self.refuse(exchange, answer.status, answer.reason, answer.fields, answer.content)

    def _feed(self, data: Data, now: float) -> None:
        exchange = self._exchanges.get(data.stream)
        if exchange is None:
            self._core.consumed(data.stream, len(data.body))
            return
        self._uploads.receive(data.stream, len(data.body), now, is_last=data.complete)
        if exchange.feed(data.body, data.complete):
            self._uploads.hand_on(data.stream)

    def _receive_rare(self, event: Refusal | Reset | Failure) -> None:
        if isinstance(event, Refusal):
            self._refuse_request(event)
        elif isinstance(event, Reset):
            self._uploads.forget(event.stream)
            exchange = self._exchanges.pop(event.stream, None)
            if exchange is not None:
                self._give_up(exchange, "the client gave the request up")
        else:
            logger.warning("%s: connection closed: %s", self.address, event.reason)
            self.receive_end()

    def _give_up(self, exchange: Exchange, reason: str) -> None:
        """Nobody waits for an answer any more."""
        is_open = exchange.head.upgrade and exchange.answered
        if is_open and exchange.link is not None:
            exchange.feed(b"", True)
        exchange.withdraw()
        if exchange.is_held:
            self._core.hold()
        log_end(self._edge, exchange, self.stream, exchange.status or 499, "" if is_open else reason)

    def _refuse_request(self, refusal: Refusal) -> None:
        """Answer what could not be read, a head or content, in the place of the request that it is or belongs to."""
        exchange = self._exchanges.get(refusal.stream)
        if exchange is None:
            # Stands in for a head that could not be read, for the log.
            head = RequestHead(refusal.stream, b"-", b"-", b"2", b"")
            exchange = Exchange(self, head, self._edge.clock.next_id(), self._origin.address, monotonic())
            self._exchanges[refusal.stream] = exchange
        # The reason may quote a target, with the secrets in it.
        self._end_early(exchange, refusal.status, redact(refusal.reason.encode()).decode(), refusal.fields)

    def _end_early(self, exchange: Exchange, status: int, reason: str, fields: FieldPairs = ()) -> None:
        """Refuse a request that may be with a worker; if its answer has begun, break that off."""
        exchange.withdraw()
        if exchange.answered:
            self.abort_exchange(exchange, reason)
        else:
            self.refuse(exchange, status, reason, fields)

    # What the exchange wants.

    @property
    def answer_window(self) -> int:
        """What a worker may send of an answer before the client takes it, in bytes: the answer's share."""
        if self._edge.untaken.size < UNTAKEN_ANSWERS:
            return wire.INITIAL_WINDOW
        # Not only those of exchanges: answers that are whole may wait for their client yet.
        return self._untaken.narrow_window(len(self._core.streams))

    @property
    def files(self) -> FileSender | None:
        """Who sends files that an application names."""
        return self._edge.files

    def is_congested(self, exchange: Exchange) -> bool:
        """Tell whether more of an answer has been written than the client takes."""
        stream = self._core.streams.get(exchange.head.stream)
        return self.stream.is_congested or (stream is not None and stream.waiting > 0)

    def send_response(self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        """Send an answer's head and first content; all of it when `flags` has END.

        Raises ProtocolError if the content is not what the head announces.
        """
        if self._policy.has_hsts:
            fields = self._policy.add_hsts(exchange.head.host, fields)
        own = self._edge.clock.fields[flags & OWN]
        end = flags & wire.END != 0
        head, status = exchange.head, exchange.status
        self._answers.send_response(head, status, length, fields, own, exchange.request_id, body, end)
        if head.method != b"HEAD":
            exchange.written = len(body)
        if not self._is_flushing:
            self._flush_later()

    def send_data(self, exchange: Exchange, body: bytes) -> None:
        """Send content of the answer, or bytes of a WebSocket.

        Raises ProtocolError if it is more than the head announced.
        """
        self._answers.send_content(exchange.head.stream, body)
        exchange.written += len(body)
        self._flush_later()

    def send_end(self, exchange: Exchange, trailers: list[bytes]) -> None:
        """Send what ends the answer.

        Raises ProtocolError if content is missing.
        """
        self._answers.send_end(exchange.head.stream, trailers)
        self._flush_later()

    def send_continue(self, exchange: Exchange) -> None:
        """Tell the client to send its content."""
        self._answers.send_informational(exchange.head.stream, 100)
        self._uploads.ask(exchange.head.stream, monotonic())
        self._flush_later()

    def send_upgrade(self, exchange: Exchange, fields: list[bytes]) -> None:
        """Accept a WebSocket (RFC 8441 section 5); opaque bytes from here on."""
        exchange.status = 200
        kept: list[bytes] = []
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if name not in _HANDSHAKE:
                kept += (name, value)
        self.send_response(exchange, b"", kept, 0, b"")

    def want_content(self, exchange: Exchange) -> None:
        """The worker has room for content again."""
        if self._uploads.go_on(exchange.head.stream, monotonic()):
            self._flush_later()

    def refuse(
        self, exchange: Exchange, status: int, reason: str, fields: FieldPairs = (), content: bytes | None = None
    ) -> None:
        """Answer a request that was read but will not be served, or got no answer; `reason` is for the log.

        Without `content`, the answer is the page of the status.
        """
        if self._exchanges.get(exchange.head.stream) is not exchange:
            return
        note_refusal(exchange, self.address, status, reason)
        lines, body = make_refusal(self._policy, exchange, fields, content)
        self.send_response(exchange, b"%d" % len(body), lines, wire.END, body)
        self.finished(exchange)

    def abort_exchange(self, exchange: Exchange, reason: str) -> None:
        """An answer that has begun cannot be completed: reset its stream, so that the client does not take it for
        whole (RFC 9113 section 8.1)."""
        number = exchange.head.stream
        if self._exchanges.get(number) is not exchange:
            return
        logger.warning("%s: %s broken off: %s", self.address, describe(exchange), reason)
        self._core.reset(number, Code.INTERNAL_ERROR)
        self._forget_exchange(exchange)
        log_end(self._edge, exchange, self.stream, exchange.status, reason)
        self._flush_later()

    def finished(self, exchange: Exchange) -> None:
        """The exchange is over: log it."""
        self._forget_exchange(exchange)
        exchange.finished_at = monotonic()
        access_log = self._edge.access_log
        if access_log is not None:
            access_log.write(exchange, self.stream.tls_version)
        if not self._is_flushing:
            self._flush_later()

    def released(self, exchange: Exchange) -> None:
        """The worker has done with a request whose client had left."""
        exchange.is_held = False
        self._core.release()

    # Below: how.

    def _forget_exchange(self, exchange: Exchange) -> None:
        number = exchange.head.stream
        self._exchanges.pop(number, None)
        if self._uploads:
            self._uploads.forget(number)
        if exchange.is_held:
            self._core.hold()

    def _end_stalled(self) -> None:
        """End the answers that wait for their client: it takes next to nothing."""
        core = self._core
        for stream in [stream for stream in core.streams.values() if stream.waiting]:
            exchange = self._exchanges.get(stream.id)
            if exchange is None:
                core.reset(stream.id, Code.CANCEL)  # all of it had been written, as far as the log knows
            else:
                self._end_early(exchange, 0, "the client takes no bytes of its answer")
        self._flush_later()

    def close(self) -> None:
        """Close: it is idle, or nothing more can be done."""
        self._core.refuse_more()
        self._flush()
        self.stream.close()

    def _flush_later(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self._later(self._flush)

    def _flush(self) -> None:
        """Write what the client takes, and enter the phase that the connection is in now."""
        self._is_flushing = False
        stream, sender, farewell = self.stream, self._core.sender, self._farewell
        if stream.phase >= _LINGER:
            return
        while not stream.is_congested:
            data = sender.take(_PIECE)
            if farewell.is_due and not self._core.streams:
                farewell.announce(monotonic())
                data += sender.take(0)  # in one piece with the end of the last answer
            if not data:
                break
            stream.send(data)
        else:
            sender.block(is_blocked=True)
        if sender.waiting != self._untaken.size:
            self._untaken.count(sender.waiting)
        if sender.drained:
            drained, sender.drained = sender.drained, []
            for number in drained:
                exchange = self._exchanges.get(number)
                if exchange is not None:
                    exchange.settle()
        self._enter_phase()

    def _enter_phase(self) -> None:
        stream, core = self.stream, self._core
        phase = stream.phase
        if core.is_over:
            stream.send(core.sender.take(0))  # GOAWAY, also behind what the client does not take
            stream.linger()
        elif phase >= _WRITE:
            if phase is _WRITE:
                stream.pause()  # frames that answer the client's would gather
        elif core.is_within_head:
            if phase is not Phase.HEAD:
                stream.enter(Phase.HEAD)
        elif self._exchanges or core.streams:
            if phase is not _ANSWER:
                stream.wait_answer()
        elif core.is_closing:
            stream.linger()
        elif phase is not _IDLE:
            stream.wait_request(monotonic())
