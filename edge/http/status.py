"""Status codes and their phrases (RFC 9110 section 15)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

# Python 3.11's names are those of RFC 7231; RFC 9110 renamed two.
_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content", 416: "Range Not Satisfiable", 414: "URI Too Long"}


def phrase(status: int) -> str:
    """Return the reason phrase, `Unknown` for a code that nobody has registered."""
    if status in _RENAMED:
        return _RENAMED[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


STATUS_LINES: Mapping[int, bytes] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, phrase(status).encode()) for status in range(100, 600)
}
