"""HTTP/1.1, the server's side of one connection, strict (RFC 9112).

Theory of operation
-------------------
HEAD -> (LENGTH | CHUNKED) -> ANSWER -> HEAD ...; UPGRADED after a 101; CLOSED after a refusal or the last answer.

A head is gathered until it is whole and then parsed (head.py): limits are exact, and one parser serves every connection
of the process, because it never holds half a message. Content is framed here, and stops exactly at the end of its
message.

One request is under way at a time. What a client pipelines behind it stays in the buffer, and the driver stops reading
while `has_input` (so the buffer holds at most what one read brought).

`receive()` and `finish()` return events; the `encode_*()` methods return bytes to write.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from edge.http.chunked import ChunkedDecoder
from edge.http.events import UNKNOWN_LENGTH, Data, Event, ProtocolError, Refusal, RequestHead
from edge.http.head import HeadParser
from edge.http.status import STATUS_LINES
from edge.http.websocket import accept_key

# `b"%b: %b\r\n"` once for each field: one formatting call writes a whole answer's fields.
_FIELD_LINES = tuple(b"%b: %b\r\n" * count for count in range(65))

# What `finish()` returns when the connection is idle: not a byte of the next request is there.
IDLE: Final[list[Event]] = []


class State(Enum):
    """Where the connection is in the exchange of messages."""

    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    ANSWER = 4
    UPGRADED = 5
    CLOSED = 6


_HEAD = State.HEAD
_ANSWER = State.ANSWER


class Http1Connection:
    """The server's side of one HTTP/1.1 connection. It does no I/O."""

    __slots__ = (
        "_buffer",
        "_chunked_answer",
        "_close",
        "_decoder",
        "_max_body",
        "_parser",
        "_read",
        "_remaining",
        "_stream",
        "_unread",
        "state",
        "written",
    )

    def __init__(self, parser: HeadParser, max_body: int) -> None:
        """`parser` serves every connection of the process; `max_body` is in bytes, 0 for no limit."""
        self.state = State.HEAD
        self.written = 0  # bytes of content written of the answer under way
        self._parser = parser
        self._max_body = max_body
        self._buffer = b""
        self._stream = 0
        self._decoder: ChunkedDecoder
        self._read = 0  # bytes of content that came in, for the limit
        self._unread = 0  # bytes of the request's content that are still to come, while LENGTH
        self._remaining = -1  # bytes that the answer's Content-Length still announces; -1: it announced none
        self._chunked_answer = False
        self._close = False

    # What comes in.

    @property
    def has_input(self) -> bool:
        """True while bytes wait that cannot be read yet: the driver must not read more."""
        return bool(self._buffer) and self.state is _ANSWER

    @property
    def is_idle(self) -> bool:
        """True between two requests, with not a byte of the next; the empty line that some clients send is none."""
        return self.state is _HEAD and (not self._buffer or self._buffer == b"\r\n")

    def receive(self, data: bytes) -> list[Event]:
        """Return what `data` completes. Malformed input becomes a Refusal, after which nothing more is read."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            if self.state is _HEAD:
                return self._receive_head(data)
            return self._receive_content(data)
        except ProtocolError as error:
            self.state = State.CLOSED
            self._close = True
            return [Refusal(self._stream, error.status, error.reason, error.fields)]

    def _receive_content(self, data: bytes) -> list[Event]:
        match self.state:
            case State.LENGTH:
                return [self._receive_length(data)]
            case State.CHUNKED:
                return [self._receive_chunks(data)]
            case State.UPGRADED:
                return [Data(self._stream, data, False)]
            case State.ANSWER:
                self._buffer = data
        return []

    def _receive_head(self, data: bytes) -> list[Event]:
        received = data
        if data[:2] == b"\r\n":
            data = data[2:]  # RFC 9112 section 2.2: at least one empty line before the request line is ignored
            if data[:2] == b"\r\n":
                raise ProtocolError(400, "more than one empty line before the request line")
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._parser.check_partial(data)
            self._buffer = received
            return []
        raw = data if end == len(data) else data[:end]
        rest = b"" if end == len(data) else data[end:]
        self._stream += 1
        try:
            head = self._parser.parse(raw, self._stream)
        except ProtocolError:
            # What shows before a head is whole is told first: the reason must not depend on how the bytes were split.
            self._parser.check_partial(raw)
            raise
        self._close = not head.keep_alive
        if head.length == 0:
            self.state = _ANSWER
            self._buffer = rest
            return [head]
        return self._begin_content(head, rest)

    def _begin_content(self, head: RequestHead, rest: bytes) -> list[Event]:
        """Start on the content; what came of it already travels with the head."""
        self._read = 0
        if head.length == UNKNOWN_LENGTH:
            self.state = State.CHUNKED
            self._decoder = ChunkedDecoder()
            first = self._receive_chunks(rest)
        else:
            if self._max_body and head.length > self._max_body:
                reason = f"content of {head.length} bytes, at most {self._max_body} allowed"
                raise ProtocolError(413, reason)
            self.state = State.LENGTH
            self._unread = head.length
            first = self._receive_length(rest)
        head.body = first.body
        head.complete = first.complete
        if head.body:
            head.expect = False  # RFC 9110 section 10.1.1: it did not wait
        return [head]

    def _receive_length(self, data: bytes) -> Data:
        remaining = self._unread
        if len(data) < remaining:
            self._unread = remaining - len(data)
            return Data(self._stream, data, False)
        self._unread = 0
        self.state = State.ANSWER
        if len(data) > remaining:
            self._buffer = data[remaining:]
            data = data[:remaining]
        return Data(self._stream, data, True)

    def _receive_chunks(self, data: bytes) -> Data:
        body = self._decoder.receive(data)
        self._read += len(body)
        if self._max_body and self._read > self._max_body:
            raise ProtocolError(413, f"content of more than {self._max_body} bytes")
        complete = self._decoder.is_done
        if complete:
            self.state = State.ANSWER
            self._buffer = self._decoder.rest
        return Data(self._stream, body, complete)

    # What goes out.

    def encode_response(
        self, head: RequestHead, status: int, length: bytes, fields: list[bytes], own: bytes, body: bytes, end: bool
    ) -> bytes:
        """Return the head of the answer to `head` and its first content; all of it if `end`.

        `length` is the content's length in digits, empty when it is not known. `fields` are names and values in turn,
        `own` the edge's field lines. The status line, framing and connection fields are made here.

        Raises ProtocolError (502) if the content is not as long as `length` says.
        """
        if self.state is not _ANSWER:
            self._close = True  # the rest of the request would have to be read first: nobody will
        if status == 204 or status == 304 or head.method == b"HEAD":
            body = b""
            self.written = 0
            self._remaining = 0  # whatever comes is too much: it would be taken for the next answer
            framing = b"content-length: %b\r\n" % length if length and status != 204 else b""
        elif length:
            framing = b"content-length: %b\r\n" % length
            self.written = len(body)
            self._remaining = int(length) - len(body)
            if self._remaining < 0 or (end and self._remaining):
                raise ProtocolError(502, f"the application's content does not have the {int(length)} bytes announced")
        else:
            framing, body = self._begin_unknown(head, body, end)
        if self._close:
            framing += b"connection: close\r\n"
        elif head.version == b"1.0":
            framing += b"connection: keep-alive\r\n"
        count = len(fields) // 2
        lines = _FIELD_LINES[count] if count < 65 else _FIELD_LINES[1] * count
        return b"%b%b%b%b\r\n%b" % (STATUS_LINES[status], lines % tuple(fields), own, framing, body)

    def _begin_unknown(self, head: RequestHead, body: bytes, end: bool) -> tuple[bytes, bytes]:
        """Begin content whose length nobody knows: return the framing field, and the first content framed."""
        if head.version == b"1.0":
            self.written = len(body)
            self._close = True  # RFC 9112 section 6.3: the end of the connection ends the content
            return b"", body
        self._chunked_answer = True
        self.written = 0
        body = self.encode_data(body)
        return b"transfer-encoding: chunked\r\n", body + self.encode_end([]) if end else body

    def encode_data(self, body: bytes) -> bytes:
        """Return content of the answer, framed.

        Raises ProtocolError (502) if it is more than was announced; nothing of it may be sent then.
        """
        size = len(body)
        self.written += size
        if self._chunked_answer:
            return b"%x\r\n%b\r\n" % (size, body) if size else b""
        if self._remaining >= 0:
            self._remaining -= size
            if self._remaining < 0:
                raise ProtocolError(502, "the application's content is longer than its content-length")
        return body

    def encode_end(self, trailers: list[bytes]) -> bytes:
        """Return what ends the answer: the last chunk and trailer fields, if it is chunked.

        Raises ProtocolError (502) if content is missing; the connection must be closed then.
        """
        if self._chunked_answer:
            lines = _FIELD_LINES[1] * (len(trailers) // 2) % tuple(trailers) if trailers else b""
            return b"0\r\n%b\r\n" % lines
        if self._remaining > 0:
            raise ProtocolError(502, f"the application's content is {self._remaining} bytes shorter than announced")
        return b""

    def encode_continue(self) -> bytes:
        """Return 100 Continue (RFC 9110 section 15.2.1)."""
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def encode_refusal(self, refusal: Refusal, own: bytes, body: bytes) -> bytes:
        """Return the whole answer to what could not be read; the connection ends with it. Content-Type is in `own`."""
        lines = b"".join(b"%b: %b\r\n" % field for field in refusal.fields)
        return b"%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
            STATUS_LINES[refusal.status],
            own,
            lines,
            len(body),
            body,
        )

    def encode_upgrade(self, head: RequestHead, fields: list[bytes], own: bytes) -> bytes:
        """Return 101 Switching Protocols; from here on the connection carries opaque bytes."""
        self.state = State.UPGRADED
        lines = _FIELD_LINES[1] * (len(fields) // 2) % tuple(fields)
        accept = accept_key(head.upgrade)
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: %b\r\n%b%b\r\n" % (accept, lines, own)
        )

    def close_after(self) -> None:
        """The answer under way, or the next, is the last of this connection."""
        self._close = True

    def finish(self) -> list[Event] | None:
        """The answer has been written: return the next request's events, or None if the connection must be closed."""
        if self._close or self.state is not _ANSWER:
            self.state = State.CLOSED
            return None
        self.state = _HEAD
        self._remaining = -1
        self._chunked_answer = False
        if not self._buffer:
            return IDLE
        data, self._buffer = self._buffer, b""
        return self.receive(data)

    @property
    def request_is_complete(self) -> bool:
        """True when all of the request under way has been read; what comes on a WebSocket is none of it."""
        return self.state is _ANSWER or self.state is State.UPGRADED
