"""Whether requests are let through, as the master keeps it: for edges of now, and for those that come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.errors import ConfigError
from edge.options import seconds
from edge.options_networks import networks
from edge.policy.forwarded import announcers

DEFAULT_MAX = 30.0
"""Seconds that a request waits while the server is paused: browsers and proxies give up after 60."""
DEFAULT_RETRY = 60
"""Seconds after which clients are told to come back from maintenance."""


@dataclass(frozen=True, slots=True)
class GateState:
    """`mode` is `open`, `paused` (requests wait for `limit` seconds) or `maintenance` (503, but for `allow`)."""

    mode: str = "open"
    limit: float = 0.0
    allow: tuple[str, ...] = ()
    retry_after: int = 0

    @property
    def order(self) -> dict[str, Any]:
        """What an edge is told."""
        return {"mode": self.mode, "limit": self.limit, "allow": list(self.allow), "retry_after": self.retry_after}

    def describe(self) -> str:
        """Return what an operator sees of it; empty: nothing is kept from anybody."""
        if self.mode == "paused":
            return f"paused: requests wait, at most {self.limit:g} s"
        if self.mode == "maintenance":
            allowed = f", but for {', '.join(self.allow)}" if self.allow else ""
            return f"maintenance: requests get 503{allowed}"
        return ""


def parse_command(name: str, arguments: dict[str, Any]) -> GateState:
    """Return the state that a command asks for: `pause`, `resume`, or `maintenance`.

    Raises ConfigError: an argument is none.
    """
    if name == "pause":
        return GateState("paused", seconds().parse(arguments.get("max") or DEFAULT_MAX))
    if name == "resume":
        return GateState()
    if arguments.get("on") not in (True, False):
        raise ConfigError(f"on: {arguments.get('on')!r}: neither true nor false")
    if not arguments["on"]:
        return GateState()
    allow = tuple(str(item) for item in arguments.get("allow") or ())
    parse_allowed(list(allow))
    retry = seconds().parse(arguments.get("retry_after") or DEFAULT_RETRY)
    return GateState("maintenance", allow=allow, retry_after=max(1, round(retry)))


def parse_allowed(allow: list[str]) -> Callable[[bytes], bool]:
    """Return what tells whether a client's address is in one of the networks.

    Raises ConfigError: one is no network.
    """
    is_in = announcers(networks().parse(allow))
    if is_in is None:
        return lambda address: False
    return lambda address: is_in(None if address == b"unix" else (address.decode(), 0))
