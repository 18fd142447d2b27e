"""An upstream's answer, read strictly: what two readers could take for two messages is none (RFC 9112 section 6.3).

No I/O here: bytes come in, and what they mean comes out.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from edge.http.chunked import ChunkedDecoder
from edge.http.events import ProtocolError
from edge.http.fields import is_field_value, is_response_hop, is_token, parse_list
from edge_backend import wire

# What an answer's head may have, in bytes: as much as a worker's (wire.MAX_FIELDS) leaves the client's end to worry.
MAX_HEAD: Final = 64 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_NUMBER: Final = re.compile(rb"[0-9]{1,18}")
_BODILESS: Final = (204, 304)
_OWN_FLAGS: Final = {b"date": wire.HAS_DATE, b"server": wire.HAS_SERVER}
# Heads that were read are remembered, so many of them and up to this size: servers repeat most of theirs all the time.
_MEMORY: Final = 256
_LONGEST: Final = 1024


class _State(Enum):
    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    UNTIL_CLOSE = 4
    OPAQUE = 5
    DONE = 6


# Looking a member up in its enum costs as much as comparing it twice; these are compared for each answer.
_HEAD, _LENGTH, _CHUNKED, _DONE = _State.HEAD, _State.LENGTH, _State.CHUNKED, _State.DONE
_UNTIL_CLOSE, _OPAQUE = _State.UNTIL_CLOSE, _State.OPAQUE


class AnswerHead(NamedTuple):
    """The final head of an answer."""

    status: int
    length: bytes  # of the content, empty when nobody knows
    fields: tuple[bytes, ...]  # names and values in turn; without those that frame, or end at the next hop
    flags: int  # those of a worker's head: edge_backend.wire
    is_chunked: bool
    keeps_open: bool  # the connection may carry another request


class AnswerReader:
    """Reads the answers of one connection, one request after the other."""

    __slots__ = ("_buffer", "_chunks", "_is_head", "_keeps_open", "_remaining", "_state", "_trailers", "_wants_upgrade")

    def __init__(self) -> None:
        self._state = _DONE
        self._buffer = b""
        self._keeps_open = True
        self._trailers: tuple[bytes, ...] = ()

    def expect(self, method: bytes, *, upgrade: bool) -> None:
        """A request of this method has been sent; `upgrade`: it was a WebSocket handshake."""
        self._state = _HEAD
        self._is_head = method == b"HEAD"
        self._wants_upgrade = upgrade
        self._remaining = 0
        self._trailers = ()

    @property
    def is_done(self) -> bool:
        """True when the answer is whole."""
        return self._state is _DONE

    @property
    def trailers(self) -> tuple[bytes, ...]:
        """The trailer fields of an answer that is whole: names and values in turn, of which not all may go on."""
        return self._trailers

    @property
    def can_be_reused(self) -> bool:
        """True if the connection can carry another request."""
        return self._state is _DONE and self._keeps_open and not self._buffer

    @property
    def ends_with_connection(self) -> bool:
        """True if the end of the connection is the answer's end, and nothing is missing then."""
        return self._state in (_UNTIL_CLOSE, _OPAQUE)

    def receive(self, data: bytes) -> tuple[AnswerHead | None, bytes]:
        """Return the head, if it has become whole with these bytes, and the content that came.

        Raises ProtocolError: what came is no answer.
        """
        head = None
        if self._state is _HEAD:
            head, data = self._receive_head(data)
            if head is None:
                return None, b""
        return head, self._receive_content(data)

    def _receive_head(self, data: bytes) -> tuple[AnswerHead | None, bytes]:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
            if end < 0:
                if len(self._buffer) >= MAX_HEAD:
                    raise ProtocolError(502, f"the upstream's head is longer than {MAX_HEAD} bytes")
                return None, b""
            block = self._buffer[:end]
            self._buffer = self._buffer[end + 4 :]
            head = _read_head(block) if end <= _LONGEST else _read_head.__wrapped__(block)
            if head.status >= 200 or head.status == 101:
                break  # 100 and 103 are for the edge, which has not asked for them
        data, self._buffer = self._buffer, b""
        self._begin_content(head)
        return head, data

    def _begin_content(self, head: AnswerHead) -> None:
        status, length = head.status, head.length
        self._keeps_open = head.keeps_open
        if status == 101:
            if not self._wants_upgrade:
                raise ProtocolError(502, "the upstream changes the protocol, which nobody asked for")
            self._state, self._keeps_open = _OPAQUE, False
        elif self._is_head or status in _BODILESS or length == b"0":
            self._state = _DONE
        elif head.is_chunked:
            self._state, self._chunks = _CHUNKED, ChunkedDecoder()
        elif length:
            self._state, self._remaining = _LENGTH, int(length)
        else:
            self._state, self._keeps_open = _UNTIL_CLOSE, False

    def _receive_content(self, data: bytes) -> bytes:
        if self._state is _LENGTH:
            if len(data) > self._remaining:
                raise ProtocolError(502, "the upstream sends more than the length that it announced")
            self._remaining -= len(data)
            if not self._remaining:
                self._state = _DONE
            return data
        if self._state is _CHUNKED:
            content = self._chunks.receive(data)
            if self._chunks.is_done:
                self._state = _DONE
                self._trailers = self._chunks.trailers
                data = self._chunks.rest
            else:
                return content
        else:
            content = b""
        if self._state is not _DONE:
            return data
        if data:
            raise ProtocolError(502, "the upstream sends more than its answer")
        return content


