"""Targets before a pool that say which client a request is of, so that the pool gives it the same worker again.

By address, which needs nothing of the client; or by a cookie of the edge's own, which the first answer sets. Choosing
the worker is the pool's, see choice.py: `exchange.affinity` is all that it is told.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Literal, cast

from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Client
from edge.dispatch.target import Target
from edge.policy.affinity import VALUE_SIZE, encode_cookie, find_value
from edge.policy.rate import network_of


def with_affinity(pool: Target, kind: Literal["off", "ip", "cookie"], chance: Callable[[int], bytes]) -> Target:
    """Return the pool, or what tells its clients apart before it. `chance` returns so many random bytes."""
    match kind:
        case "ip":
            return ByAddress(pool)
        case "cookie":
            return ByCookie(pool, chance)
        case _:
            return pool


class ByAddress:
    """Tells clients apart by their address; of IPv6, one customer has all those with the same first 64 bits."""

    def __init__(self, pool: Target) -> None:
        self._pool = pool

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Take the exchange. Raises what the pool raises."""
        network = network_of(exchange.client_address)
        exchange.affinity = network if isinstance(network, bytes) else b"%d" % network
        exchange.target = self._pool
        self._pool.submit(exchange, request)

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        self._pool.withdraw(exchange)


class ByCookie:
    """Tells clients apart by the cookie that they bring; one without gets a new one with its answer."""

    def __init__(self, pool: Target, chance: Callable[[int], bytes]) -> None:
        self._pool = pool
        self._chance = chance

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Take the exchange. Raises what the pool raises."""
        exchange.affinity = find_value(exchange.head.lines) or self._begin(exchange, request)
        exchange.target = self._pool
        self._pool.submit(exchange, request)

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        self._pool.withdraw(exchange)

    def _begin(self, exchange: Exchange, request: bytes) -> bytes:
        """Return a new value, which the answer will set."""
        value = urlsafe_b64encode(self._chance(VALUE_SIZE)).rstrip(b"=")
        # The fourth part of a head (docs/reference/wire.md): what the client speaks, by the word of trusted proxies.
        is_secure = request.split(b"\n", 4)[3].startswith(b"https")
        cookie = encode_cookie(value, secure=is_secure)
        exchange.interpose(lambda client: cast(Client, _CookieSetter(client, cookie)))
        return value


class _CookieSetter:
    """A client connection that adds a cookie to the answer. Refusals do not come this way: they are the edge's own."""

    def __init__(self, client: Client, cookie: bytes) -> None:
        self._client = client
        self._cookie = cookie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send_response(self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        self._client.send_response(exchange, length, [*fields, b"set-cookie", self._cookie], flags, body)

    def send_upgrade(self, exchange: Exchange, fields: list[bytes]) -> None:
        self._client.send_upgrade(exchange, [*fields, b"set-cookie", self._cookie])
