"""The master process: starts and replaces workers and edges, hands certificates on, and ends it all.

Theory of operation
-------------------
No client byte comes here, and no event loop runs here: one `selectors` loop waits for signals, the control sockets of
workers and edges, the operator's commands, and the next deadline. That keeps forking simple, as a fork copies nothing
that runs.

Settings are checked, listeners bound, certificates read and proven before it is made (server.py), so that bad input
leaves nothing behind. Workers start (workers.py); when the first is ready, the listeners listen and edges are forked
(edges.py). Reload: everything is read again, and only when all of it is good does anything change.
Stop: edges drain, then workers; a second signal, or the drain timeout, ends it at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from edge.commands import Commands
from edge.config import ServeSettings
from edge.control import ControlServer, Reply
from edge.edges import Edge, Edges
from edge.errors import EdgeError
from edge.inquiry import Inquiry
from edge.keeper import KeeperProcess
from edge.metrics import MetricsServer
from edge.net.listener import Listener, start_listening
from edge.notify import ServiceManager
from edge.observe import Output, say
from edge.orders import run_edge
from edge.pools import Pools, start_error
from edge.process import EdgeProcess
from edge.reloading import Reading, of_edges
from edge.rundir import RunDirectory
from edge.served import ServedCertificates
from edge.signals import STOPPING, Signals, reap_orphans
from edge.standin import PASSED_ON
from edge.status import describe, seen_of_workers, summarize, worker_rows
from edge.tls.contexts import TlsServer
from edge.upgrade import Predecessor, Upgrade
from edge.upstream.trust import UpstreamTrust
from edge.watch import CodeWatch
from edge.workers import Plan
from edge_backend.identity import Identity
from edge_backend.pool import Settled
from edge_certs.errors import CertificateError

logger = logging.getLogger("edge.master")

# Signals to stop that come together are one wish: timeout(1) sends its own to the process, then to the whole group.
SAME_WISH = 0.1
# What an edge may take to answer and to log the requests that it cuts off.
EDGE_GRACE = 0.5
# What an edge or a worker may take to end after it was told to, before it is killed.
LAST_GRACE = 2.0
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Parts:
    """What is made before anything runs: `read` gives what a reload reads, `predecessor` hands over to us."""

    settings: ServeSettings
    plans: Mapping[str, Plan]
    read: Callable[[ServeSettings], Reading]
    listeners: list[Listener]  # those for `--metrics` among them
    tls: TlsServer | None
    trust: UpstreamTrust
    certificates: ServedCertificates
    keeper: KeeperProcess
    run_dir: RunDirectory
    predecessor: Predecessor | None
    manager: ServiceManager
    identity: Identity | None  # whom edges and workers are to be
    is_program: bool  # the process ends with the server
    started_in: str | None = None  # where an upgrade starts the command again


class Master:
    """Runs the processes of one server. `run()` is its whole life; `successor` is then who has taken over, or None."""

    def __init__(self, parts: Parts) -> None:
        self.successor: int | None = None
        self._settings = settings = parts.settings
        self._read = parts.read
        self._listeners = [listener for listener in parts.listeners if not listener.is_metrics]
        self._tls = parts.tls
        self._trust = parts.trust
        self._certificates = parts.certificates
        self._run_dir = parts.run_dir
        self._predecessor = parts.predecessor
        self._manager = parts.manager
        self._is_program = parts.is_program
        self._selector = selectors.DefaultSelector()
        self._keeper = parts.keeper
        self._identity = parts.identity
        self._workers = Pools(parts.plans, parts.run_dir.path, self._selector, self._workers_changed, self._settled)
        self._edges = Edges(self._selector, self._greet, self._leave, self._heard)
        self._metrics = MetricsServer(parts.listeners, self._selector, lambda: (self._status(), self._edges.counts()))
        listeners = [*self._listeners, *self._metrics.listeners]
        self._upgrade = Upgrade(listeners, self._selector, self._succeeded, parts.started_in, parts.manager.variables)
        self._inquiry = Inquiry(self._workers.ask, self._workers.are_answered, self._status)
        self._commands = Commands(
            self._workers,
            self._edges,
            {
                "status": lambda name, arguments, reply: self._inquiry.begin(reply, time.monotonic()),
                "reload": lambda name, arguments, reply: self._reload(reply),
                "upgrade": lambda name, arguments, reply: self._begin_upgrade(reply),
                **dict.fromkeys(("drain", "stop"), self._end_asked),
            },
            lambda: self._upgrade.is_under_way,
        )
        self._control = ControlServer(parts.run_dir.path, self._selector, self._commands.do)
        self._reloads: dict[int, tuple[Reading, Reply | None]] = {}
        self._replies: list[Reply] = []  # of reloads that edges take over
        self._signals = Signals()
        replace = partial(self._reload, None, at_once=True)
        self._watch = CodeWatch(settings.reload, settings.application.app_dir, self._selector, replace)
        self._started_at = time.monotonic()
        self._is_serving = False
        self._stop_signals = 0
        self._stop_asked_at = 0.0
        self._drain_timeout = settings.timeouts.drain

    def run(self, remarks: Sequence[str]) -> int:
        """Serve until told to stop; return the exit code. `remarks` are for the operator, once it serves.

        Raises EdgeError if the application does not start.
        """
        with contextlib.ExitStack() as last:
            last.callback(self._selector.close)
            last.callback(self._control.close)
            last.enter_context(
                self._signals.handling(
                    self._selector,
                    is_succeeded=lambda: self.successor is not None,
                    is_over=lambda: self._is_program and self._stop_signals > 0,
                )
            )
            try:
                self._workers_changed()  # where no application is served, there is nothing to wait for
                self._until(lambda: self._is_serving or self._stop_signals > 0)
                if self._is_serving:
                    # Not before: whoever named a wrong application gets the one line that says so.
                    for remark in remarks:
                        say(remark)
                self._until(lambda: self._stop_signals > 0)
                if self._workers.failure is not None:
                    self._manager.stopping(self._workers.failure.message)
                    raise start_error(self._workers.failure)
                self._drain()
            finally:
                self._end_processes()
        return 0

    # The loop.

    def _until(self, done: Callable[[], bool], deadline: float = _NEVER) -> None:
        """Run the loop until `done()`, the deadline, or a start that failed."""
        while not done() and self._workers.failure is None and time.monotonic() < deadline:
            self._do_due()
            for key, _ in self._selector.select(self._timeout(deadline)):
                key.data()
            self._handle_signals()

    def _timeout(self, deadline: float) -> float:
        others = (self._keeper.deadline, self._certificates.deadline, self._manager.deadline, self._inquiry.deadline)
        due = min(deadline, self._workers.deadline(), self._edges.deadline(), *others)
        return max(0.0, min(due - time.monotonic(), 60.0))

    def _do_due(self) -> None:
        now = time.monotonic()
        if not self._reloads and self._edges.are_all_new:
            self._workers.keep_only(self._settings.applications)  # first: what they do then is due now
        self._workers.do_due(now)
        self._edges.do_due(now)
        self._keeper.due(now)
        if self._replies and self._edges.have_taken_over(self._workers.places()):
            for reply in self._replies:
                reply.send(workers=self._workers.total)
            self._replies.clear()
        self._manager.beat(now, self._is_sound)
        self._inquiry.due(now)
        if self._certificates.have_changed(now) and self._certificates.reload():
            self._edges.order(**self._certificates.orders)

    def _handle_signals(self) -> None:
        signals = self._signals.take()
        for number in signals:
            if self.successor is not None and number in PASSED_ON:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.successor, number)
            elif number in STOPPING:
                self._stop_asked(time.monotonic())
            elif number == signal.SIGHUP:
                self._reload(None)
            elif number == signal.SIGUSR1:
                self._edges.order(reopen=True)
            elif number == signal.SIGUSR2:
                self._begin_upgrade(None)
            elif number in (signal.SIGTTIN, signal.SIGTTOU):
                self._commands.resize_all(1 if number == signal.SIGTTIN else -1)
        if signal.SIGCHLD in signals:
            self._workers.reap()
            self._edges.reap()
            self._keeper.reap(time.monotonic())
            if os.getpid() == 1:
                reap_orphans(self._own_pids())

    def _stop_asked(self, now: float) -> None:
        if now - self._stop_asked_at >= SAME_WISH:
            self._stop_signals += 1
        self._stop_asked_at = now

    # Workers and edges.

    def _workers_changed(self) -> None:
        self._edges.order(workers=self._workers.places())
        if not self._is_serving and self._workers.can_serve and not self._stop_signals:
            self._start_serving()
        self._take_over()
        self._tell()

    def _start_serving(self) -> None:
        self._is_serving = True
        start_listening(self._listeners, self._settings.listen.backlog)
        if self._predecessor is None:
            self._metrics.begin()
        self._start_edges()
        for listener in self._listeners:
            say(f"listening on {describe(listener)}")
        for listener in self._metrics.listeners:
            say(f"metrics on {describe(listener)}")
        self._keeper.begin(time.monotonic())

    def _start_edges(self) -> None:
        settings, trust = self._settings, self._trust

        def make(output: Output | None) -> EdgeProcess:
            return EdgeProcess(settings, self._listeners, self._tls, trust, output)

        self._edges.start(
            settings.pool.edges,
            lambda control: run_edge(make, settings.logs, self._identity, control),
            settings.timeouts.drain,
        )

    def _greet(self, edge: Edge) -> None:
        if self._certificates.orders:
            edge.order(**self._certificates.orders)
        if self._commands.gate.mode != "open":
            edge.order(gate=self._commands.gate.order)
        edge.order(workers=self._workers.places())

    def _leave(self) -> None:
        self._edges.close_controls()
        self._workers.close_controls()
        self._control.leave()
        self._metrics.leave()
        self._keeper.abandon()
        self._watch.leave()
        if self._predecessor is not None:
            self._predecessor.leave()
        self._upgrade.leave()
        self._selector.close()

    def _heard(self, _edge: Edge) -> None:
        self._workers.heard(seen_of_workers(edge.report for edge in self._edges))
        self._take_over()
        self._tell()

    def _tell(self) -> None:
        """Tell the service manager how things are; for it, the server is ready when edges and a worker serve."""
        if self._predecessor is not None or self._stop_signals:
            return
        is_ready = self._is_serving and self._workers.is_any_ready and self._edges.are_all_serving
        self._manager.tell(self._summary(), is_ready=is_ready)

    def _summary(self) -> str:
        return summarize(self._workers.ready_count, self._workers.total, self._listeners)

    def _is_sound(self) -> bool:
        """False when it would help to end everything and start again: no edge answers, or no worker serves."""
        if self._stop_signals:
            return True
        return self._edges.ask() and self._workers.is_any_ready

    def _own_pids(self) -> set[int]:
        others = self._workers.pids, self._keeper.pids, self._watch.pids, self._upgrade.pids
        return {edge.pid for edge in self._edges}.union(*others)

    # Reload.

    def _reload(self, reply: Reply | None, *, at_once: bool = False) -> None:
        """Read everything again; nothing changes unless all of it is good. `reply` gets the outcome.

        `at_once`: requests wait for the new workers, see Pool.reload.
        """
        if self._stop_signals:
            if reply is not None:
                reply.refuse("settings not reloaded: the server is ending")
            return
        try:
            found = self._read(self._settings)
            found.outbound.publish()
        except Exception as error:  # whatever it is: the end of the master would end what serves
            what = "certificates" if isinstance(error, CertificateError) else "settings"
            reasons = "; ".join(str(error).splitlines())
            is_ours = isinstance(error, EdgeError | CertificateError | OSError)
            logger.error(
                "%s not reloaded: %s; the old ones go on serving", what, reasons, exc_info=None if is_ours else error
            )
            if reply is not None:
                reply.refuse(f"{what} not reloaded: {error}")
            return
        self._certificates.use(found.certificates)
        self._edges.order(**self._certificates.orders)
        self._manager.reloading()
        generation = self._workers.reload(found.plans, at_once=at_once)
        self._reloads[generation] = found, reply
        if not at_once:
            logger.info("reload: new workers take the place of the old ones")

    def _settled(self, settled: Settled) -> None:
        """A reload is over. Edges follow the workers: where those do not start, nothing changes."""
        found, reply = self._reloads.pop(settled.generation, (None, None))
        if found is not None and not settled.failure:
            self._use(found)
        if self._watch.is_on and settled.failure:
            self._new_code_failed(settled)
        elif settled.failure:
            logger.error("reload given up: %s; the old workers go on serving", settled.failure)
        else:
            logger.info("reload: done, every worker is new")
        self._manager.reloaded(self._summary())
        if reply is not None and settled.failure:
            reply.refuse(f"reload given up: {settled.failure}; the old workers go on serving")
        elif reply is not None:
            self._replies.append(reply)  # it serves as it is to when edges have it, too

    def _use(self, found: Reading) -> None:
        before = of_edges(self._settings), self._trust
        self._settings, self._trust = found.settings, found.trust
        if self._is_serving and before != (of_edges(found.settings), found.trust):
            self._start_edges()

    def _new_code_failed(self, settled: Settled) -> None:
        if settled.generation == self._workers.generation:
            logger.error("reload: %s; requests wait, the next change is tried", settled.failure)
        if not self._is_serving and not self._stop_signals:
            self._start_serving()  # a browser that is there before the code waits with it

    # Upgrade.

    def _begin_upgrade(self, reply: Reply | None) -> None:
        """Start another master that is to take over; `reply` gets the outcome."""
        if self._commands.gate.mode != "open":
            message = f"upgrade: {self._commands.gate.describe()}; use edge resume first"
            logger.error("%s", message)
            if reply is not None:
                reply.refuse(message)
        elif self._is_serving and not self._stop_signals and not self._upgrade.is_under_way:
            self._upgrade.begin(reply)
        elif reply is not None:
            reply.refuse("upgrade: another one is under way, or the server is starting or ending; try again later")

    def _succeeded(self, pid: int) -> None:
        self.successor = pid
        self._manager.succeeded(pid)
        self._run_dir.give_up()
        self._stop_signals += 1

    def _take_over(self) -> None:
        """Tell the predecessor, if there is one, as soon as everything serves here."""
        is_complete = self._edges.are_all_serving and self._workers.are_all_ready
        if self._predecessor is None or self._stop_signals or not is_complete:
            return
        predecessor, self._predecessor = self._predecessor, None
        self._run_dir.take()
        predecessor.tell_ready()
        self._metrics.begin()

    # Commands.

    def _end_asked(self, name: str, arguments: dict[str, Any], reply: Reply) -> None:
        self._stop_signals += 2 if arguments.get("now") else 1
        if name == "drain":
            self._drain_timeout = _NEVER
        reply.send(pid=os.getpid())

    def _status(self) -> dict[str, Any]:
        reports = [edge.report for edge in self._edges]
        return {
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started_at, 1),
            "state": "draining" if self._stop_signals else "serving" if self._is_serving else "starting",
            "listening": [describe(listener) for listener in self._listeners],
            "size": self._workers.total,
            "restarts": self._workers.restarts,
            "workers": worker_rows(self._workers.status(), reports),
            "edges": self._edges.status(),
            "queue": sum(report.get("queue", 0) for report in reports),
            "gate": self._commands.gate.order,
            "certificates": self._certificates.status(),
            "renewals": self._certificates.renewals(),
        }

    # The end.

    def _drain(self) -> None:
        """Let edges finish, then workers; the drain timeout and a second signal cut it short."""
        self._manager.stopping("ending: what runs is finished")
        self._upgrade.give_up()
        self._workers.stop()
        self._edges.stop()
        signals = 1
        deadline = time.monotonic() + self._drain_timeout
        for listener in self._listeners:
            listener.sock.close()
        self._metrics.end()
        self._edges.drain(gently=self.successor is not None)
        self._until(lambda: not len(self._edges) or self._stop_signals > signals, deadline)
        if len(self._edges) and self._stop_signals == signals:
            logger.warning("drain: %g s are over; what still runs is cut off", self._drain_timeout)
        self._edges.order(stop=True)
        self._until(lambda: not len(self._edges), time.monotonic() + EDGE_GRACE)
        self._workers.finish()
        # A worker that is not ready has nothing to finish and may not hear of it: it gets the last grace only.
        rest = max(deadline - time.monotonic(), LAST_GRACE)
        self._until(lambda: not self._workers.is_any_serving or self._stop_signals > signals, time.monotonic() + rest)

    def _end_processes(self) -> None:
        """Kill and reap whatever still runs: nothing outlives the master."""
        self._workers.stop()
        self._upgrade.end()
        self._watch.end()
        self._keeper.end(LAST_GRACE if self._stop_signals < 2 else 0.0)
        self._edges.end()
        self._workers.end(LAST_GRACE if self._stop_signals < 2 else 0.0)
