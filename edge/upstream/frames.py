"""Where the frames of a WebSocket end, in the bytes that a server sends (RFC 6455 section 5.2).

Between two of them a front end can say its own Close; within one, that would be content. No I/O here.
"""

from __future__ import annotations

from typing import Final

# Close with 1012, service restart, of a server: not masked.
CLOSE: Final = b"\x88\x02\x03\xf4"
# Sizes of two and of eight bytes follow these seven bits.
_LONG: Final = {126: 2, 127: 8}
_MASKED: Final = 0x80


class FrameEnds:
    """Follows the frames of one direction."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""  # of a frame, while it is not whole
        self._left = 0  # bytes of a frame that are still to come

    @property
    def is_between(self) -> bool:
        """True if no frame has begun that has not ended."""
        return not self._left and not self._header

    def take(self, data: bytes, at: int = 0) -> int:
        """Go on from `at` to the next end of a frame, or to the end of `data`; return how far that is."""
        if not self._left:
            at = self._take_header(data, at)
        step = min(self._left, len(data) - at)
        self._left -= step
        return at + step

    def _take_header(self, data: bytes, at: int) -> int:
        """Read the header of a frame as far as it is here; return where what follows begins."""
        before = len(self._header)
        header = self._header + data[at : at + 14]
        size = 2
        if len(header) >= 2:
            long = _LONG.get(header[1] & 0x7F, 0)
            size += long + (4 if header[1] & _MASKED else 0)  # a server masks nothing; who does is followed, too
        if len(header) < size:
            self._header = header
            return len(data)
        self._header = b""
        self._left = int.from_bytes(header[2 : 2 + long], "big") if long else header[1] & 0x7F
        return at + size - before
