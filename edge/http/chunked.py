"""Chunked transfer coding, decoded strictly (RFC 9112 section 7.1).

Every lenience here has been a request-smuggling bug somewhere: sizes with a sign, `0x` or spaces, bare LF after a
chunk extension, data that runs past its chunk. Nothing of the sort is taken.
"""

from __future__ import annotations

import re
from enum import Enum

from edge.http.events import ProtocolError
from edge.http.fields import is_field_value, is_token

# 16 digits are 64 bits; the limit on the content refuses long before.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[^\r\n]*)?")
# Extensions carry nothing that anybody uses; what is long is an attack on whoever reads it (CVE-2023-39326).
MAX_EXTENSION = 256
MAX_EXTENSIONS = 16 * 1024
# The digits, an extension, and a little bad whitespace between them (RFC 9112 section 7.1.1).
_MAX_SIZE_LINE = 16 + MAX_EXTENSION + 4
MAX_TRAILERS = 4 * 1024
MAX_TRAILER_FIELDS = 20
_CR = 0x0D


class _State(Enum):
    SIZE = 1
    DATA = 2
    DATA_END = 3
    TRAILERS = 4
    DONE = 5


class ChunkedDecoder:
    """Turns chunked bytes into content, in any split. Once `is_done`, `rest` has what follows the message.

    `trailers` has the trailer fields then, lower-case names and values in turn, which anybody may have written.
    """

    __slots__ = ("_at", "_buffer", "_extensions", "_remaining", "_state", "trailers")

    def __init__(self) -> None:
        self._state = _State.SIZE
        self._buffer = b""
        self._at = 0  # what lies before this has been read; it is cut off once a read, not once a chunk
        self._remaining = 0
        self._extensions = 0
        self.trailers: tuple[bytes, ...] = ()

    @property
    def is_done(self) -> bool:
        """True when the last chunk and the trailer section have been read."""
        return self._state is _State.DONE

    @property
    def rest(self) -> bytes:
        """Bytes behind the message, once it is done."""
        return self._buffer

    def receive(self, data: bytes) -> bytes:
        """Return the content that `data` brings.

        Raises ProtocolError: 400 for anything but exact chunked coding, 431 for too long a trailer section.
        """
        self._buffer += data
        pieces: list[bytes] = []
        while self._step(pieces):
            pass
        self._buffer = self._buffer[self._at :]
        self._at = 0
        return b"".join(pieces)

    def _step(self, pieces: list[bytes]) -> bool:
        """Take one element off the buffer; False when it is not whole yet, or all is done."""
        match self._state:
            case _State.SIZE:
                return self._read_size()
            case _State.DATA:
                return self._read_data(pieces)
            case _State.DATA_END:
                return self._read_data_end()
            case _State.TRAILERS:
                return self._read_trailers()
            case _:
                return False

    def _read_size(self) -> bool:
        line = self._take_line()
        if line is None:
            return False
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, f"chunk size {line[:40]!r} is not hexadecimal (RFC 9112 section 7.1)")
        extension = match[2] or b""
        self._extensions += len(extension)
        if not is_field_value(extension):
            raise ProtocolError(400, f"chunk extension {extension[:40]!r} has a control byte (RFC 9112 section 7.1.1)")
        if len(extension) > MAX_EXTENSION or self._extensions > MAX_EXTENSIONS:
            raise ProtocolError(400, f"chunk extensions of {self._extensions} bytes, at most {MAX_EXTENSIONS} allowed")
        self._remaining = int(match[1], 16)
        self._state = _State.DATA if self._remaining else _State.TRAILERS
        return True

    def _read_data(self, pieces: list[bytes]) -> bool:
        piece = self._buffer[self._at : self._at + self._remaining]
        if not piece:
            return False
        self._at += len(piece)
        self._remaining -= len(piece)
        pieces.append(piece)
        if not self._remaining:
            self._state = _State.DATA_END
        return True

    def _read_data_end(self) -> bool:
        end = self._buffer[self._at : self._at + 2]
        if not b"\r\n".startswith(end):
            found = end[: 1 if end[:1] != b"\r" else 2]
            raise ProtocolError(400, f"chunk data is followed by {found!r}, not by CR LF (RFC 9112 section 7.1)")
        if len(end) < 2:
            return False
        self._at += 2
        self._state = _State.SIZE
        return True

    def _read_trailers(self) -> bool:
        """Read the trailer section. Those of a request are for nobody: ASGI has no place for them."""
        start, limit = self._at, self._at + MAX_TRAILERS + 4
        if self._buffer.startswith(b"\r\n", start):
            self._at += 2
            self._state = _State.DONE
            return False
        end = self._buffer.find(b"\r\n\r\n", start, limit)
        section = self._buffer[start : limit if end < 0 else end]
        if b"\n" in section.replace(b"\r\n", b""):
            raise ProtocolError(400, "trailer section has a bare LF (RFC 9112 section 2.2)")
        if end < 0:
            if len(section) == limit - start:
                raise ProtocolError(431, f"trailer section of more than {MAX_TRAILERS} bytes")
            return False
        self.trailers = _parse_trailers(section)
        self._at = end + 4
        self._state = _State.DONE
        return False

    def _take_line(self) -> bytes | None:
        """Return the chunk-size line at hand without its end; None if it is not whole."""
        start, limit = self._at, self._at + _MAX_SIZE_LINE + 2
        end = self._buffer.find(b"\n", start, limit)
        if end < 0:
            if len(self._buffer) >= limit:
                raise ProtocolError(400, f"chunk-size line of more than {_MAX_SIZE_LINE} bytes")
            return None
        if end == start or self._buffer[end - 1] != _CR:
            raise ProtocolError(400, "chunk-size line ends with a bare LF (RFC 9112 section 2.2)")
        self._at = end + 1
        return self._buffer[start : end - 1]


def _parse_trailers(section: bytes) -> tuple[bytes, ...]:
    lines = section.split(b"\r\n") if section else []
    if len(lines) > MAX_TRAILER_FIELDS:
        raise ProtocolError(431, f"{len(lines)} trailer fields, at most {MAX_TRAILER_FIELDS} allowed")
    fields: list[bytes] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not is_token(name) or not is_field_value(value):
            raise ProtocolError(400, f"trailer field {line[:40]!r} is not name and value (RFC 9112 section 7.1.2)")
        fields += (name.lower(), value.strip(b" \t"))
    return tuple(fields)
