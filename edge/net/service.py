"""What client connections of every version of HTTP share: the process they belong to, and the one way of a request."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

from edge.dispatch.exchange import Exchange
from edge.dispatch.gate import Finder
from edge.dispatch.intake import RETRY_SOON, Intake, TooLarge
from edge.dispatch.sides import FileSender
from edge.dispatch.target import Overloaded
from edge.http.field import FieldMemory
from edge.http.head import HeadParser
from edge.http.http2 import Http2Limits
from edge.net.stream import ClientStream
from edge.net.untaken import Untaken
from edge.observe import AccessLog, Clock, redact
from edge.policy.chain import Answered, Origin, Policy
from edge.policy.pages import TEXT

logger = logging.getLogger("edge.net")

# Content must keep its minimum rate from here on; a slow start is allowed (Apache's reqtimeout: body=20).
RATE_GRACE = 20.0

FieldPairs = tuple[tuple[bytes, bytes], ...]


class Connection(Protocol):
    """A client connection, as its process sees it."""

    stream: ClientStream

    @property
    def is_idle(self) -> bool:
        """True between two requests."""

    @property
    def address(self) -> str:
        """The peer, for messages."""

    def sweep(self, now: float) -> None:
        """Look at what has a deadline beside the stream's one."""

    def drain(self) -> None:
        """The server is going away: close when what runs has ended."""

    def part(self, now: float) -> None:
        """Another process takes the connections that come: end this one so that its client loses nothing."""

    def close(self) -> None:
        """Close: it is idle."""

    def cut_off(self) -> None:
        """The server ends now."""


class Edge(Protocol):
    """What all connections of a process share; edge.process.EdgeProcess is it."""

    head_parser: HeadParser
    field_memory: FieldMemory
    http2_limits: Http2Limits
    clock: Clock
    access_log: AccessLog | None
    router: Finder
    files: FileSender | None
    intake: Intake
    untaken: Untaken
    max_body: int
    max_requests: int
    body_idle: float
    body_min_rate: int
    write_stall: float
    is_draining: bool

    def admit(self, connection: Connection) -> None:
        """Take a new connection, or abort it."""

    def replace(self, before: Connection, after: Connection) -> None:
        """The peer turned out to speak another version."""

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""


class Refused(Exception):
    """A request that goes to no worker: its answer."""

    def __init__(self, status: int, reason: str, fields: FieldPairs, content: bytes | None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields
        self.content = content


def submit(edge: Edge, policy: Policy, origin: Origin, exchange: Exchange) -> None:
    """Let a request through the policies and to whoever serves it.

    Raises Refused if it does not get there.
    """
    try:
        request, exchange.request_id, exchange.client_address = policy.apply(exchange.head, origin, exchange.request_id)
        exchange.target = target = edge.router.find(exchange.head)
        if exchange.head.complete:
            target.submit(exchange, request)
        else:
            edge.intake.submit(target, exchange, request)
    except Answered as answer:
        raise Refused(answer.status, answer.reason, answer.fields, answer.content) from None
    except Overloaded as error:
        raise Refused(503, str(error), RETRY_SOON, None) from None
    except TooLarge as error:
        raise Refused(413, str(error), (), None) from None


def note_refusal(exchange: Exchange, address: str, status: int, reason: str) -> None:
    """Put down why a request is refused; `reason` is for the log. `make_refusal` is next."""
    if reason:
        logger.warning("%s: %s refused with %d: %s", address, describe(exchange), status, reason)
    exchange.status = status
    exchange.reason = reason
    exchange.answered = True


def make_refusal(
    policy: Policy, exchange: Exchange, fields: FieldPairs, content: bytes | None
) -> tuple[list[bytes], bytes]:
    """Return the fields of a refusal, names and values in turn, and its content: else the page of its status."""
    media_type = TEXT
    lines: list[bytes] = []
    if content is None:
        media_type, content = policy.page(exchange.head, exchange.status, exchange.request_id)
        # Which of the forms it is, hangs on the request.
        lines += (b"vary", b"accept")
    for field in fields:
        lines += field
    return [b"content-type", media_type, *lines], content


def log_end(edge: Edge, exchange: Exchange, stream: ClientStream, status: int, reason: str) -> None:
    """Put a request down whose end is not that of its answer."""
    exchange.status = status
    exchange.reason = reason
    exchange.finished_at = monotonic()
    if edge.access_log is not None:
        edge.access_log.write(exchange, stream.tls_version)


def describe(exchange: Exchange) -> str:
    """Return method and target of a request, for messages; one that could not be read has none."""
    head = exchange.head
    if head.method == b"-":
        return "request"
    target = redact(head.target)[:100].decode("latin-1")
    return f"{head.method.decode('latin-1')} {target!r}"
