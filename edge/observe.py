"""What the operator sees: the access log, and the clock and numbers that every answer needs.

A request that is over is put down with two references; its line is made later, together with others, in one formatting
call, and they leave in one system call, or a few.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from select import PIPE_BUF
from typing import TYPE_CHECKING, Protocol, TextIO

from edge.config_answers import AnswerSettings
from edge.config_logs import LogSettings
from edge.errors import ConfigError
from edge.http.fields import TRACE
from edge.http.trace import find_trace
from edge_backend import wire
from edge_backend.errors import LoadError
from edge_backend.log_config import apply_log_config
from edge_backend.log_formatters import ColorFormatter, paint_status

if TYPE_CHECKING:
    from edge.counts import Counts
    from edge.dispatch.exchange import Exchange

logger = logging.getLogger("edge.access")

# What an answer may have of its own that the edge would set.
OWN = wire.HAS_DATE | wire.HAS_SERVER
# Lines leave together, at the latest after so many; the process's tick flushes what is there. Few enough that what a
# request was made of is used again while it is still in the cache.
FLUSH_COUNT = 64

# Query parameters that carry secrets by their name (reference: what log redaction lists agree on).
_SECRETS = re.compile(
    rb"([?&;](?:[A-Za-z0-9_.-]*(?:token|secret|passw(?:or)?d|api[_-]?key|signature)|key|code|sig|auth)=)[^&;#\s]*",
    re.IGNORECASE,
)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f-\xff\"\\]")

_JSON_LINE = (
    b'{"time":"%b","request_id":"%b","client":"%b","method":"%b","host":"%b","target":"%b","version":"%b","status":%d,'
    b'"bytes_in":%d,"bytes_out":%d,"duration_us":%d,"queue_us":%d,"app_us":%d,"worker":%d,"tls":"%b"%b}\n'
)
_CONSOLE_LINE = b'%b %b "%b %b HTTP/%b" %b %d bytes in %.1f ms (queue %.1f, app %.1f) worker %d %b %b%b\n'


STDOUT = 1

# Requests that are over, each with the version of TLS; and what makes a line of each.
Finished = Sequence[tuple["Exchange", bytes]]
Form = Callable[["Exchange", bytes], bytes]


class Output(Protocol):
    """Where lines of the access log go, if it is not standard output."""

    def write(self, finished: Finished, plain: Form) -> None:
        """Write the lines, which `plain` makes where no format was asked for. Raises OSError."""

    def reopen(self) -> None:
        """Begin a new file, if there is a file: the old one has been moved away."""

    def close(self) -> None:
        """Close what was opened for it."""


class Clock:
    """What changes once a second or once a request: the time of day, and request ids.

    `answers` says which fields every answer has beside its request id.
    """

    __slots__ = (
        "_answers",
        "_counter",
        "_others",
        "_prefix",
        "_second",
        "_server",
        "date",
        "fields",
        "lines",
        "stamp",
    )

    def __init__(self, answers: AnswerSettings = AnswerSettings()) -> None:  # noqa: B008  # frozen
        self._answers = answers
        named = [value for name, value in answers.fields if name == b"server"]
        self._server = named[-1] if named else b"edge" if answers.server else b""
        self._others = [part for name, value in answers.fields if name != b"server" for part in (name, value)]
        # An id is unique, not secret: random per process, counted within it.
        self._prefix = secrets.token_hex(6).encode()
        self._counter = 0
        self._second = 0
        self.date = b""
        self.stamp = b""
        # What the edge sets on an answer, by what that has of its own (`flags & OWN`): names and values in turn, and as
        # lines up to the value of X-Request-ID.
        self.fields: dict[int, list[bytes]] = {}
        self.lines: dict[int, bytes] = {}
        self.tick(time.time())

    def tick(self, now: float) -> None:
        """Bring the texts up to date; `now` is the wall clock's time in seconds."""
        second = int(now)
        if second != self._second:
            self._second = second
            self.date = formatdate(second, usegmt=True).encode()
            for flags in (0, wire.HAS_DATE, wire.HAS_SERVER, OWN):
                self.fields[flags] = fields = self._fields_beside(flags)
                pairs = zip(fields[::2], fields[1::2], strict=True)
                self.lines[flags] = b"".join([b"%b: %b\r\n" % pair for pair in pairs]) + b"x-request-id: "
        milliseconds = int(now * 1000) % 1000
        self.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode() + b".%03dZ" % milliseconds

    def _fields_beside(self, flags: int) -> list[bytes]:
        fields: list[bytes] = []
        if self._answers.date and not flags & wire.HAS_DATE:
            fields += (b"date", self.date)
        if self._server and not flags & wire.HAS_SERVER:
            fields += (b"server", self._server)
        return fields + self._others

    def next_id(self) -> bytes:
        """Return a new request id: 12 random hex digits of this process, 8 that count."""
        self._counter += 1
        return b"%b%08x" % (self._prefix, self._counter)


