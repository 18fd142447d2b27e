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
from edge.net.service import (
    RATE_GRACE,
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
from edge.observe import redact
from edge.policy.chain import Origin, Policy
from edge_backend import wire

logger = logging.getLogger("edge.net")

# As long as all connections of the process hold less than this, each answer has the whole window of the wire: a client
# that takes nothing frees the worker, however many requests it has open.
UNTAKEN_ANSWERS = 64 * 1024 * 1024
# Beyond that, what of all answers together a connection may hold that its client has not taken.
ANSWERS_WINDOW = 1024 * 1024
# Content goes to TLS and the socket in pieces of about this size, so that no more than that is beyond recall.
_PIECE = 64 * 1024
# A client that takes less of what waits for it, within the time for a write to stall, takes nothing.
LEAST_PROGRESS = 16 * 1024
# Between saying that the connection will be closed, and taking no more requests: one round trip of most clients.
FAREWELL = 1.0
# Fields of a 101 that are the handshake's in HTTP/1.1 (RFC 8441 section 5).
_HANDSHAKE = frozenset((b"sec-websocket-accept", b"connection", b"upgrade"))

_OWN_FIELDS = wire.HAS_DATE | wire.HAS_SERVER
_ANSWER, _IDLE, _WRITE, _LINGER = Phase.ANSWER, Phase.IDLE, Phase.WRITE, Phase.LINGER


class _Upload:
    """Content that a client is sending: when it began, when the last of it came, how much, and what waits here."""

    __slots__ = ("began_at", "came_at", "is_timed", "size", "waiting")

    def __init__(self, now: float, *, is_timed: bool) -> None:
        self.is_timed = is_timed  # it is the client that has to go on
        self.began_at = now
        self.came_at = now
        self.size = 0
        self.waiting = 0  # bytes that no worker has taken yet


class Http2ClientConnection:
    """The requests and answers of one client connection."""

    __slots__ = (
        "_closing_at",
        "_core",
        "_edge",
        "_exchanges",
        "_is_flushing",
        "_later",
        "_origin",
        "_policy",
        "_progress",
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
        self._exchanges: dict[int, Exchange] = {}
        self._uploads: dict[int, _Upload] = {}
        self._requests = 0
        self._is_flushing = False
        self._later: Callable[[Callable[[], None]], object] = asyncio.get_running_loop().call_soon
        self._untaken = 0  # what the process counts for this connection
        self._closing_at = 0.0  # when no more requests are taken; 0: the connection goes on
        self._progress = (monotonic(), 0)  # when it was looked at last how much the client has taken
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
        self._count_untaken(0)
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
        for number, upload in list(self._uploads.items()):
            self._check_upload(number, upload, now)
        if self._core.sender.answered:
            self._core.end_late()
            self._flush_later()
        if self._core.sender.waiting:
            self._check_progress(now)
        else:
            self._progress = (now, self._core.sender.sent)
        if self._closing_at and now >= self._closing_at:
            self._core.refuse_more()
            self._flush_later()

    def drain(self) -> None:
        """The server is going away: say so, take what is under way, and close when it has ended."""
        if not self._closing_at:
            self._closing_at = monotonic() + FAREWELL
            self._core.announce_end()
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
            self._uploads[head.stream] = _Upload(now, is_timed=not head.expect and not head.upgrade)
        if self._requests >= edge.max_requests or edge.is_draining:
            self.drain()
        try:
            submit(edge, self._policy, self._origin, exchange)
        except Refused as answer:
            self.refuse(exchange, answer.status, answer.reason, answer.fields, answer.content)

    def _feed(self, data: Data, now: float) -> None:
        exchange = self._exchanges.get(data.stream)
        size = len(data.body)
        if exchange is None:
            self._core.consumed(data.stream, size)
            return
        upload = self._uploads[data.stream]
        upload.came_at = now
        upload.is_timed = upload.is_timed and not data.complete
        upload.size += size
        upload.waiting += size
        if exchange.feed(data.body, data.complete):
            self._core.consumed(data.stream, upload.waiting)
            upload.waiting = 0

    def _receive_rare(self, event: Refusal | Reset | Failure) -> None:
        if isinstance(event, Refusal):
            self._refuse_request(event)
        elif isinstance(event, Reset):
            self._forget_upload(event.stream)
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
        share = ANSWERS_WINDOW // (len(self._core.streams) or 1)
        return max(wire.NARROW_WINDOW, min(wire.INITIAL_WINDOW, share))

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
        own = self._edge.clock.fields if not flags & _OWN_FIELDS else self._own_fields(flags)
        end = flags & wire.END != 0
        head, status = exchange.head, exchange.status
        self._core.send_response(head, status, length, fields, own, exchange.request_id, body, end)
        if head.method != b"HEAD":
            exchange.written = len(body)
        if not self._is_flushing:
            self._flush_later()

    def send_data(self, exchange: Exchange, body: bytes) -> None:
        """Send content of the answer, or bytes of a WebSocket.

        Raises ProtocolError if it is more than the head announced.
        """
        self._core.send_content(exchange.head.stream, body)
        exchange.written += len(body)
        self._flush_later()

    def send_end(self, exchange: Exchange, trailers: list[bytes]) -> None:
        """Send what ends the answer.

        Raises ProtocolError if content is missing.
        """
        self._core.send_end(exchange.head.stream, trailers)
        self._flush_later()

    def send_continue(self, exchange: Exchange) -> None:
        """Tell the client to send its content."""
        self._core.send_informational(exchange.head.stream, 100)
        upload = self._uploads.get(exchange.head.stream)
        if upload is not None:
            upload.began_at = upload.came_at = monotonic()
            upload.is_timed = True  # until now the client was not the one to wait for
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
        upload = self._uploads.get(exchange.head.stream)
        if upload is not None and upload.waiting:
            self._core.consumed(exchange.head.stream, upload.waiting)
            upload.waiting = 0
            upload.began_at = upload.came_at = monotonic()
            upload.size = 0
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

    def _own_fields(self, flags: int) -> list[bytes]:
        """Return the fields that the edge sets; the application's own Date and Server win."""
        return self._edge.clock.fields_beside(
            has_date=flags & wire.HAS_DATE != 0, has_server=flags & wire.HAS_SERVER != 0
        )

    def _forget_exchange(self, exchange: Exchange) -> None:
        number = exchange.head.stream
        self._exchanges.pop(number, None)
        if self._uploads:
            self._forget_upload(number)
        if exchange.is_held:
            self._core.hold()

    def _forget_upload(self, number: int) -> None:
        """Drop what waits of a request: other requests of the connection may have its room."""
        upload = self._uploads.pop(number, None)
        if upload is not None and upload.waiting:
            self._core.consumed(number, upload.waiting)

    def _check_upload(self, number: int, upload: _Upload, now: float) -> None:
        if not upload.is_timed:
            return
        if upload.waiting:
            upload.came_at = now  # it is the worker that is slow
        elif now - upload.came_at > self._edge.body_idle:
            self._end_early(self._exchanges[number], 408, "content stopped coming")
        elif self._edge.body_min_rate and now - upload.began_at > RATE_GRACE:
            least, rate = self._edge.body_min_rate, upload.size / (now - upload.began_at)
            if rate < least:
                reason = f"content comes at {rate:.0f} bytes/s, at least {least} expected"
                self._end_early(self._exchanges[number], 408, reason)

    def _check_progress(self, now: float) -> None:
        """End the answers that wait for their client, when it has taken next to nothing for too long."""
        since, sent = self._progress
        core = self._core
        if now - since < self._edge.write_stall:
            return
        self._progress = (now, core.sender.sent)
        if core.sender.sent - sent >= LEAST_PROGRESS:
            return
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
        stream, sender = self.stream, self._core.sender
        if stream.phase >= _LINGER:
            return
        while not stream.is_congested:
            data = sender.take(_PIECE)
            if not data:
                break
            stream.send(data)
        else:
            sender.block(is_blocked=True)
        if sender.waiting != self._untaken:
            self._count_untaken(sender.waiting)
        if sender.drained:
            drained, sender.drained = sender.drained, []
            for number in drained:
                exchange = self._exchanges.get(number)
                if exchange is not None:
                    exchange.settle()
        self._enter_phase()

    def _count_untaken(self, size: int) -> None:
        self._edge.untaken.size += size - self._untaken
        self._untaken = size

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
