"""How a connection of HTTP/2 ends when its server goes away: GOAWAY in two steps (RFC 9113 section 6.8).

The first says that the connection will be closed, the second up to which request it serves; what the client sends
between the two is served yet. The first one waits for a moment in which no request is under way: some clients, httpcore
1.0 (httpx) among them, take any GOAWAY for the end of all their requests, though these are served. Told together with
the end of an answer, they go on elsewhere and lose nothing.
"""

from __future__ import annotations

from edge.http.http2 import Http2Connection

# For so many seconds a quiet moment is waited for: a client that sends one request after the other has one by then.
QUIET = 1.0
# Between the two steps, in seconds: one round trip of most clients.
FAREWELL = 1.0


class Farewell:
    """The steps of one connection. `is_due` is True when the first may be taken at the next quiet moment."""

    __slots__ = ("_core", "_next_at", "is_begun", "is_due")

    def __init__(self, core: Http2Connection) -> None:
        self._core = core
        self._next_at = 0.0
        self.is_begun = False
        self.is_due = False

    def begin(self, now: float) -> None:
        """The connection is to end."""
        if not self.is_begun:
            self.is_begun = self.is_due = True
            self._next_at = now + QUIET

    def announce(self, now: float) -> None:
        """Take the first step: the connection is quiet, or there was no quiet moment."""
        self.is_due = False
        self._next_at = now + FAREWELL
        self._core.announce_end()

    def go_on(self, now: float) -> None:
        """Take the step whose time has come, if there is one; it is begun."""
        if now < self._next_at:
            return
        if self.is_due:
            self.announce(now)
        else:
            self._core.refuse_more()
