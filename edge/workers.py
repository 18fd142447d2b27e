"""The worker processes, as the master sees them: it does what the pool decides, and tells the pool what happens.

The pool (edge_backend/pool.py) knows no process. Here its decisions become processes and signals, and reports of
workers and edges become what it is told. Each generation of workers has its *plan*: what it was started with.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import selectors
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.account import refuse_unable
from edge.config import ServeSettings
from edge.config_sites import AppPlan
from edge.dispatch.links import Place
from edge.envfile import without_secrets
from edge.errors import ConfigError
from edge.observe import wants_colors
from edge.trust import Outbound, WorkerTrust, worker_trust
from edge_backend.identity import Identity
from edge_backend.pool import (
    CRASH_WINDOW,
    Action,
    CrashLoop,
    Drain,
    Dump,
    Kill,
    Pool,
    PoolRules,
    Settled,
    Spawn,
    StartFailure,
)
from edge_backend.settings import WorkerSettings
from edge_backend.supervisor import WorkerProcess

logger = logging.getLogger("edge.master")

# The memory of workers is looked at this often.
MEMORY_PACE = 2.0
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the workers of one generation are started with."""

    settings: ServeSettings
    app: AppPlan
    trust: WorkerTrust
    identity: Identity | None = None


class Workers:
    """Runs the worker processes of one application.

    `changed` is called when edges have to hear of it, `settled` when a reload is over; `numbers` are those of workers.
    """

    def __init__(
        self,
        plan: Plan,
        run_dir: Path,
        selector: selectors.BaseSelector,
        changed: Callable[[], None],
        numbers: Iterator[int],
        settled: Callable[[Settled], None],
    ) -> None:
        self._plans = {0: plan}
        self._run_dir = run_dir
        self._selector = selector
        self._changed = changed
        self._settled = settled
        self._workers: dict[int, WorkerProcess] = {}
        self._pool = Pool(_rules(plan), random.random, numbers)
        self._started_at: dict[int, float] = {}
        self._memory_at = 0.0
        self._last_plan: Plan | None = None  # what the last worker was started with

    # What the master wishes.

    def reload(self, plan: Plan, *, at_once: bool = False) -> int:
        """Replace all workers by ones of this plan; return the generation that `settled` will be called with.

        `at_once`: those that are there get nothing new from now on.
        """
        generation = self._pool.reload(_rules(plan), at_once=at_once)
        self._plans[generation] = plan
        if at_once:
            self._changed()
        return generation

    def resize(self, size: int) -> None:
        """Keep so many from now on."""
        if size != self._pool.size:
            logger.info("workers: %d instead of %d", size, self._pool.size)
            self._pool.resize(size)

    def stop(self) -> None:
        """Start none any more."""
        self._pool.stop()

    def finish(self) -> None:
        """Ask all of them to end when their edges have hung up."""
        for worker in self._workers.values():
            worker.stop()

    def end(self, grace: float) -> None:
        """Have all of them end within the grace time, or be killed; reap them."""
        self._pool.stop()
        self.finish()
        deadline = time.monotonic() + grace
        for worker in self._workers.values():
            with contextlib.suppress(Exception):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.kill()
            worker.process.wait()
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(worker.control)
            worker.release()

    def close_controls(self) -> None:
        """In a child: an edge must not hold what tells a worker that the master has ended."""
        for worker in self._workers.values():
            worker.control.close()

    # What the master asks.

    @property
    def failure(self) -> StartFailure | None:
        """Why nothing can be served, if that is so."""
        return self._pool.failure

    @property
    def size(self) -> int:
        """How many there should be."""
        return self._pool.size

    @property
    def generation(self) -> int:
        """The generation of the moment, see Pool.reload."""
        return self._pool.generation

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [worker.process.pid for worker in self._workers.values()]

    @property
    def is_any_ready(self) -> bool:
        """True if one can serve."""
        return bool(self._pool.ready_numbers)

    @property
    def ready_count(self) -> int:
        """How many can serve."""
        return len(self._pool.ready_numbers)

    @property
    def are_all_ready(self) -> bool:
        """True if as many can serve as there should be."""
        return len(self._pool.ready_numbers) >= self._pool.size

    @property
    def is_any_serving(self) -> bool:
        """True if one serves, or drains: it ends by itself when it has finished."""
        return self._pool.is_any_serving

    def places(self, key: str) -> dict[int, Place]:
        """Where those are that edges may send requests to, by number; `key` is the pool's."""
        pool, ready = self._pool, self._pool.ready_numbers
        return {
            number: Place(key, own.path, pool.slot(number), number in ready)
            for number, own in self._workers.items()
            if pool.is_served(number)
        }

    def ask(self) -> None:
        """Ask those that serve how they are; `are_answered` tells when they have said it."""
        for number in self._pool.ready_numbers:
            self._workers[number].ask()

    @property
    def are_answered(self) -> bool:
        """True if nobody owes an answer who can give one."""
        return not any(self._workers[number].is_asked for number in self._pool.ready_numbers)

    def status(self) -> list[dict[str, Any]]:
        """What an operator asks of each: number, process, state, age in seconds, memory in bytes, open files."""
        now = time.monotonic()
        return [
            {
                "number": number,
                "pid": worker.process.pid,
                "state": self._pool.state(number).value,
                "age": round(now - self._started_at[number], 1),
                "memory": worker.memory,
                "descriptors": worker.descriptors,
                "tasks": worker.tasks,
            }
            for number, worker in self._workers.items()
        ]

    @property
    def restarts(self) -> int:
        """How many were replaced because they ended by themselves or hung."""
        return self._pool.restarts

    def deadline(self) -> float:
        """Return when `do_due` must be called next."""
        due = self._pool.deadline()
        memory = self._memory_at if self._pool.rules.max_rss else _NEVER
        return min(_NEVER if due is None else due, memory)

    # What happens.

    def do_due(self, now: float) -> None:
        """Do what the pool says is to be done now."""
        if self._pool.rules.max_rss and now >= self._memory_at:
            self._memory_at = now + MEMORY_PACE
            for number, worker in self._workers.items():
                self._pool.reported(number, rss=worker.memory)
        for action in self._pool.due(now):
            self._do(action, now)

    def heard(self, seen: Mapping[int, tuple[int, int, float]]) -> None:
        """Take what edges have seen of the workers, see edge.status.seen_of_workers."""
        for number, (requests, _, silent) in seen.items():
            self._pool.reported(number, requests=requests, silent=silent)

    def reap(self) -> None:
        """Take note of those that have ended."""
        for number, worker in list(self._workers.items()):
            how = worker.poll()
            if how is not None:
                self._exited(number, worker, how)

    # Below: how.

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Spawn(number, generation):
                self._spawn(number, self._plans[generation], now)
            case Drain(number, reason):
                logger.info("worker %d: replaced: %s; it finishes what runs", number, reason)
                self._changed()
                self._workers[number].stop()
            case Dump(number, reason):
                logger.error("worker %d: %s; the stacks of its threads follow, then it is killed", number, reason)
                self._changed()
                self._workers[number].dump()
            case Kill(number, reason):
                logger.error("worker %d: %s; killed", number, reason)
                self._workers[number].kill()
            case CrashLoop(crashes, ready):
                logger.error(
                    "crash loop: %d workers have died within %g s; %d serve, new ones are tried every 10 s or sooner",
                    crashes, CRASH_WINDOW, ready,
                )  # fmt: skip
            case Settled():
                self._plans = {key: plan for key, plan in self._plans.items() if key in self._pool.generations}
                self._settled(action)

    def _spawn(self, number: int, plan: Plan, now: float) -> None:
        told = worker_settings(number, plan, is_first=plan is not self._last_plan)
        self._last_plan = plan
        worker = WorkerProcess(told, self._run_dir, plan.trust.environ, plan.app.python, plan.identity)
        self._workers[number] = worker
        self._started_at[number] = now
        self._selector.register(worker.control, selectors.EVENT_READ, lambda: self._reports(worker))
        self._changed()

    def _reports(self, worker: WorkerProcess) -> None:
        try:
            report = worker.read_report()
        except (EOFError, OSError):
            self._selector.unregister(worker.control)
            return
        if report is None:
            return
        if report.ready:
            self._pool.ready(worker.number, time.monotonic())
            logger.debug("worker %d: ready", worker.number)
            self._changed()
            return
        self._pool.failed(worker.number, report.code, report.message)
        if self._pool.failure is None:
            logger.error("worker %d: %s", worker.number, report.message)

    def _exited(self, number: int, worker: WorkerProcess, how: str) -> None:
        # What it said last may still be in the socket.
        with contextlib.suppress(KeyError, ValueError):
            self._reports(worker)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.control)
        worker.release()
        del self._workers[number], self._started_at[number]
        delay = self._pool.exited(number, time.monotonic(), how)
        self._changed()
        if delay is not None:
            logger.error("worker %d: %s; replaced in %.1f s", number, how, delay)
        else:
            logger.debug("worker %d: %s", number, how)


