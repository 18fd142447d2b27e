"""The pools of workers, one for each application that is served. To the master they are one.

Each has a key: where its application is, see ServeSettings.applications. Numbers of workers are unique among all.
A reload is over when it is over in each pool; a pool that is new with it joins when it can serve, and one that is not
wanted any more leaves when the others are done: until then the edges before may send it requests.
"""

from __future__ import annotations

import itertools
import selectors
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.dispatch.links import Place
from edge.errors import ConfigError, EdgeError, StartError
from edge.workers import Plan, Workers
from edge_backend.pool import Settled, StartFailure

_NEVER = float("inf")


@dataclass(slots=True)
class _Reload:
    """A reload under way: the generation that each pool has to settle, the pools that are new, and what went wrong."""

    waiting: dict[str, int] = field(default_factory=dict)
    joining: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Pools:
    """All pools. `changed` is called when edges have to hear of one, `settled` when a reload is over."""

    def __init__(
        self,
        plans: Mapping[str, Plan],
        run_dir: Path,
        selector: selectors.BaseSelector,
        changed: Callable[[], None],
        settled: Callable[[Settled], None],
    ) -> None:
        self.generation = 0
        self._run_dir = run_dir
        self._selector = selector
        self._changed = changed
        self._settled = settled
        self._numbers = itertools.count()
        self._reload: _Reload | None = None
        self._has_served = False
        self._pools = {key: self._make(key, plan) for key, plan in plans.items()}

    # What the master wishes.

    def reload(self, plans: Mapping[str, Plan], *, at_once: bool = False) -> int:
        """Replace all workers by ones of these plans; return the generation that `settled` will be called with.

        Pools without a plan stay until `keep_only`. `at_once`: the workers that are there get nothing new from now on.
        """
        if self._reload is not None:
            self._end_reload(self._reload, "another reload has taken its place")
        self.generation += 1
        self._reload = reload = _Reload()
        for key, plan in plans.items():
            if key in self._pools and self._pools[key].failure is None:
                reload.waiting[key] = self._pools[key].reload(plan, at_once=at_once)
            else:
                self._pools[key] = self._make(key, plan)
                reload.joining.append(key)
        return self.generation

    def keep_only(self, keys: Collection[str]) -> None:
        """No edge sends requests to the other pools any more: they finish what runs, and end."""
        for key, pool in list(self._pools.items()):
            if key not in keys:
                pool.resize(0)
                if not pool.pids:
                    del self._pools[key]

    def resize(self, size: int, key: str) -> None:
        """Keep so many workers in this pool from now on."""
        self._pools[key].resize(size)

    def stop(self) -> None:
        """Start none any more."""
        for pool in self._pools.values():
            pool.stop()

    def finish(self) -> None:
        """Ask all of them to end when their edges have hung up."""
        for pool in self._pools.values():
            pool.finish()

    def end(self, grace: float) -> None:
        """Have all of them end within the grace time, or be killed; reap them."""
        deadline = time.monotonic() + grace
        self.stop()
        self.finish()
        for pool in self._pools.values():
            pool.end(max(0.0, deadline - time.monotonic()))

    def close_controls(self) -> None:
        """In a child: an edge must not hold what tells a worker that the master has ended."""
        for pool in self._pools.values():
            pool.close_controls()

    # What the master asks.

    @property
    def failure(self) -> StartFailure | None:
        """Why the server has to end, if that is so: an application that does not start, later if none is left."""
        failures = [self._pools[key].failure for key in self._own_keys]
        if self._has_served and not all(failures):
            return None
        return next(filter(None, failures), None)

    @property
    def keys(self) -> list[str]:
        """The pools."""
        return list(self._pools)

    def size(self, key: str) -> int:
        """How many workers there should be in a pool."""
        return self._pools[key].size

    @property
    def total(self) -> int:
        """How many workers there should be in all pools."""
        return sum(pool.size for pool in self._pools.values())

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [pid for pool in self._pools.values() for pid in pool.pids]

    @property
    def ready_count(self) -> int:
        """How many can serve, in all pools."""
        return sum(pool.ready_count for pool in self._pools.values())

    @property
    def is_any_ready(self) -> bool:
        """True if a worker can serve, or none is needed."""
        return self.ready_count > 0 or not self._pools

    @property
    def can_serve(self) -> bool:
        """True if each pool has a worker that can serve, for the first time or now."""
        self._has_served = self._has_served or all(pool.is_any_ready for pool in self._pools.values())
        return self._has_served

    @property
    def are_all_ready(self) -> bool:
        """True if as many can serve as there should be."""
        return all(pool.are_all_ready for pool in self._pools.values())

    @property
    def is_any_serving(self) -> bool:
        """True if one serves, or drains: it ends by itself when it has finished."""
        return any(pool.is_any_serving for pool in self._pools.values())

    def places(self) -> dict[int, Place]:
        """Where those are that edges may send requests to, by number."""
        return {number: place for key, pool in self._pools.items() for number, place in pool.places(key).items()}

    def ask(self) -> None:
        """Ask all that serve how they are; `are_answered` tells when they have said it."""
        for pool in self._pools.values():
            pool.ask()

    def are_answered(self) -> bool:
        """True if nobody owes an answer who can give one."""
        return all(pool.are_answered for pool in self._pools.values())

    def status(self) -> list[dict[str, Any]]:
        """What an operator asks of each worker, see Workers.status, and its pool."""
        return [{**row, "pool": key} for key, pool in self._pools.items() for row in pool.status()]

    @property
    def restarts(self) -> int:
        """How many were replaced because they ended by themselves or hung."""
        return sum(pool.restarts for pool in self._pools.values())

    def deadline(self) -> float:
        """Return when `do_due` must be called next."""
        return min((pool.deadline() for pool in self._pools.values()), default=_NEVER)

    # What happens.

    def do_due(self, now: float) -> None:
        """Do what the pools say is to be done now."""
        for pool in list(self._pools.values()):
            pool.do_due(now)
        if self._reload is not None:
            self._look_at_new(self._reload)

    def heard(self, seen: Mapping[int, tuple[int, int, float]]) -> None:
        """Take what edges have seen of the workers, see edge.status.seen_of_workers."""
        for pool in self._pools.values():
            pool.heard(seen)

    def reap(self) -> None:
        """Take note of those that have ended."""
        for pool in self._pools.values():
            pool.reap()

    # Below: how.

    @property
    def _own_keys(self) -> list[str]:
        joining = self._reload.joining if self._reload is not None else ()
        return [key for key in self._pools if key not in joining]

    def _make(self, key: str, plan: Plan) -> Workers:
        parts = self._run_dir, self._selector, self._changed, self._numbers
        return Workers(plan, *parts, lambda settled: self._pool_settled(key, settled))

    def _pool_settled(self, key: str, settled: Settled) -> None:
        reload = self._reload
        if reload is None and settled.failure:
            # The first workers of a pool that waits for better code.
            self._settled(Settled(self.generation, self._of(key, settled.failure)))
        if reload is None or reload.waiting.get(key) != settled.generation:
            return  # of a reload before
        del reload.waiting[key]
        if settled.failure:
            reload.failures.append(self._of(key, settled.failure))
        self._end_if_over(reload)

    def _look_at_new(self, reload: _Reload) -> None:
        """Take note of the pools that are new with a reload, and serve or do not start; it may have no pool at all."""
        for key in list(reload.joining):
            failure = self._pools[key].failure
            if failure is not None:
                reload.failures.append(self._of(key, failure.message))
                self._pools.pop(key).end(0.0)
            elif not self._pools[key].is_any_ready:
                continue
            reload.joining.remove(key)
        self._end_if_over(reload)

    def _end_if_over(self, reload: _Reload) -> None:
        if not reload.waiting and not reload.joining:
            self._end_reload(reload, "; ".join(reload.failures))

    def _end_reload(self, reload: _Reload, failure: str) -> None:
        self._reload = None
        for key in reload.joining:
            self._pools.pop(key).end(0.0)  # nobody has heard of it yet
        self._settled(Settled(self.generation, failure))

    def _of(self, key: str, failure: str) -> str:
        return f"{key}: {failure}" if len(self._pools) > 1 else failure


def start_error(failure: StartFailure) -> EdgeError:
    """Return what the server ends with: a wrong name is the command's fault, all else the application's."""
    return (ConfigError if failure.code == ConfigError.exit_code else StartError)(failure.message)
