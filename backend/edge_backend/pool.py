"""Which workers should run: a pure decider. Its caller does what it says, and reports what happened.

Theory of operation
-------------------
The pool keeps `size` workers that are *fresh*: started for the generation of the moment, and with no reason to be
replaced. A reload begins a new generation; a worker that has served its requests, its time or its memory is no longer
fresh either. Such a worker serves on until there is one more than `size` without it: the replacement comes first, then
the old one drains. A few more than `size` run meanwhile, a quarter and at least one. Each worker has a *slot*, which it
hands on to the one that takes its place: who wants the same worker again asks for the slot.

The first worker of a generation starts alone. If it does not get ready, the generation is given up and the one before
goes on; of the very first generation, that is the end of the start. A *patient* pool, of development, starts nothing
more then and waits for the next reload. Time comes in as an argument, monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

# A worker that dies is replaced at once the first time; a crash loop is slowed down, and never given up while
# anything serves.
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 10.0
# A worker that has lived this long was no part of a crash loop.
STABLE = 10.0
# Crashes are counted over this time; a crash loop that slows down has its first ten within 33 s.
CRASH_WINDOW = 60.0
# From the order to write its stacks to the log until it is killed: writing them takes milliseconds.
DUMP_TIME = 1.0
# What a worker may take to end after its drain is over.
DRAIN_GRACE = 2.0
# Until a worker is killed that starts in vain: edges may have it ready before we do, and learn by then to leave it.
START_GRACE = 2.0


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


_SERVED = (WorkerState.STARTING, WorkerState.READY)


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What a pool keeps to. Durations are seconds, sizes are bytes; a limit of 0 is none.

    `is_patient`: code that does not start is mended by whoever writes it, so the next reload is waited for.
    """

    size: int
    startup_timeout: float
    drain_timeout: float
    worker_timeout: float
    max_crashes: int
    max_requests: int = 0
    max_requests_jitter: int = 0
    max_lifetime: float = 0.0
    max_rss: int = 0
    is_patient: bool = False


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker with this number, with the settings of this generation."""

    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Give the worker nothing new, and have it end when what runs has ended."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dump:
    """Have the worker write the stacks of its threads to the log: it hangs, and is killed soon."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that will not end by itself."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The change to this generation is over: `failure` says why it was given up, empty if every worker is of it."""

    generation: int
    failure: str


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """So many workers have died within `CRASH_WINDOW`; `ready` serve."""

    crashes: int
    ready: int


Action = Spawn | Drain | Dump | Kill | Settled | CrashLoop


@dataclass(frozen=True, slots=True)
class StartFailure:
    """Nothing can be served: the exit code for the server, and why."""

    code: int
    message: str


@dataclass(slots=True)
class _Worker:
    state: WorkerState
    generation: int
    since: float  # when it came into its state
    started_at: float
    max_requests: int
    slot: int
    reason: str = ""  # why it is to be replaced; empty: it is not
    kill_at: float = float("inf")
    was_ready: bool = False
    is_expected: bool = False  # its end is our wish, and no crash


class Pool:
    """Keeps a number of workers. `numbers` are theirs, none twice. `spread` returns a random number from 0 to 1."""

    def __init__(self, rules: PoolRules, spread: Callable[[], float], numbers: Iterator[int]) -> None:
        self.failure: StartFailure | None = None
        self.generation = 0
        self.size = rules.size
        self.restarts = 0
        self.rules = rules
        self._spread = spread
        self._workers: dict[int, _Worker] = {}
        self._numbers = numbers
        self._last_generation = 0
        self._good_generation = -1  # the last of which a worker was ready
        self._least_served = 0  # workers of earlier generations get nothing new
        self._given_up = -1  # the generation that a patient pool starts nothing of
        self._is_settled = True
        self._crashes = 0
        self._crash_times: deque[float] = deque()
        self._is_looping = False
        self._failed_starts = 0
        self._not_before = 0.0
        self._is_stopping = False
        self._before = rules, rules.size
        self._news: list[Action] = []

    # What is to be done.

    def due(self, now: float) -> list[Action]:
        """Return what is to be done now; the pool counts it as done."""
        actions, self._news = self._news, []
        if self._is_stopping or self.failure is not None:
            return actions
        self._retire_old(now)
        actions += self._kills(now)
        actions += self._drains(now)
        while now >= self._not_before and self._missing() > 0:
            actions.append(self._spawn(now))
        # Some may be due for replacement again: where each lives for a second, there is hardly a moment without.
        ready = [worker.generation for worker in self._workers.values() if worker.state is WorkerState.READY]
        if not self._is_settled and len(ready) >= self.size and {*ready} <= {self.generation}:
            self._is_settled = True
            actions.append(Settled(self.generation, ""))
        return actions

    def deadline(self) -> float | None:
        """Return when `due()` must be called next, None if nothing changes but by a report; it is called after each."""
        if self._news:
            return 0.0
        if self._is_stopping or self.failure is not None:
            return None
        times = [time for worker in self._workers.values() if (time := self._next_change(worker)) is not None]
        if self._missing() > 0:
            times.append(self._not_before)
        return min(times, default=None)

    # What is wished.

    def reload(self, rules: PoolRules, *, at_once: bool = False) -> int:
        """Replace every worker by one of a new generation, and keep to these rules; return the generation's number.

        `Settled` comes of `due()` when that is done, or was given up. A size that did not change leaves `resize` alone.
        `at_once`: the workers there are get nothing new from now on, so that requests wait for the new ones.
        """
        self._before = (self.rules, self.size) if self.generation == self._good_generation else self._before
        if rules.size != self.rules.size or not self.size:  # 0: it was to end, and is wanted again
            self.size = rules.size
        self.rules = rules
        if not self._is_settled:
            self._news.append(Settled(self.generation, "another reload has taken its place"))
        self._last_generation += 1
        self.generation = self._last_generation
        if at_once:
            self._least_served = self.generation
        self._is_settled = False
        self._not_before = 0.0
        return self.generation

    def resize(self, size: int) -> None:
        """Keep so many workers from now on, also if a reload is given up."""
        self.size, self._before = size, (self._before[0], size)

    def stop(self) -> None:
        """Start nothing any more."""
        self._is_stopping = True

    # What happened.

    def ready(self, number: int, now: float) -> None:
        """The worker can serve."""
        worker = self._workers.get(number)
        if worker is not None and worker.state is WorkerState.STARTING:
            worker.state, worker.since, worker.was_ready = WorkerState.READY, now, True
            self._failed_starts = 0
            self._good_generation = max(self._good_generation, worker.generation)
        elif worker is not None and worker.state is WorkerState.DRAINING and not worker.was_ready:
            worker.was_ready = True
            self._let_finish(worker, now)

    def failed(self, number: int, code: int, message: str) -> None:
        """The worker says that the application does not start."""
        worker = self._workers.get(number)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        if self._good_generation < 0 and not self.rules.is_patient:
            self.failure = self.failure or StartFailure(code, message)
        elif self._is_first(worker):
            worker.state, worker.is_expected, worker.kill_at = WorkerState.STOPPING, True, 0.0
            worker.reason = "it did not end after its failure"
            self._give_up(message)

    def reported(self, number: int, *, requests: int = 0, silent: float = 0.0, rss: int = 0) -> None:
        """Its requests, the seconds without a sign of life of its event loop, its memory; 0 is nothing known."""
        worker = self._workers.get(number)
        if worker is None or worker.state not in (WorkerState.READY, WorkerState.DRAINING):
            return
        rules = self.rules
        if silent >= rules.worker_timeout:
            worker.state = WorkerState.STOPPING
            worker.kill_at = 0.0  # set by due(), which knows the time
            worker.reason = f"its event loop has shown no sign of life for {silent:.0f} s"
            self._news.append(Dump(number, worker.reason))
        elif worker.max_requests and requests >= worker.max_requests:
            worker.reason = worker.reason or f"{requests} requests"
        elif rules.max_rss and rss > rules.max_rss:
            worker.reason = worker.reason or f"{rss} bytes of memory, at most {rules.max_rss} allowed"

    def exited(self, number: int, now: float, how: str) -> float | None:
        """The process has ended: return the seconds until it is replaced, None if that was to be expected."""
        worker = self._workers.pop(number, None)
        if worker is None or self._is_stopping or worker.is_expected:
            return None
        if self._good_generation < 0 and not self.rules.is_patient:
            self.failure = self.failure or StartFailure(1, f"worker {number} ended before it was ready: {how}")
            return None
        self.restarts += 1
        if not worker.was_ready:
            if self._is_first(worker):
                self._give_up(f"worker {number} ended before it was ready: {how}")
                return None
            self._failed_starts += 1
            if self._failed_starts >= self.rules.max_crashes and not self.ready_numbers:
                what = f"no worker serves, and {self._failed_starts} in a row did not get ready"
                if self.rules.is_patient:
                    self._give_up(what)
                    return None
                self.failure = StartFailure(1, what)
        return self._slow_down(worker, now)

    # What is so.

    @property
    def ready_numbers(self) -> list[int]:
        """The workers that can serve."""
        return [number for number, worker in self._workers.items() if worker.state is WorkerState.READY]

    @property
    def alive_numbers(self) -> list[int]:
        """The workers whose process runs."""
        return list(self._workers)

    @property
    def is_any_serving(self) -> bool:
        """True if one serves, or drains: it ends by itself when it has finished."""
        serving = (WorkerState.READY, WorkerState.DRAINING)
        return any(worker.was_ready and worker.state in serving for worker in self._workers.values())

    @property
    def generations(self) -> set[int]:
        """The generations that may still start a worker, or have one."""
        own = {worker.generation for worker in self._workers.values()}
        return own | {self.generation, self._good_generation}

    def state(self, number: int) -> WorkerState:
        """Where the worker is in its life; it must be alive."""
        return self._workers[number].state

    def slot(self, number: int) -> int:
        """The worker's slot, from 0 on; two have the same one only while one replaces the other."""
        return self._workers[number].slot

    def is_served(self, number: int) -> bool:
        """True if edges should give the worker requests as soon as it is ready."""
        worker = self._workers.get(number)
        if worker is None or worker.generation < self._least_served:
            return False
        return worker.state in _SERVED

    # Below: how.

    def _is_fresh(self, worker: _Worker) -> bool:
        return worker.generation == self.generation and not worker.reason

    def _is_first(self, worker: _Worker) -> bool:
        """True for the worker by which a new generation is tried."""
        return worker.generation == self.generation != self._good_generation

    def _missing(self) -> int:
        """Return how many workers may be started now."""
        if self.generation == self._given_up:
            return 0
        if self._good_generation < 0:
            return 1 - sum(worker.state is not WorkerState.DRAINING for worker in self._workers.values())
        fresh = sum(worker.state in _SERVED and self._is_fresh(worker) for worker in self._workers.values())
        if self.generation != self._good_generation:
            # The first goes alone: an application that cannot start says so once, not once a worker.
            return 1 - fresh
        serving = sum(self.is_served(number) for number in self._workers)
        most = self.size + max(1, self.size // 4)
        return min(self.size - fresh, most - serving)

    def _spawn(self, now: float) -> Spawn:
        number = next(self._numbers)
        rules = self.rules
        most = rules.max_requests + round(self._spread() * rules.max_requests_jitter) if rules.max_requests else 0
        self._workers[number] = _Worker(WorkerState.STARTING, self.generation, now, now, most, self._next_slot())
        return Spawn(number, self.generation)

    def _next_slot(self) -> int:
        """Return the first slot that nobody has, else the first whose worker is to be replaced."""
        served = [worker for worker in self._workers.values() if worker.state in _SERVED]
        taken = {worker.slot for worker in served}
        kept = {worker.slot for worker in served if self._is_fresh(worker)}
        return min(set(range(max(1, self.size))) - kept, key=lambda slot: (slot in taken, slot))

    def _retire_old(self, now: float) -> None:
        lifetime = self.rules.max_lifetime
        for worker in self._workers.values():
            if lifetime and worker.state is WorkerState.READY and now >= worker.since + lifetime:
                worker.reason = worker.reason or f"{lifetime:g} s of life"

    def _kills(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for number, worker in self._workers.items():
            if worker.state is WorkerState.STARTING and not self._is_fresh(worker):
                worker.state, worker.since, worker.is_expected = WorkerState.DRAINING, now, True
                worker.reason, worker.kill_at = "started for settings that are no longer those", now + START_GRACE
                actions.append(Drain(number, worker.reason))
            elif worker.state is WorkerState.STARTING and now >= worker.since + self.rules.startup_timeout:
                actions.append(Kill(number, f"not ready within {self.rules.startup_timeout:g} s"))
                self._start_timed_out(worker)
            elif worker.state is WorkerState.STOPPING and worker.kill_at == 0.0:
                worker.kill_at = now + DUMP_TIME
            elif now >= worker.kill_at:
                worker.kill_at = float("inf")
                actions.append(Kill(number, worker.reason))
        return actions

    def _start_timed_out(self, worker: _Worker) -> None:
        worker.state = WorkerState.STOPPING
        if self._is_first(worker) and (self._good_generation >= 0 or self.rules.is_patient):
            worker.is_expected = True
            self._give_up(f"not ready within {self.rules.startup_timeout:g} s")

    def _drains(self, now: float) -> list[Action]:
        """Drain what is too many: those to be replaced first, then those whose slot another has, then the oldest."""
        ready = [(number, self._workers[number]) for number in self.ready_numbers]
        surplus = max(0, len(ready) - self.size)
        replaced = {worker.slot for _, worker in ready if self._is_fresh(worker)}
        ready.sort(key=lambda item: (self._is_fresh(item[1]), item[1].slot not in replaced, item[0]))
        actions: list[Action] = []
        for number, worker in ready[:surplus]:
            fewer = f"{self.size} workers are enough" if self._is_fresh(worker) else "reload"
            actions.append(Drain(number, worker.reason or fewer))
            worker.state, worker.since, worker.is_expected = WorkerState.DRAINING, now, True
            self._let_finish(worker, now)
        return actions

    def _let_finish(self, worker: _Worker, now: float) -> None:
        worker.reason = "it did not end after its drain"
        worker.kill_at = now + self.rules.drain_timeout + DRAIN_GRACE

    def _give_up(self, reason: str) -> None:
        """Go back to the generation before, or wait for the one that comes."""
        self._news.append(Settled(self.generation, reason))
        if self.rules.is_patient:
            self._given_up = self.generation
        else:
            self.generation = self._good_generation
            self.rules, self.size = self._before
        self._is_settled = True

    def _slow_down(self, worker: _Worker, now: float) -> float:
        """Return when the next worker may start after a crash, and see whether that is a crash loop."""
        if now - worker.started_at >= STABLE:
            self._crashes = 0
        delay = 0.0 if not self._crashes else min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** (self._crashes - 1))
        self._crashes += 1
        self._not_before = max(self._not_before, now + delay)
        times = self._crash_times
        times.append(now)
        while times[0] < now - CRASH_WINDOW:
            times.popleft()
        most, ready = self.rules.max_crashes, len(self.ready_numbers)
        if len(times) >= most and not self._is_looping:
            self._news.append(CrashLoop(len(times), ready))
        self._is_looping = len(times) >= most
        return delay

    def _next_change(self, worker: _Worker) -> float | None:
        if worker.state is WorkerState.STARTING:
            return worker.since + self.rules.startup_timeout if self._is_fresh(worker) else 0.0
        if worker.kill_at != float("inf"):
            return worker.kill_at
        if worker.state is WorkerState.READY and not worker.reason and self.rules.max_lifetime:
            return worker.since + self.rules.max_lifetime
        return None