@lru_cache(maxsize=_MEMORY)
def _read_head(block: bytes) -> AnswerHead:
    """Return what a head says, read without the empty line at its end.

    Raises ProtocolError if two readers could take it for two things.
    """
    status_line, *lines = block.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise ProtocolError(502, f"the upstream's status line {status_line[:60]!r} is none of HTTP/1.1")
    fields = _Fields()
    for line in lines:
        fields.take(line)
    fields.check()
    return AnswerHead(
        status=int(match[2]),
        length=fields.length if match[2] != b"101" else b"",
        fields=fields.kept(),
        flags=fields.flags,
        is_chunked=bool(fields.codings),
        keeps_open=b"close" not in fields.connection and (match[1] == b"1" or b"keep-alive" in fields.connection),
    )


class _Fields:
    """What the fields of a head come to."""

    __slots__ = ("_kept", "codings", "connection", "flags", "length")

    def __init__(self) -> None:
        self.length = b""
        self.codings: list[bytes] = []
        self.connection: list[bytes] = []
        self.flags = 0
        self._kept: list[tuple[bytes, bytes]] = []

    def take(self, line: bytes) -> None:
        """Take a field."""
        name, value = _split_line(line)
        if name == b"content-length":
            if not _NUMBER.fullmatch(value) or (self.length and self.length != value):
                raise ProtocolError(502, f"the upstream's Content-Length {value[:40]!r} is not one number")
            self.length = value
        elif name == b"transfer-encoding":
            self.codings += parse_list(value.lower())
        elif name == b"connection":
            self.connection += parse_list(value.lower())
        elif not is_response_hop(name):
            self.flags |= _OWN_FLAGS.get(name, 0)
            self._kept.append((name, value))

    def check(self) -> None:
        """Raise ProtocolError if two readers could take the framing for two things."""
        if self.codings and (self.length or self.codings != [b"chunked"]):
            raise ProtocolError(
                502, "the upstream's Transfer-Encoding is not chunked alone, or it has a length besides"
            )
        if self.length:
            self.length = b"%d" % int(self.length)

    def kept(self) -> tuple[bytes, ...]:
        """Return the fields that go on: not those that Connection names (RFC 9110 section 7.6.1)."""
        return tuple(part for field in self._kept if field[0] not in self.connection for part in field)


def _split_line(line: bytes) -> tuple[bytes, bytes]:
    raw, colon, value = line.partition(b":")
    name, value = raw.lower(), value.strip(b" \t")
    if not colon or not is_token(name) or not is_field_value(value):
        raise ProtocolError(502, f"the upstream's field {line[:60]!r} is not a name and a value")
    return name, value
