"""How much of what costs work and brings nothing a client may send (reference: rapid reset, PING floods and their kin).

An allowance is spent by frames that bring nothing on, and earned back by time and by what a client honestly does:
requests that are answered, content that is sent to it. An honest client of any speed never comes near the end of one.
"""

from __future__ import annotations


class Allowance:
    """A bucket of tokens: `capacity` at first and at most, `rate` a second come back."""

    __slots__ = ("_at", "_capacity", "_left", "_rate")

    def __init__(self, capacity: float, rate: float) -> None:
        self._capacity = capacity
        self._rate = rate
        self._left = capacity
        self._at = 0.0

    def spend(self, cost: float, now: float) -> bool:
        """Take `cost` tokens; False when there are not that many. `now` is in seconds, of any clock."""
        self._left -= cost
        if self._left < 0:
            # Time is looked at when it matters: an honest client never gets here.
            self._left = min(self._capacity, self._left + self._rate * (now - self._at)) if self._at else self._left
            self._at = now
        return self._left >= 0

    def earn(self, tokens: float) -> None:
        """Give tokens back."""
        self._left = min(self._capacity, self._left + tokens)
