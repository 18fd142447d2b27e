"""How much of what costs work and brings nothing a client may send (reference: rapid reset, PING floods and their kin).

An allowance is spent by frames that bring nothing on, and earned back by time and by what a client honestly does:
requests that are answered, content that is sent to it. An honest client of any speed never comes near the end of one.
"""

from __future__ import annotations

from edge.http.frames import Code
from edge.http.incoming import Http2Error

# Frames that bring nothing on: so many at once, so many a second, and so many a request.
NOISE = 1000
NOISE_RATE = 50
NOISE_OF_REQUEST = 5
# Requests that the client gives up before their answer is out: so many more than come to their end (rapid reset).
MAX_RESETS = 100
# Requests that are malformed, or beyond the announced concurrency; ten good ones make up for one.
MAX_ERRORS = 20


class Allowance:
    """A bucket of tokens: `capacity` at first and at most, `rate` a second come back."""

    __slots__ = ("_at", "_capacity", "_left", "_rate")

    def __init__(self, capacity: float, rate: float) -> None:
        self._capacity = capacity
        self._rate = rate
        self._left = capacity
        self._at: float | None = None  # when time was looked at last

    def spend(self, cost: float, now: float) -> bool:
        """Take `cost` tokens; False when there are not that many. `now` is in seconds, of any clock."""
        self._left -= cost
        if self._at is None:
            self._at = now
        elif self._left < 0:
            # Time is looked at when it matters: a client that is busy never gets here.
            self._left = min(self._capacity, self._left + self._rate * (now - self._at))
            self._at = now
        return self._left >= 0

    def earn(self, tokens: float) -> None:
        """Give tokens back."""
        self._left = min(self._capacity, self._left + tokens)


class Patience:
    """What one connection may still do that brings nothing on. Each method raises Http2Error at the end of it."""

    __slots__ = ("_errors", "_given_up", "_noise")

    def __init__(self) -> None:
        self._noise = Allowance(NOISE, NOISE_RATE)
        self._given_up = Allowance(MAX_RESETS, 0)
        self._errors = Allowance(MAX_ERRORS, 0)

    def hear(self, cost: int, now: float) -> None:
        """A frame came that brings nothing on."""
        if not self._noise.spend(cost, now):
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "more frames that bring nothing on than a client has use for")

    def give_up(self, now: float) -> None:
        """The client has reset a stream whose answer was not out."""
        if not self._given_up.spend(1, now):
            reason = "more requests given up than answered (rapid reset, CVE-2023-44487)"
            raise Http2Error(Code.ENHANCE_YOUR_CALM, reason)

    def err(self, reason: str, now: float) -> None:
        """A request was malformed, or one too many."""
        if not self._errors.spend(1, now):
            raise Http2Error(Code.ENHANCE_YOUR_CALM, reason)

    def request(self) -> None:
        """A request has begun."""
        self._noise.earn(NOISE_OF_REQUEST)

    def answer(self) -> None:
        """A request has got its whole answer."""
        self._given_up.earn(1)
        self._errors.earn(0.1)

    def send(self, frames: int) -> None:
        """Content was sent that the client may answer with so many frames."""
        self._noise.earn(frames)