class AccessLog:
    """One line for each request, to a file descriptor (None: no lines), and its share of the counts."""

    __slots__ = ("_clock", "_colors", "_counts", "_descriptor", "_encode", "_finished", "_later", "_lost", "_output")

    def __init__(
        self,
        descriptor: int | None,
        *,
        json_lines: bool,
        clock: Clock,
        later: Callable[[], object],
        counts: Counts | None = None,
        colors: bool = False,
        output: Output | None = None,
    ) -> None:
        """`later` has `flush()` called soon; it is called when the first line is put down.

        With an `output`, requests go there and not to the descriptor.
        """
        self._descriptor = descriptor
        self._colors = colors
        self._output = output
        self._encode = self._encode_json if json_lines else self._encode_console
        self._clock = clock
        self._counts = counts
        self._later = later
        self._finished: list[tuple[Exchange, bytes]] = []
        self._lost = 0

    def write(self, exchange: Exchange, tls: bytes) -> None:
        """Log a request that is over; `tls` is the protocol's version, or empty."""
        if not self._finished:
            self._later()
        self._finished.append((exchange, tls))
        if len(self._finished) >= FLUSH_COUNT:
            self.flush()

    def flush(self) -> None:
        """Count and write what has gathered."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        if self._counts is not None:
            self._counts.add(finished)
        try:
            if self._output is not None:
                self._output.write(finished, self._encode)
            elif self._descriptor is not None:
                write_lines(self._descriptor, b"".join([self._encode(exchange, tls) for exchange, tls in finished]))
        except OSError as error:
            # A full disk or a closed pipe must not end a request.
            if not self._lost:
                logger.warning("access log: %s; lines are lost until it can be written again", error.strerror)
            self._lost += len(finished)
            return
        if self._lost:
            logger.warning("access log: it can be written again; up to %d lines were lost", self._lost)
            self._lost = 0

    def reopen(self) -> None:
        """Begin a new file, if there is a file."""
        if self._output is not None:
            self.flush()
            self._output.reopen()

    def _encode_json(self, exchange: Exchange, tls: bytes) -> bytes:
        head = exchange.head
        started, sent, finished = exchange.started_at, exchange.sent_at, exchange.finished_at
        return _JSON_LINE % (
            self._clock.stamp,
            exchange.request_id,
            exchange.client_address,
            head.method,
            head.host,
            clean_target(head.target),
            head.version,
            exchange.status,
            exchange.content_read,
            exchange.written,
            (finished - started) * 1e6,
            (sent - exchange.ready_at) * 1e6 if sent else 0,
            (finished - sent) * 1e6 if sent else 0,
            exchange.worker,
            tls,
            _rest_of_json(exchange) if exchange.reason or head.flags & TRACE else b"",
        )

    def _encode_console(self, exchange: Exchange, tls: bytes) -> bytes:
        head = exchange.head
        started, sent, finished = exchange.started_at, exchange.sent_at, exchange.finished_at
        return _CONSOLE_LINE % (
            self._clock.stamp,
            exchange.client_address,
            head.method,
            clean_target(head.target),
            head.version,
            _paint(exchange.status) if self._colors else b"%d" % exchange.status,
            exchange.written,
            (finished - started) * 1e3,
            (sent - exchange.ready_at) * 1e3 if sent else 0,
            (finished - sent) * 1e3 if sent else 0,
            exchange.worker,
            tls or b"plain",
            exchange.request_id,
            b" " + escape(exchange.reason.encode()) if exchange.reason else b"",
        )


def _rest_of_json(exchange: Exchange) -> bytes:
    """Return what most lines do not have."""
    trace, span = find_trace(exchange.head.lines)
    found = b',"trace_id":"%b","span_id":"%b"' % (trace, span) if trace else b""
    return found + (b',"error":' + json.dumps(exchange.reason).encode() if exchange.reason else b"")


def write_lines(descriptor: int, lines: bytes) -> None:
    """Write lines so that none is broken by what another edge writes to the same pipe. Raises OSError.

    A pipe takes PIPE_BUF bytes in one piece (POSIX, write); more than that only while it has room, and the rest when
    its reader has made some, behind what others have written meanwhile. A line longer than that may be broken.
    """
    while len(lines) > PIPE_BUF:
        end = lines.rfind(b"\n", 0, PIPE_BUF) + 1 or lines.find(b"\n") + 1 or len(lines)
        _write_all(descriptor, lines[:end])
        lines = lines[end:]
    _write_all(descriptor, lines)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def redact(text: bytes) -> bytes:
    """Return a target, or a message that quotes one, without the values of query parameters that are secrets."""
    return _SECRETS.sub(rb"\1[redacted]", text)


def clean_target(target: bytes) -> bytes:
    """Return the target for a log: no secret of the query, and nothing that could end the string."""
    if b"?" in target:
        target = redact(target)
    return escape(target) if b'"' in target else target


def escape(text: bytes) -> bytes:
    """Return text with control characters, quotes and non-ASCII as \\xNN: no log line can be forged."""
    return _CONTROL.sub(lambda match: b"\\\\x%02x" % match[0][0], text)


def _paint(status: int) -> bytes:
    return paint_status(status, str(status)).encode()


def wants_colors(wish: bool | None, stream: TextIO) -> bool:
    """Tell whether to write in colours: as said, or on a terminal whose user has not set NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") if wish is None else wish


