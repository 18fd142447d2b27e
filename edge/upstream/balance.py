"""Which server of an upstream gets a request: the least busy one that is up, by what is known of each (pure)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edge.config_sites import UpstreamPlan


class ServerState:
    """What is known of one server. Instants are monotonic seconds."""

    __slots__ = ("busy", "down_until", "failures", "is_ill", "requests")

    def __init__(self) -> None:
        self.busy = 0  # requests that run, or have a connection made for them
        self.requests = 0
        self.failures: list[float] = []  # when it failed, within the time that counts
        self.down_until = 0.0
        self.is_ill = False  # the last active check failed

    def is_up(self, now: float) -> bool:
        """True if it gets requests."""
        return not self.is_ill and self.down_until <= now


class Balance:
    """Chooses between servers, by number."""

    def __init__(self, plan: UpstreamPlan) -> None:
        self._plan = plan
        self._last = -1
        self.servers: Sequence[ServerState] = [ServerState() for _ in plan.servers]

    def choose(self, now: float, tried: Collection[int] = ()) -> int | None:
        """Return the server for a request that those in `tried` have failed; None if none is left that may get it.

        When all are down by failures of requests alone, they get requests all the same: it is no worse than to refuse
        all, and shows when one is back. One that fails its active check gets nothing.
        """
        if len(self.servers) == 1:
            return None if tried or self.servers[0].is_ill else 0
        left = [number for number in range(len(self.servers)) if number not in tried]
        up = [number for number in left if self.servers[number].is_up(now)]
        if not up:
            up = [number for number in left if not self.servers[number].is_ill]
        if not up:
            return None
        if self._plan.balance == "first":
            return up[0]
        # Among equals, the next in turn.
        count = len(self.servers)
        chosen = min(up, key=lambda number: (self.servers[number].busy, (number - self._last - 1) % count))
        self._last = chosen
        return chosen

    def failed(self, number: int, now: float) -> bool:
        """A request to the server has failed; True if it gets nothing for a while because of that."""
        server, plan = self.servers[number], self._plan
        server.failures = [at for at in server.failures if at > now - plan.fail_timeout] + [now]
        if not plan.max_fails or len(server.failures) < plan.max_fails:
            return False
        was_up = server.down_until <= now
        server.down_until = now + plan.fail_timeout
        return was_up

    def succeeded(self, number: int) -> None:
        """The server has answered a request."""
        server = self.servers[number]
        if server.failures:
            server.failures = []
            server.down_until = 0.0

    def checked(self, number: int, *, is_well: bool) -> bool:
        """Take the outcome of an active check; True if it is another than before."""
        server = self.servers[number]
        has_changed = server.is_ill == is_well
        server.is_ill = not is_well
        if is_well:
            server.down_until = 0.0
        return has_changed
