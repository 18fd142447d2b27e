"""Which workers should run: a pure decider. Its caller does what it says, and reports what happened.

Time comes in as an argument, monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# A worker that dies is replaced at once the first time; a crash loop is slowed down, and never given up.
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 10.0
# A worker that has lived this long was no part of a crash loop.
STABLE = 10.0


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker with this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that will not be ready any more."""

    number: int
    reason: str


Action = Spawn | Kill


@dataclass(frozen=True, slots=True)
class StartFailure:
    """The application cannot be started at all: the exit code for the server, and why."""

    code: int
    message: str


@dataclass(slots=True)
class _Worker:
    state: WorkerState
    started_at: float


class Pool:
    """Keeps `size` workers. Numbers are never used twice."""

    def __init__(self, *, size: int, startup_timeout: float) -> None:
        self.failure: StartFailure | None = None
        self._size = size
        self._startup_timeout = startup_timeout
        self._workers: dict[int, _Worker] = {}
        self._next_number = 0
        self._crashes = 0
        self._not_before = 0.0
        self._was_ready = False
        self._is_stopping = False

    def due(self, now: float) -> list[Action]:
        """Return what is to be done now; the pool counts it as done."""
        if self._is_stopping or self.failure is not None:
            return []
        actions: list[Action] = []
        for number, worker in self._workers.items():
            if worker.state is WorkerState.STARTING and now >= worker.started_at + self._startup_timeout:
                worker.state = WorkerState.STOPPING
                actions.append(Kill(number, f"not ready within {self._startup_timeout:g} s"))
        while now >= self._not_before and self._missing() > 0:
            actions.append(Spawn(self._next_number))
            self._workers[self._next_number] = _Worker(WorkerState.STARTING, now)
            self._next_number += 1
        return actions

    def deadline(self) -> float | None:
        """Return when `due()` must be called next, None if nothing but a report changes anything."""
        if self._is_stopping or self.failure is not None:
            return None
        times = [
            worker.started_at + self._startup_timeout
            for worker in self._workers.values()
            if worker.state is WorkerState.STARTING
        ]
        if self._missing() > 0:
            times.append(self._not_before)
        return min(times, default=None)

    def ready(self, number: int) -> None:
        """The worker can serve."""
        worker = self._workers.get(number)
        if worker is not None and worker.state is WorkerState.STARTING:
            worker.state = WorkerState.READY
            self._was_ready = True

    def failed(self, number: int, code: int, message: str) -> None:
        """The worker says that the application does not start. Before any was ready, that is the end of the start."""
        if number in self._workers and not self._was_ready:
            self.failure = self.failure or StartFailure(code, message)

    def exited(self, number: int, now: float, how: str) -> float | None:
        """The process has ended: return the seconds until it is replaced, None if it will not be."""
        worker = self._workers.pop(number, None)
        if worker is None or self._is_stopping:
            return None
        if not self._was_ready:
            self.failure = self.failure or StartFailure(1, f"worker {number} ended before it was ready: {how}")
            return None
        if now - worker.started_at >= STABLE:
            self._crashes = 0
        delay = 0.0 if not self._crashes else min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** (self._crashes - 1))
        self._crashes += 1
        self._not_before = max(self._not_before, now + delay)
        return delay

    def stop(self) -> None:
        """Start nothing any more."""
        self._is_stopping = True

    @property
    def ready_numbers(self) -> list[int]:
        """The workers that can serve."""
        return [number for number, worker in self._workers.items() if worker.state is WorkerState.READY]

    @property
    def alive_numbers(self) -> list[int]:
        """The workers whose process runs."""
        return list(self._workers)

    def _missing(self) -> int:
        if not self._was_ready:
            # The first goes alone: an application that cannot start says so once, not once a worker.
            return 1 - len(self._workers)
        serving = sum(worker.state is not WorkerState.STOPPING for worker in self._workers.values())
        return self._size - serving
