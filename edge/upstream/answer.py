"""An upstream's answer, read strictly: what two readers could take for two messages is none (RFC 9112 section 6.3).

No I/O here: bytes come in, and what they mean comes out.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from edge.http.chunked import ChunkedDecoder
from edge.http.events import ProtocolError
from edge.http.fields import is_field_value, is_response_hop, is_token, parse_list
from edge_backend import wire

# What an answer's head may have, in bytes: as much as a worker's (wire.MAX_FIELDS) leaves the client's end to worry.
MAX_HEAD: Final = 64 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_BODILESS: Final = (b"204", b"304")


class _State(Enum):
    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    UNTIL_CLOSE = 4
    OPAQUE = 5
    DONE = 6


class AnswerHead:
    """The final head of an answer: `encoded` as a worker would send it, and the flags of that frame."""

    __slots__ = ("encoded", "flags", "status")

    def __init__(self, status: bytes, encoded: bytes, flags: int) -> None:
        self.status = status
        self.encoded = encoded
        self.flags = flags


class AnswerReader:
    """Reads the answers of one connection, one request after the other."""

    __slots__ = ("_buffer", "_chunks", "_fields", "_is_head", "_keeps_open", "_remaining", "_state", "_wants_upgrade")

    def __init__(self) -> None:
        self._state = _State.DONE
        self._buffer = b""
        self._keeps_open = True

    def expect(self, method: bytes, *, upgrade: bool) -> None:
        """A request of this method has been sent; `upgrade`: it was a WebSocket handshake."""
        self._state = _State.HEAD
        self._is_head = method == b"HEAD"
        self._wants_upgrade = upgrade
        self._remaining = 0

    @property
    def is_done(self) -> bool:
        """True when the answer is whole."""
        return self._state is _State.DONE

    @property
    def can_be_reused(self) -> bool:
        """True if the connection can carry another request."""
        return self._state is _State.DONE and self._keeps_open and not self._buffer

    @property
    def ends_with_connection(self) -> bool:
        """True if the end of the connection is the answer's end, and nothing is missing then."""
        return self._state in (_State.UNTIL_CLOSE, _State.OPAQUE)

    def receive(self, data: bytes) -> tuple[AnswerHead | None, bytes]:
        """Return the head, if it has become whole with these bytes, and the content that came.

        Raises ProtocolError: what came is no answer.
        """
        head = None
        if self._state is _State.HEAD:
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
            lines = self._buffer[:end].split(b"\r\n")
            self._buffer = self._buffer[end + 4 :]
            match = _STATUS_LINE.fullmatch(lines[0])
            if match is None:
                raise ProtocolError(502, f"the upstream's status line {lines[0][:60]!r} is none of HTTP/1.1")
            if match[2][:1] != b"1" or match[2] == b"101":
                break  # 100 and 103 are for the edge, which has not asked for them
        data, self._buffer = self._buffer, b""
        return self._read_head(match[1], match[2], lines[1:]), data

    def _read_head(self, minor: bytes, status: bytes, lines: list[bytes]) -> AnswerHead:
        fields, length, is_chunked, flags, connection = _read_fields(lines)
        self._keeps_open = b"close" not in connection and (minor == b"1" or b"keep-alive" in connection)
        if status == b"101":
            if not self._wants_upgrade:
                raise ProtocolError(502, "the upstream changes the protocol, which nobody asked for")
            self._state, self._keeps_open = _State.OPAQUE, False
            length = b""
        elif self._is_head or status in _BODILESS or length == b"0":
            self._state = _State.DONE
        elif is_chunked:
            self._state, self._chunks = _State.CHUNKED, ChunkedDecoder()
        elif length:
            self._state, self._remaining = _State.LENGTH, int(length)
        else:
            self._state, self._keeps_open = _State.UNTIL_CLOSE, False
        if connection:
            fields = _without(fields, connection)
        return AnswerHead(status, b"\n".join((status, length, *fields)), flags)

    def _receive_content(self, data: bytes) -> bytes:
        if self._state is _State.LENGTH:
            if len(data) > self._remaining:
                raise ProtocolError(502, "the upstream sends more than the length that it announced")
            self._remaining -= len(data)
            if not self._remaining:
                self._state = _State.DONE
            return data
        if self._state is _State.CHUNKED:
            content = self._chunks.receive(data)
            if self._chunks.is_done:
                self._state = _State.DONE
                data = self._chunks.rest
            else:
                return content
        else:
            content = b""
        if self._state is not _State.DONE:
            return data
        if data:
            raise ProtocolError(502, "the upstream sends more than its answer")
        return content


def _read_fields(lines: list[bytes]) -> tuple[list[bytes], bytes, bool, int, list[bytes]]:
    """Return the fields that go on, names and values in turn; the length; whether it is chunked; the flags of the
    frame; and the options of Connection."""
    fields: list[bytes] = []
    length, codings, flags = b"", [], 0
    connection: list[bytes] = []
    for line in lines:
        raw, colon, value = line.partition(b":")
        name, value = raw.lower(), value.strip(b" \t")
        if not colon or not is_token(name) or not is_field_value(value):
            raise ProtocolError(502, f"the upstream's field {line[:60]!r} is not a name and a value")
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or (length and length != value):
                raise ProtocolError(502, f"the upstream's Content-Length {value[:40]!r} is not one number")
            length = value
        elif name == b"transfer-encoding":
            codings += parse_list(value.lower())
        elif name == b"connection":
            connection += parse_list(value.lower())
        elif not is_response_hop(name) or name.startswith(b"x-"):
            flags |= wire.HAS_DATE if name == b"date" else wire.HAS_SERVER if name == b"server" else 0
            fields += (name, value)
    if codings and (length or codings != [b"chunked"]):
        raise ProtocolError(502, "the upstream's Transfer-Encoding is not chunked alone, or it has a length besides")
    return fields, length and b"%d" % int(length), bool(codings), flags, connection


def _without(fields: list[bytes], options: list[bytes]) -> list[bytes]:
    """Return the fields without those that Connection names: they are for us (RFC 9110 section 7.6.1)."""
    kept: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name not in options:
            kept += (name, value)
    return kept
