"""HTTP/1.1, the server's side of one connection, strict (RFC 9112).

Theory of operation
-------------------
HEAD -> (LENGTH | CHUNKED) -> ANSWER -> HEAD ...; UPGRADED after a 101; CLOSED after a refusal or the last answer.

A head is gathered until it is whole, its sizes are held against the limits, and only then `httptools` tokenizes it:
limits are exact, and one parser serves every connection of the process, because it never holds half a message. What
the tokenizer leaves open is closed here; each rule is a row of the corpus in tests/corpus/http1. Content is framed
here, not by the tokenizer: it must stop exactly at the end of its message.

One request is under way at a time. What a client pipelines behind it stays in the buffer, and the driver stops reading
while `has_input` (so the buffer holds at most what one read brought).

`receive()` and `finish()` return events; the `encode_*()` methods return bytes to write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import httptools

from edge.http import fields as names
from edge.http.chunked import ChunkedDecoder
from edge.http.events import UNKNOWN_LENGTH, Data, Event, ProtocolError, Refusal, RequestHead
from edge.http.fields import FIELD_NAMES, field_name, is_token, is_valid_host, parse_list
from edge.http.status import STATUS_LINES, has_content
from edge.http.websocket import accept_key, check_handshake

# RFC 9112 section 3.2: absolute-form. Only HTTP schemes: anything else asks for a forward proxy, which this is not.
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
# Of the tokens in `Connection`, those that name no field to delete.
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))

_cached_is_valid_host = lru_cache(maxsize=1024)(is_valid_host)

# `b"%b: %b\r\n"` once for each field: one formatting call writes a whole answer's fields.
_FIELD_LINES = tuple(b"%b: %b\r\n" * count for count in range(65))

# What is announced for the content of an answer whose length nobody knows.
_CHUNKED_FIELD = b"transfer-encoding: chunked\r\n"


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """Sizes in bytes. `max_body` 0: no limit."""

    max_request_line: int
    max_header_size: int
    max_headers: int
    max_body: int


class State(Enum):
    """Where the connection is in the exchange of messages."""

    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    ANSWER = 4
    UPGRADED = 5
    CLOSED = 6


class _HeadCollector:
    """Gathers what the tokenizer calls back with. Its parser is made anew after anything but a plain request."""

    __slots__ = ("coding", "connection", "expect", "fields", "flags", "host", "lengths", "parser", "te", "upgrade")

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.reset()

    def reset(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.flags = 0
        self.host: list[bytes] = []
        self.lengths: list[bytes] = []
        self.coding: list[bytes] = []
        self.connection: list[bytes] = []
        self.expect = b""
        self.upgrade = b""
        self.te = b""

    def on_header(self, raw: bytes, value: bytes) -> None:
        name, flags = FIELD_NAMES.get(raw) or field_name(raw)
        if flags:
            self.flags |= flags
            if not self._keeps(flags, value):
                return
        self.fields.append((name, value))

    def _keeps(self, flags: int, value: bytes) -> bool:
        """Note a field that means something to us; True if it goes on to the application as well."""
        if flags & names.HOST:
            self.host.append(value.rstrip(b" \t"))
        elif flags & names.LENGTH:
            self.lengths.append(value)
        elif flags & names.CONNECTION:
            self.connection += parse_list(value.lower())
        elif flags & names.CODING:
            self.coding.append(value)
        elif flags & names.EXPECT:
            self.expect += value
        elif flags & names.UPGRADE:
            self.upgrade += value.strip(b" \t").lower()
        elif flags & names.TE:
            self.te += b"," + value
        return not flags & (names.HOP | names.UNDERSCORE)


class Http1Connection:
    """The server's side of one HTTP/1.1 connection. It does no I/O."""

    __slots__ = (
        "_buffer",
        "_chunked_answer",
        "_close",
        "_collector",
        "_decoder",
        "_limits",
        "_read",
        "_remaining",
        "_stream",
        "_unread",
        "state",
        "written",
    )

    def __init__(self, limits: Http1Limits, collector: _HeadCollector) -> None:
        self.state = State.HEAD
        self.written = 0  # bytes of content written of the answer under way
        self._limits = limits
        self._collector = collector
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
        return bool(self._buffer) and self.state is State.ANSWER

    @property
    def is_idle(self) -> bool:
        """True between two requests, with not a byte of the next."""
        return self.state is State.HEAD and not self._buffer

    def receive(self, data: bytes) -> list[Event]:
        """Return what `data` completes. Malformed input becomes a Refusal, after which nothing more is read."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            if self.state is State.HEAD:
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
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 section 2.2: at least one empty line before the request line is ignored
            if data.startswith(b"\r\n"):
                raise ProtocolError(400, "more than one empty line before the request line")
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._check_partial(data)
            self._buffer = data
            return []
        raw = data if end == len(data) else data[:end]
        rest = b"" if end == len(data) else data[end:]
        self._stream += 1
        head = self._parse_head(raw)
        if head.length == 0:
            self.state = State.ANSWER
            self._buffer = rest
            return [head]
        return self._begin_content(head, rest)

    def _check_partial(self, data: bytes) -> None:
        """Refuse what can become no head within the limits, without waiting for its end."""
        limits = self._limits
        line = data.find(b"\n")
        if line < 0:
            if len(data) > limits.max_request_line:
                raise ProtocolError(414, f"request line of more than {limits.max_request_line} bytes")
            return
        if data.count(b"\n") != data.count(b"\r\n"):
            raise ProtocolError(400, "a line ends with a bare LF (RFC 9112 section 2.2)")
        if len(data) - line > limits.max_header_size:
            raise ProtocolError(431, f"header section of more than {limits.max_header_size} bytes")

    def _begin_content(self, head: RequestHead, rest: bytes) -> list[Event]:
        """Start on the content; what came of it already travels with the head."""
        self._read = 0
        if head.length == UNKNOWN_LENGTH:
            self.state = State.CHUNKED
            self._decoder = ChunkedDecoder()
            first = self._receive_chunks(rest)
        else:
            if self._limits.max_body and head.length > self._limits.max_body:
                reason = f"content of {head.length} bytes, at most {self._limits.max_body} allowed"
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
        if self._limits.max_body and self._read > self._limits.max_body:
            raise ProtocolError(413, f"content of more than {self._limits.max_body} bytes")
        complete = self._decoder.is_done
        if complete:
            self.state = State.ANSWER
            self._buffer = self._decoder.rest
        return Data(self._stream, body, complete)

    # The head.

    def _parse_head(self, raw: bytes) -> RequestHead:
        method, target, version = self._parse_request_line(raw)
        collector = self._tokenize(raw)
        if len(collector.host) > 1:
            raise ProtocolError(400, "more than one Host field (RFC 9112 section 3.2)")
        host = collector.host[0] if collector.host else b""
        if not target.startswith(b"/"):
            target, host = _normalise_target(method, target, host, bool(collector.host))
        if host or version == b"1.1":
            _check_host(host, bool(collector.host))
        head = RequestHead(self._stream, method, target, version, host)
        head.fields = collector.fields
        head.flags = flags = collector.flags
        self._close = False
        if version == b"1.0":
            head.keep_alive = False
        if flags & (names.ACTION & ~(names.HOST | names.TRUST)):
            _apply_special(head, collector)
        self._close = not head.keep_alive
        return head

    def _parse_request_line(self, raw: bytes) -> tuple[bytes, bytes, bytes]:
        limits = self._limits
        end = raw.find(b"\r\n")
        if end > limits.max_request_line:
            raise ProtocolError(414, f"request line of {end} bytes, at most {limits.max_request_line} allowed")
        if len(raw) - end > limits.max_header_size:
            raise ProtocolError(
                431, f"header section of {len(raw) - end} bytes, at most {limits.max_header_size} allowed"
            )
        count = raw.count(b"\r\n") - 2
        if count > limits.max_headers:
            raise ProtocolError(431, f"{count} header fields, at most {limits.max_headers} allowed")
        parts = raw[:end].split(b" ")
        if len(parts) != 3 or not is_token(parts[0]):
            raise ProtocolError(400, f"request line {raw[: min(end, 60)]!r} is not method, target and version")
        method, target, version = parts
        if version == b"HTTP/1.1":
            version = b"1.1"
        elif version == b"HTTP/1.0":
            version = b"1.0"
        else:
            _refuse_version(version)
        if method == b"CONNECT" or method == b"TRACE":
            raise ProtocolError(405, f"method {method.decode()} is not served", ((b"allow", _ALLOWED),))
        if b"#" in target or b"\\" in target:
            raise ProtocolError(400, f"request target {target[:60]!r} holds a character that a URI cannot (RFC 3986)")
        return method, target, version

    def _tokenize(self, raw: bytes) -> _HeadCollector:
        collector = self._collector
        collector.reset()
        try:
            collector.parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            collector.parser = httptools.HttpRequestParser(collector)
        except httptools.HttpParserInvalidMethodError:
            collector.parser = httptools.HttpRequestParser(collector)
            raise ProtocolError(501, f"method {raw[:20].split(b' ')[0]!r} is not known") from None
        except httptools.HttpParserError as error:
            collector.parser = httptools.HttpRequestParser(collector)
            coding = _unknown_coding(collector)
            if coding is not None:
                raise coding from None
            raise ProtocolError(400, f"{str(error).lower()} (RFC 9112)") from None
        else:
            if collector.lengths or collector.coding or collector.connection:
                # The tokenizer waits for content, or for nothing more: its part is over with the head.
                collector.parser = httptools.HttpRequestParser(collector)
        return collector

    # What goes out.

    def encode_response(
        self, head: RequestHead, status: int, length: bytes, fields: list[bytes], own: bytes, body: bytes
    ) -> bytes:
        """Return the head of the answer to `head`, and its first content.

        `length` is the content's length in digits, empty when it is not known. `fields` are names and values in turn,
        `own` the edge's field lines. The status line, framing and connection fields are made here.

        Raises ProtocolError (502) if the content is longer than `length`.
        """
        content = has_content(status) and head.method != b"HEAD"
        self.written = 0
        self._chunked_answer = False
        if length:
            framing = b"content-length: %b\r\n" % length
            self._remaining = int(length) if content else -1
        else:
            framing = b""
            self._remaining = -1
            if content:
                if head.version == b"1.1":
                    self._chunked_answer = True
                    framing = _CHUNKED_FIELD
                else:
                    self._close = True  # RFC 9112 section 6.3: the end of the connection ends the content
        if self.state is not State.ANSWER:
            self._close = True  # the rest of the request would have to be read first: nobody will
        if self._close:
            framing += b"connection: close\r\n"
        elif head.version == b"1.0":
            framing += b"connection: keep-alive\r\n"
        count = len(fields) // 2
        lines = _FIELD_LINES[count] if count < 65 else _FIELD_LINES[1] * count
        start = b"%b%b%b%b\r\n" % (STATUS_LINES[status], lines % tuple(fields), own, framing)
        return start + self.encode_data(body) if body and content else start

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
        """Return the whole answer to what could not be read; the connection ends with it."""
        lines = b"".join(b"%b: %b\r\n" % field for field in refusal.fields)
        return b"%b%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
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
        if self._close or self.state is not State.ANSWER:
            self.state = State.CLOSED
            return None
        self.state = State.HEAD
        if not self._buffer:
            return []
        data, self._buffer = self._buffer, b""
        return self.receive(data)

    @property
    def request_is_complete(self) -> bool:
        """True when all of the request under way has been read."""
        return self.state is State.ANSWER


def new_collector() -> _HeadCollector:
    """Return a tokenizer for all the connections of one process."""
    return _HeadCollector()


_ALLOWED = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def _refuse_version(version: bytes) -> None:
    if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
        raise ProtocolError(505, f"version {version!r}, HTTP/1.1 and HTTP/1.0 are spoken here")
    raise ProtocolError(400, f"version {version[:20]!r} is not HTTP's (RFC 9112 section 2.3)")


def _normalise_target(method: bytes, target: bytes, host: bytes, has_host: bool) -> tuple[bytes, bytes]:
    """Return the origin-form of a target that is not, and the authority (RFC 9112 section 3.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target, host
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise ProtocolError(400, f"request target {target[:60]!r} is neither a path nor an http URI")
    authority, rest = match[1], match[2]
    if has_host and authority.lower() != host.lower():
        raise ProtocolError(400, f"request target names {authority[:60]!r}, Host names {host[:60]!r}")
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return rest, authority


def _check_host(host: bytes, is_given: bool) -> None:
    if not is_given and not host:
        raise ProtocolError(400, "no Host field (RFC 9112 section 3.2)")
    if not _cached_is_valid_host(host):
        raise ProtocolError(400, f"Host {host[:60]!r} is not a host with an optional port (RFC 9110 section 7.2)")


def _apply_special(head: RequestHead, collector: _HeadCollector) -> None:
    """Act on the fields that concern framing and the connection."""
    if collector.lengths or collector.coding:
        _apply_framing(head, collector)
    if collector.expect:
        if collector.expect.strip(b" \t").lower() != b"100-continue":
            raise ProtocolError(417, f"expectation {collector.expect[:40]!r} is not known (RFC 9110 section 10.1.1)")
        head.expect = head.version == b"1.1" and head.length != 0
    if collector.te:
        head.trailers = b"trailers" in parse_list(collector.te.lower())
    if collector.connection:
        _apply_connection(head, collector)


def _apply_framing(head: RequestHead, collector: _HeadCollector) -> None:
    if collector.coding:
        if collector.lengths:
            raise ProtocolError(400, "both Content-Length and Transfer-Encoding (RFC 9112 section 6.1)")
        unknown = _unknown_coding(collector)
        if unknown is not None:
            raise unknown
        if head.version != b"1.1":
            raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
        head.length = UNKNOWN_LENGTH
        return
    if len(collector.lengths) > 1:
        raise ProtocolError(400, "more than one Content-Length (RFC 9112 section 6.3)")
    value = collector.lengths[0].strip(b" \t")
    # 19 digits are what 64 bits hold. isdigit() on bytes takes ASCII digits only.
    if not value.isdigit() or len(value) > 19:
        raise ProtocolError(400, f"Content-Length {value[:40]!r} is not a number (RFC 9112 section 6.3)")
    head.length = int(value)


def _unknown_coding(collector: _HeadCollector) -> ProtocolError | None:
    """Refuse every transfer coding but one `chunked` (RFC 9112 section 6.1)."""
    codings = [value.strip(b" \t").lower() for value in collector.coding]
    if not codings or codings == [b"chunked"]:
        return None
    found = b", ".join(codings)[:40]
    if codings.count(b"chunked") > 1:
        return ProtocolError(400, f"Transfer-Encoding {found!r}: chunked more than once (RFC 9112 section 6.1)")
    return ProtocolError(501, f"Transfer-Encoding {found!r}, only chunked is understood (RFC 9112 section 6.1)")


def _apply_connection(head: RequestHead, collector: _HeadCollector) -> None:
    options = set(collector.connection)
    if b"close" in options:
        head.keep_alive = False
    elif b"keep-alive" in options:
        head.keep_alive = True
    named = options - _OPTIONS
    if named:
        # RFC 9110 section 7.6.1: an intermediary removes what Connection names - but never what protects the
        # application: naming X-Forwarded-For there would make the edge delete its own word (CVE-2024-45410).
        head.fields = [
            field for field in head.fields if field[0] not in named or names.classify(field[0]) & names.PROTECTED
        ]
    if b"upgrade" in options and collector.upgrade == b"websocket" and head.method == b"GET" and head.version == b"1.1":
        head.upgrade = check_handshake(head.fields)
