"""What a worker means when it gives a stream up: docs/reference/wire.md has the reasons (pure)."""

from __future__ import annotations

_FAULTS = {
    b"app-error": "the application raised an exception",
    b"no-response": "the application returned without an answer",
    b"incomplete": "the application returned before its answer was whole",
    b"too-long": "the application's content is longer than its content-length",
    b"too-short": "the application's content is shorter than its content-length",
}


def refusal_of(reason: bytes) -> tuple[int, str]:
    """Return the status that a client gets for a reset, and what the log is told."""
    if reason == b"denied":
        return 403, "the application refused the WebSocket"
    return 500, _FAULTS.get(reason, "the worker gave the request up")