def wants_json(logs: LogSettings) -> bool:
    """Tell whether the access log is JSON: as said, or when standard output is not a terminal."""
    if logs.line in ("json", "console"):
        return logs.line == "json"
    return logs.format == "json" or (logs.format == "auto" and not sys.stdout.isatty())


def say(line: str) -> None:
    """Tell the operator one thing at the start."""
    print(f"edge: {line}", file=sys.stderr, flush=True)


def set_up_logging(logs: LogSettings) -> str:
    """Send what the server itself has to say to standard error, one line each, or where `--log-config` says.

    Returns the logger that `--log-config` has for the access log, empty if there is none.

    Raises ConfigError if that file is of no use.
    """
    # `trace` is of the workers.
    level = "DEBUG" if logs.level == "trace" else logs.level.upper()
    logger = logging.getLogger("edge")
    if logs.config:
        try:
            return apply_log_config(logs.config)
        except LoadError as error:
            raise ConfigError(str(error)) from None
    handler = logging.StreamHandler(sys.stderr)
    kind = ColorFormatter if wants_colors(logs.colors, sys.stderr) else logging.Formatter
    formatter = kind("%(asctime)s %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03dZ"
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    return ""


@contextlib.contextmanager
def logging_set_up(logs: LogSettings) -> Iterator[str]:
    """Do the same within the block, in a program whose logging is its own; what `--log-config` says of others stays."""
    logger = logging.getLogger("edge")
    before = logger.handlers[:], logger.propagate, logger.parent, logger.level
    try:
        yield set_up_logging(logs)
    finally:
        logger.handlers[:], logger.propagate, logger.parent, level = before
        logger.setLevel(level)
