"""From blocks of compressed fields to requests: one for each HTTP/2 connection.

A client that asks for the same again sends the same bytes, and while its table of fields does not change they mean the
same. So a block that changed nothing is remembered with the request that it was.
"""

from __future__ import annotations

from edge.http.events import ProtocolError, RequestHead
from edge.http.field import PSEUDO, FieldMemory
from edge.http.fields import INVALID
from edge.http.head2 import build_head
from edge.http.hpack import HeadDecoder

# What is remembered: so many heads, each of few bytes as a block, and not of many when it is decoded. A client can make
# a block of some bytes mean 32 KiB, and what is remembered outlasts the requests (HPACK bomb, CVE-2026-49975).
_MAX_HEADS = 32
_MAX_BLOCK = 256
_MAX_SIZE = 4096


class HeadReader:
    """Decodes and checks the heads of one connection."""

    __slots__ = ("_changes", "_decoder", "_known", "_max_body", "_max_fields", "_max_size", "_max_target")

    def __init__(self, memory: FieldMemory, *, max_fields: int, max_size: int, max_target: int, max_body: int) -> None:
        """`memory` serves all connections of the process; sizes are in bytes, a `max_body` of 0 is no limit."""
        self._decoder = HeadDecoder(memory, max_fields=max_fields, max_size=max_size)
        self._max_fields = max_fields
        self._max_size = max_size
        self._max_target = max_target
        self._max_body = max_body
        self._known: dict[bytes, tuple[RequestHead, int]] = {}  # requests without content, and the sizes of their heads
        self._changes = 0

    def read(self, stream: int, block: bytes, *, ended: bool) -> tuple[RequestHead | ProtocolError, int]:
        """Return the request that a block begins, or why it is refused, and what its fields count for in bytes.

        Raises CompressionError.
        """
        if ended and self._decoder.changes == self._changes:
            known = self._known.get(block)
            if known is not None:
                return _again(known[0], stream), known[1]
        decoder = self._decoder
        fields = decoder.decode(block)
        if fields is None:
            most = f"{self._max_fields} fields and {self._max_size} bytes"
            return ProtocolError(431, f"header section of more than {most} (RFC 9113 section 10.5.1)"), 0
        size = decoder.estimate(fields)
        try:
            head = build_head(stream, fields, ended=ended, max_target=self._max_target)
        except ProtocolError as error:
            return error, size
        if self._max_body and head.length > self._max_body:
            return ProtocolError(413, f"content of {head.length} bytes, at most {self._max_body} allowed"), size
        if ended:
            self._remember(block, head, size)
        return head, size

    def read_trailers(self, block: bytes) -> ProtocolError | None:
        """Return why trailer fields are refused; None: they are good, and dropped, as ASGI has no place for them.

        Raises CompressionError.
        """
        fields = self._decoder.decode(block)
        if fields is None:
            return ProtocolError(431, "trailers that are too large (RFC 9113 section 10.5.1)")
        if any(field.flags & (INVALID | PSEUDO) for field in fields):
            return ProtocolError(400, "malformed trailers (RFC 9113 section 8.1)")
        return None

    def _remember(self, block: bytes, head: RequestHead, size: int) -> None:
        changes = self._decoder.changes
        if changes != self._changes:
            # The table is another one, so bytes that were remembered may mean something else. So may these, next time.
            self._changes = changes
            self._known.clear()
        elif len(block) <= _MAX_BLOCK and size <= _MAX_SIZE:
            if len(self._known) >= _MAX_HEADS:
                self._known.clear()
            self._known[block] = (head, size)


def _again(head: RequestHead, stream: int) -> RequestHead:
    """Return the same request on another stream."""
    again = RequestHead(stream, head.method, head.target, head.version, head.host)
    again.lines = head.lines
    again.flags = head.flags
    again.trailers = head.trailers
    return again
