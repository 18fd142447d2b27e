"""`edge status` waits a moment for what workers say of themselves: the master asks them only when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.control import Reply

# A worker answers from its event loop, so in a millisecond unless that is blocked: then its last answer counts.
PATIENCE = 0.5
_NEVER = float("inf")


class Inquiry:
    """Those who wait for a status. `ask` has the workers say how they are, `is_answered` tells when all have."""

    def __init__(
        self, ask: Callable[[], None], is_answered: Callable[[], bool], status: Callable[[], dict[str, Any]]
    ) -> None:
        self._ask = ask
        self._is_answered = is_answered
        self._status = status
        self._waiting: list[Reply] = []
        self.deadline = _NEVER
        """When `due` answers whoever waits, in monotonic seconds."""

    def begin(self, reply: Reply, now: float) -> None:
        """Somebody wants to know."""
        if not self._waiting:
            self.deadline = now + PATIENCE
            self._ask()
        self._waiting.append(reply)

    def due(self, now: float) -> None:
        """Answer if there is all to say, or it is time."""
        if not self._waiting or (now < self.deadline and not self._is_answered()):
            return
        status = self._status()
        for reply in self._waiting:
            reply.send(**status)
        self._waiting.clear()
        self.deadline = _NEVER
