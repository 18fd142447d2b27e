"""The text of every answer that the edge gives by itself. Clients get the phrase of the status, never the reason."""

from __future__ import annotations

from edge.http.status import phrase


def error_page(status: int, request_id: bytes) -> bytes:
    """Return the content of an error answer, plain text; the id leads the operator to the log line."""
    return b"%d %b\nrequest id: %b\n" % (status, phrase(status).encode(), request_id)
