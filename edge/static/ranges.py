"""Which bytes of a file are asked for, and how several runs of them travel (RFC 9110 section 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

# More than a reader of documents asks for at once, and far less than what has brought servers down (CVE-2011-3192);
# beyond it the whole file is the answer, as RFC 9110 section 14.2 allows.
MAX_RANGES = 16
# Runs with fewer bytes between them are sent as one: the head of a part is longer than that.
_MERGE_GAP = 128

_ONE = re.compile(rb"bytes=([0-9]{1,19})-([0-9]{1,19})")
_UNIT = re.compile(rb"bytes[ \t]*=[ \t]*(.*)", re.IGNORECASE | re.DOTALL)
# Nineteen digits are what 64 bits hold.
_SPEC = re.compile(rb"(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))")


class Span(NamedTuple):
    """Bytes of a file from `start` up to, and without, `stop`."""

    start: int
    stop: int


class UnsatisfiableError(Exception):
    """No range has a byte of the file in it: 416."""


def parse_range(value: bytes, size: int) -> list[Span]:
    """Return the runs of a file of `size` bytes that a Range field asks for, merged; none: send all of it.

    The field is to be ignored when its unit is unknown, when it is malformed, and when it asks for more runs than
    MAX_RANGES or for as much as there is.

    Raises UnsatisfiableError if it is well formed and asks for nothing that there is.
    """
    if (one := _ONE.fullmatch(value)) is not None and int(one[1]) <= int(one[2]) and int(one[1]) < size:
        return [Span(int(one[1]), min(int(one[2]) + 1, size))]  # what nearly everybody asks for
    match = _UNIT.fullmatch(value.strip())
    if match is None or match[1].count(b",") >= MAX_RANGES:
        return []
    spans: list[Span] = []
    texts = [text for part in match[1].split(b",") if (text := part.strip(b" \t"))]
    for text in texts:
        spec = _SPEC.fullmatch(text)
        if spec is None or (spec[2] and int(spec[2]) < int(spec[1])):
            return []
        if (span := _find_span(spec, size)) is not None:
            spans.append(span)
    if not texts:
        return []
    if not spans:
        raise UnsatisfiableError(f"range {value[:60]!r} of {size} bytes")
    merged = _merge(spans)
    # One run of everything is a range all the same: some ask for it to learn whether ranges are served.
    return merged if len(merged) == 1 or sum(span.stop - span.start for span in merged) < size else []


def _find_span(spec: re.Match[bytes], size: int) -> Span | None:
    """Return what one range means, None when it has no byte of the file."""
    if spec[3]:
        length = min(int(spec[3]), size)
        return Span(size - length, size) if length else None
    start = int(spec[1])
    if start >= size:
        return None
    return Span(start, min(int(spec[2]) + 1, size) if spec[2] else size)


def _merge(spans: list[Span]) -> list[Span]:
    """Join what overlaps or lies close together; what does neither keeps the order in which it was asked for."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].stop + _MERGE_GAP:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    if len(joined) == len(spans):
        return spans
    return joined


def content_range(span: Span, size: int) -> bytes:
    """Return the value of Content-Range for one run (RFC 9110 section 14.4)."""
    return b"bytes %d-%d/%d" % (span.start, span.stop - 1, size)


def split_parts(spans: list[Span], size: int, media_type: bytes, boundary: bytes) -> list[bytes | Span]:
    """Return the content of a multipart/byteranges answer: what to send as it is, and runs of the file (section 14.6).

    `boundary` must be nothing that the file has in it.
    """
    pieces: list[bytes | Span] = []
    lead = b"--"
    for span in spans:
        head = b"%b%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
        pieces += (head % (lead, boundary, media_type, content_range(span, size)), span)
        lead = b"\r\n--"
    pieces.append(b"\r\n--%b--\r\n" % boundary)
    return pieces


def count_bytes(pieces: list[bytes | Span]) -> int:
    """Return the length of such content."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.stop - piece.start for piece in pieces)