def plans_for(
    settings: ServeSettings, identity: Identity | None = None, outbound: Outbound | None = None
) -> dict[str, Plan]:
    """Return what the workers of each pool are started with, by the pool's key.

    Raises ConfigError: there is no such interpreter, or it cannot run as `identity`. CertificateError: what they are to
    trust cannot be read.
    """
    return {key: _plan(settings, app, identity, outbound) for key, app in settings.applications.items()}


def _plan(settings: ServeSettings, app: AppPlan, identity: Identity | None, outbound: Outbound | None) -> Plan:
    if app.python and not os.access(app.python, os.X_OK):
        raise ConfigError(f"python = {app.python!r}: no program there; name an interpreter that has edge installed")
    # Bytecode is told from old bytecode by the second and the size: two changes within a second would be one.
    development = {"PYTHONDONTWRITEBYTECODE": "1"} if settings.reload.on else {}
    # What is said of one application is said on purpose: it is stronger than what the whole server was started with.
    own = {**development, **dict(app.application.variables), **app.variables}
    user = identity.variables if identity is not None else {}
    environ = without_secrets({**settings.variables, **os.environ, **user, **own})
    if identity is not None:
        refuse_unable(identity, app.python or sys.executable, environ)
    return Plan(settings, app, worker_trust(environ, identity, outbound), identity)


