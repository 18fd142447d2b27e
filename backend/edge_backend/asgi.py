"""One HTTP request as ASGI sees it: receive and send (HTTP specification 2.5).

The exchange turns frames of the wire into messages and messages into frames. It does no I/O: it writes through its
link, and the link tells it what came in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol

from . import wire
from .errors import ApplicationError, ClientDisconnected
from .pathsend import send_path
from .scope import Scope

Message = dict[str, Any]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# What an answer's field is to us. Hop-by-hop fields belong to the connection, which the edge owns (RFC 9110 section
# 7.6.1); the ASGI specification asks the server to drop Transfer-Encoding.
_PLAIN, _DROP, _LENGTH, _DATE, _SERVER, _TYPE = range(6)
_KINDS = {
    b"connection": _DROP,
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"transfer-encoding": _DROP,
    b"upgrade": _DROP,
    b"te": _DROP,
    b"content-length": _LENGTH,
    b"date": _DATE,
    b"server": _SERVER,
    b"content-type": _TYPE,
    b"x-edge-file": _DROP,  # ours: see `hand_over`
}


# Whether a head waits for its content, and whether it has done so for a whole tick.
_NO, _YES, _LATE = 0, 1, 2


class Link(Protocol):
    """The connection to one edge, as an exchange uses it."""

    def write(self, frames: bytes) -> None: ...

    @property
    def sendfile_root(self) -> str:
        """The folder out of which the edge sends files; empty: none."""


@lru_cache(maxsize=1024)
def classify_field(name: bytes) -> tuple[bytes, int]:
    """Return an answer's field name in lower case, and what it is to us.

    Raises ApplicationError if it is not a token (RFC 9110 section 5.1).
    """
    if not _TOKEN.fullmatch(name):
        raise ApplicationError(f"response field name {name!r} is not a token (RFC 9110 section 5.1)")
    lower = name.lower()
    return lower, _KINDS.get(lower, _PLAIN)


class HttpExchange:
    """One request and its answer. `receive` and `send` are what the application gets."""

    __slots__ = (
        "_buffer",
        "_complete",
        "_credit",
        "_delivered",
        "_ended",
        "_expect",
        "_fields",
        "_flags",
        "_gone",
        "_has_content",
        "_is_head",
        "_length",
        "_link",
        "_remaining",
        "_started",
        "_status",
        "_stream",
        "_taken",
        "_trailers",
        "_waiters",
        "_waits",
        "scope",
        "task",
    )

    def __init__(self, link: Link, stream: int, flags: int, scope: Scope, body: bytes) -> None:
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self._link = link
        self._stream = stream
        self._buffer = body
        self._ended = flags & wire.END != 0
        self._expect = flags & wire.EXPECT != 0
        self._delivered = False
        self._gone = False
        self._taken = 0  # bytes that the application has taken, and for which no credit went back yet
        self._credit = wire.NARROW_WINDOW if flags & wire.NARROW else wire.INITIAL_WINDOW
        self._waiters: tuple[asyncio.Future[None], ...] = ()
        self._is_head = scope["method"] == "HEAD"
        self._started = False
        self._waits = _NO  # whether the answer's head is made and waits for the first content
        self._status = 0
        self._length = b""
        self._fields = b""
        self._flags = 0
        self._remaining = -1  # bytes of content that Content-Length still announces; -1: not announced
        self._has_content = True
        self._trailers = False
        self._complete = False

    # What the wire tells us.

    def feed_data(self, body: bytes, ended: bool) -> None:
        """Take content of the request from the edge."""
        if not self._complete:
            self._buffer += body
            self._ended = self._ended or ended
            self._wake()

    def feed_credit(self, credit: int) -> None:
        """Take leave to send `credit` bytes more."""
        self._credit += credit
        self._wake()

    def disconnect(self) -> None:
        """The client has gone: `receive()` says so, and `send()` raises."""
        self._gone = True
        self._wake()

    # What the application calls.

    async def receive(self) -> Message:
        """Return the next ASGI message of this request."""
        while not self._delivered and not self._gone and not self._complete:
            if self._buffer or self._ended:
                return self._take()
            if self._expect:
                # The application wants the content: only now may the client be told to send it.
                self._expect = False
                self._link.write(wire.encode_window(self._stream, wire.INITIAL_WINDOW))
            await self._wait()
        while not self._gone and not self._complete:
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one ASGI message of the answer; waits while the client is slower than the application.

        Raises ApplicationError for a message that the specification does not allow here, and ClientDisconnected
        when the client has gone.
        """
        kind = message["type"]
        if kind == "http.response.body":
            body, more = message.get("body", b""), message.get("more_body", False)
            if more or not self._waits or not self._is_whole(body):
                await self._send_body(body, more)
            else:
                self._write_head(body, end=True)
        elif kind == "http.response.start":
            self._send_start(message)
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif kind == "http.response.pathsend" and self._link.sendfile_root:
            await send_path(self, message["path"], self._link.sendfile_root)
        else:
            raise ApplicationError(f"message type {kind!r} is not allowed in an HTTP response")

    def hand_over(self, path: bytes) -> bool:
        """Let the edge send a file in the place of content, and end; False if that is not possible any more.

        `path` is that of the file below the root, quoted as in a URL.
        """
        if not self._waits or self._gone or self._trailers or not (self._has_content or self._is_head):
            return False
        self._fields += b"\nx-edge-file\n" + path
        self._flags |= _LAST_SENT
        self._write_head(b"", end=True)
        return True

    def finish(self) -> bytes | None:
        """The application has returned: give the reason if its answer is not whole."""
        if self._complete or self._gone:
            return None
        if not self._started:
            return b"no-response"
        return b"incomplete"

    def fail(self, reason: bytes) -> None:
        """End the stream before its time; the edge answers 500, or closes when the answer has begun."""
        if not self._complete and not self._gone:
            self._complete = True
            self._waits = _NO
            self._link.write(wire.encode_reset(self._stream, reason))
            self._wake()

    def tick(self) -> bool:
        """Send a head that waits for its content since the last tick: the application takes its time.

        Return whether there is a head still to come, so that another tick is needed.
        """
        if self._waits is _LATE:
            self._write_head(b"", end=False)
            return False
        if self._waits:
            self._waits = _LATE
            return True
        return not self._started and not self._complete

    @property
    def is_gone(self) -> bool:
        """True when the client has left."""
        return self._gone

    # Below: how.

    def _take(self) -> Message:
        body, self._buffer = self._buffer, b""
        self._delivered = self._ended
        if not self._ended:
            self._taken += len(body)
            if self._taken >= wire.WINDOW_STEP:
                self._link.write(wire.encode_window(self._stream, self._taken))
                self._taken = 0
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    def _send_start(self, message: Message) -> None:
        if self._started:
            raise ApplicationError("http.response.start was sent twice")
        if self._gone:
            raise ClientDisconnected("the client has disconnected")
        status: int = message["status"]
        if not 200 <= status <= 599:
            raise ApplicationError(f"status {status!r} is not allowed; a final status is 200 to 599")
        self._trailers = bool(message.get("trailers", False))
        self._has_content = not (self._is_head or status == 204 or status == 304)
        self._encode_start(status, message.get("headers", ()))
        self._started = True
        if self._flags & _IS_STREAM:
            self._write_head(b"", end=False)

    def _encode_start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """Check the answer's fields and keep them until the content is known."""
        flags = 0
        length = b""
        parts: list[bytes] = []
        for name, value in headers:
            name, kind = classify_field(name)
            if kind:
                if kind == _LENGTH:
                    if not value.isdigit() or (length and length != value):
                        raise ApplicationError(f"response field content-length {value!r} is not one number")
                    length = value
                    continue
                if kind == _DROP:
                    continue
                if kind == _DATE:
                    flags |= wire.HAS_DATE
                elif kind == _SERVER:
                    flags |= wire.HAS_SERVER
                elif value.startswith(b"text/event-stream"):
                    flags |= _IS_STREAM
            parts.append(name)
            parts.append(value)
        self._fields = join_fields(parts)
        if length and status != 204:  # RFC 9110 section 8.6: none in a 204
            self._length = length
            if self._has_content:
                self._remaining = int(length)
        self._status = status
        self._flags = flags
        self._waits = _YES

    async def _send_body(self, body: bytes, more: bool) -> None:
        if self._gone:
            raise ClientDisconnected("the client has disconnected")
        if not self._started:
            raise ApplicationError("http.response.body before http.response.start")
        if self._complete or self._flags & _LAST_SENT:
            raise ApplicationError("http.response.body after the response was complete")
        if not self._has_content:
            body = b""
        elif self._remaining >= 0:
            self._count(len(body), more)
        end = not more and not self._trailers
        if not more:
            self._flags |= _LAST_SENT
        if len(body) <= self._credit and len(body) <= wire.MAX_DATA:
            self._credit -= len(body)
            self._write(body, end)
        else:
            await self._write_large(body, end)
        if self._credit <= 0 and not self._complete:
            await self._wait_credit()

    def _is_whole(self, body: bytes) -> bool:
        """True if the whole answer is a head that waits and this content: most answers are."""
        size = len(body)
        if self._gone or self._trailers or not self._has_content or size > wire.MAX_DATA:
            return False
        return self._remaining < 0 or self._remaining == size

    def _count(self, size: int, more: bool) -> None:
        """Hold the content against Content-Length: a client that trusts it would take what follows for an answer."""
        self._remaining -= size
        if self._remaining < 0:
            self.fail(b"too-long")
            raise ApplicationError("the response's content is longer than its content-length")
        if not more and self._remaining:
            missing = self._remaining
            self.fail(b"too-short")
            raise ApplicationError(f"the response's content is {missing} bytes shorter than its content-length")

    def _write(self, body: bytes, end: bool) -> None:
        if self._waits:
            self._write_head(body, end=end)
        elif body or end:
            self._complete = end
            self._link.write(wire.encode_frame(wire.DATA, wire.END if end else 0, self._stream, b"", body))
            if end and self._waiters:
                self._wake()

    def _write_head(self, body: bytes, *, end: bool) -> None:
        self._waits = _NO
        flags = self._flags & (wire.HAS_DATE | wire.HAS_SERVER)
        if end:
            flags |= wire.END
            self._complete = True
            if not self._length and self._has_content:
                self._length = b"%d" % len(body)
        head = b"%d\n%b%b" % (self._status, self._length, self._fields)
        size = len(head)
        header = wire.HEADER.pack(size + len(body), size, self._stream, wire.RESPONSE, flags)
        self._link.write(header + head + body)
        if end and self._waiters:
            self._wake()

    async def _write_large(self, body: bytes, end: bool) -> None:
        view = memoryview(body)
        position, size = 0, len(body)
        if end and self._waits and not self._length:
            self._length = b"%d" % size  # the whole content is known, though it does not fit the first frame
        while position < size:
            if self._credit <= 0:
                await self._wait_credit()
            piece = bytes(view[position : position + min(self._credit, wire.MAX_DATA)])
            position += len(piece)
            self._credit -= len(piece)
            self._write(piece, end and position == size)

    async def _wait_credit(self) -> None:
        while self._credit <= 0:
            if self._gone:
                raise ClientDisconnected("the client has disconnected")
            await self._wait()
        if self._gone:
            raise ClientDisconnected("the client has disconnected")

    def _send_trailers(self, message: Message) -> None:
        if self._gone:
            raise ClientDisconnected("the client has disconnected")
        if not self._trailers or not self._flags & _LAST_SENT or self._complete:
            raise ApplicationError("http.response.trailers without trailers=True in the start, or before the last body")
        parts: list[bytes] = []
        for name, value in message.get("headers", ()):
            parts += (classify_field(name)[0], value)
        fields = join_fields(parts)
        if message.get("more_trailers", False):
            raise ApplicationError("http.response.trailers: more_trailers is not supported; send them in one message")
        if self._waits:
            self._write_head(b"", end=False)
        self._complete = True
        self._link.write(wire.encode_frame(wire.TRAILERS, wire.END, self._stream, fields[1:]))
        self._wake()

    async def _wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiters = (*self._waiters, future)
        try:
            await future
        finally:
            self._waiters = tuple(waiter for waiter in self._waiters if waiter is not future)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


# Ours alone, beside the wire's flags: bits that no frame carries.
_IS_STREAM = 1 << 8
_LAST_SENT = 1 << 9


def join_fields(parts: list[bytes]) -> bytes:
    """Return the names and values as the wire has them, each after a line feed.

    Raises ApplicationError for a value that would end a line (response splitting); it names the field, not the value.
    And for fields that are too large together.
    """
    if not parts:
        return b""
    joined = b"\n".join(parts)
    if len(joined) > wire.MAX_FIELDS:
        raise ApplicationError(f"response fields of {len(joined)} bytes, at most {wire.MAX_FIELDS} allowed")
    if b"\r" in joined or b"\0" in joined or joined.count(b"\n") != len(parts) - 1:
        for name, value in zip(parts[::2], parts[1::2], strict=True):
            if b"\r" in value or b"\n" in value or b"\0" in value:
                raise ApplicationError(f"response field {name!r}: its value holds CR, LF or NUL")
    return b"\n" + joined
