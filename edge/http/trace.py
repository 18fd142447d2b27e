"""Which trace a request belongs to (W3C Trace Context level 1): read for the log, passed on untouched."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAME = b"traceparent\n"
# Section 3.2.2: version 00, trace-id, parent-id, flags. Ids of nothing but zeros are none.
_TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


def find_trace(lines: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return trace-id and parent-id, the span that sent the request; empty without one Traceparent that is valid.

    `lines` are those of `RequestHead.lines`.
    """
    values = [line[len(_NAME) :] for line in lines if line.startswith(_NAME)]
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    return (match[1], match[2]) if match is not None else (b"", b"")