def _rules(plan: Plan) -> PoolRules:
    pool, timeouts = plan.app.pool, plan.settings.timeouts
    return PoolRules(
        size=pool.workers,
        startup_timeout=timeouts.startup,
        drain_timeout=timeouts.drain,
        worker_timeout=timeouts.worker,
        max_crashes=pool.max_crashes,
        max_requests=pool.max_requests,
        max_requests_jitter=pool.max_requests_jitter,
        max_lifetime=pool.max_worker_lifetime,
        max_rss=pool.max_worker_rss,
        is_patient=plan.settings.reload.on,
    )


def worker_settings(number: int, plan: Plan, *, is_first: bool = False) -> WorkerSettings:
    """Return what a worker is told; `is_first`: none was started with this plan before."""
    settings = plan.settings
    application = plan.app.application
    return WorkerSettings(
        target=application.target,
        app_dir=application.app_dir or os.getcwd(),
        factory=application.factory,
        root_path=application.root_path,
        lifespan=application.wanted_lifespan,
        number=number,
        log_level=settings.logs.level,
        drain_timeout=settings.timeouts.drain,
        ws_max_size=settings.websocket.max_size,
        ws_ping_interval=settings.websocket.ping_interval,
        ws_ping_timeout=settings.websocket.ping_timeout,
        ws_per_message_deflate=settings.websocket.per_message_deflate,
        ca_bundle=plan.trust.ca_bundle,
        relax_strict=application.trust_strict == "off",
        disconnect_grace=settings.timeouts.disconnect_grace,
        sendfile_root=os.path.abspath(settings.static.sendfile_root) if settings.static.sendfile_root else "",
        ws_max_queue=settings.websocket.max_queue,
        log_config=os.path.abspath(settings.logs.config) if settings.logs.config else "",
        use_colors=wants_colors(settings.logs.colors, sys.stderr),
        loop=application.loop,
        python_path=application.python_path,
        lifespan_timeout=settings.timeouts.lifespan_shutdown,
        is_first=is_first,
        interface=application.spoken,
        threads=application.threads,
        trust_prefix=settings.forward.trust_prefix,
    )
