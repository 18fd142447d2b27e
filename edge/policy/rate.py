"""How often a client may ask: so many requests in a period, so many at a time (GCRA, the leaky bucket as a meter).

For each key one instant is kept: when all that it was allowed will have been paid for, at the steady rate. A request is
allowed unless that would lie more than `burst` requests ahead. What lies in the past counts no more: a key that is new
and one that was idle for long are the same.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final

from edge.http.events import RequestHead

MAX_KEYS: Final = 100_000
"""Clients that are remembered, about 150 bytes each. Beyond it the one that was not seen for longest is forgotten."""

Key = bytes | int


class Meter:
    """Meters requests by key: one each `interval` seconds, and `burst` at a time."""

    __slots__ = ("_interval", "_max_keys", "_paid_at", "_tolerance")

    def __init__(self, interval: float, burst: int, max_keys: int = MAX_KEYS) -> None:
        self._interval = interval
        self._tolerance = interval * burst
        self._max_keys = max_keys
        self._paid_at: OrderedDict[Key, float] = OrderedDict()

    def take(self, key: Key, now: float) -> float:
        """Count a request and return 0, or return in how many seconds it would be allowed."""
        paid_at = max(self._paid_at.get(key, now), now) + self._interval
        # Times are sums of floats: a request that is due now must not fail by the last bit.
        wait = paid_at - now - self._tolerance
        if wait > 1e-9:
            return wait
        self._paid_at[key] = paid_at
        self._paid_at.move_to_end(key)
        if len(self._paid_at) > self._max_keys:
            self._paid_at.popitem(last=False)
        return 0.0


class RateLimit:
    """The limit of one site. Requests are told apart by a field, where they have it, or by their client."""

    __slots__ = ("_field", "_meter")

    def __init__(self, meter: Meter, field: bytes = b"") -> None:
        """`field` is a name in lower case, or empty."""
        self._meter = meter
        self._field = field + b"\n" if field else b""

    def take(self, head: RequestHead, client: bytes, now: float) -> float:
        """Count a request of a client's address and return 0, or return in how many seconds it would be allowed."""
        return self._meter.take(self._key(head, client), now)

    def _key(self, head: RequestHead, client: bytes) -> Key:
        if self._field:
            for line in head.lines:
                if line.startswith(self._field):
                    return hash(line)  # the memory of a key is not the client's to choose
        return network_of(client)


def network_of(address: bytes) -> Key:
    """Return what a client's address is counted as: of IPv6 the first 64 bits, as one customer has all below them."""
    return int(IPv6Address(address.decode())) >> 64 if b":" in address else address
