"""What clients of HTTP/2 do not take of their answers: how much of it may wait here, and for how long."""

from __future__ import annotations

from edge_backend import wire

# As long as all connections of the process hold less than this, each answer has the whole window of the wire: a client
# that takes nothing frees the worker, however many requests it has open.
UNTAKEN_ANSWERS = 64 * 1024 * 1024
# Beyond that, what of all answers together a connection may hold that its client has not taken.
ANSWERS_WINDOW = 1024 * 1024
# A client that takes less of what waits for it, within the time for a write to stall, takes nothing.
LEAST_PROGRESS = 16 * 1024


class Untaken:
    """What the edge holds of answers over HTTP/2 because their clients do not take it; of all connections, in bytes."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


class Share:
    """The part of one connection."""

    __slots__ = ("_looked_at", "_of", "_sent", "size")

    def __init__(self, of: Untaken, now: float) -> None:
        self._of = of
        self.size = 0  # bytes that the process counts for this connection
        self._looked_at = now
        self._sent = 0  # bytes that the client had taken when that was looked at

    def count(self, size: int) -> None:
        """So many bytes wait for the client now."""
        self._of.size += size - self.size
        self.size = size

    def narrow_window(self, streams: int) -> int:
        """Return what each of so many answers may have here while the process holds UNTAKEN_ANSWERS, in bytes."""
        return max(wire.NARROW_WINDOW, min(wire.INITIAL_WINDOW, ANSWERS_WINDOW // (streams or 1)))

    def is_stalled(self, now: float, waiting: int, sent: int, limit: float) -> bool:
        """Tell whether the client has taken next to nothing for `limit` seconds, of the bytes that wait for it.

        `sent` is what it, or the system for it, has taken since the connection began.
        """
        if waiting and now - self._looked_at < limit:
            return False
        is_stalled = waiting > 0 and sent - self._sent < LEAST_PROGRESS
        self._looked_at, self._sent = now, sent
        return is_stalled
