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
import dataclasses
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.acme import KeptCertificates, without_secret
from edge.certificates import CertificateWatch, load_certificates
from edge.config import MAX_PROCESSES, ServeSettings
from edge.control import ControlServer, Reply
from edge.edges import Edge, Edges
from edge.errors import ConfigError, EdgeError, StartError
from edge.keeper import KeeperProcess
from edge.net.listener import Listener, start_listening
from edge.process import run_edge
from edge.tls.contexts import MemoryCertificate, Sites, TlsServer
from edge.trust import worker_trust
from edge.workers import Plan, Workers
from edge_backend.pool import Settled, StartFailure
from edge_certs.errors import CertificateError
from edge_certs.x509 import Certificate

logger = logging.getLogger("edge.master")

# Certificate files are looked at this often: a new one serves within two seconds.
WATCH = 1.0
# Signals to stop that come together are one wish: timeout(1) sends its own to the process, then to the whole group.
SAME_WISH = 0.1
# What an edge may take to answer and to log the requests that it cuts off.
EDGE_GRACE = 0.5
# What an edge or a worker may take to end after it was told to, before it is killed.
LAST_GRACE = 2.0
_NEVER = float("inf")
_SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parts:
    """What is made before anything runs: `reread` gives the settings of a reload, `kept` are certificates to renew."""

    settings: ServeSettings
    reread: Callable[[], ServeSettings]
    listeners: list[Listener]
    tls: TlsServer | None
    watch: CertificateWatch
    kept: KeptCertificates | None
    run_dir: Path


class Master:
    """Runs the processes of one server. `run()` is its whole life."""

    def __init__(self, parts: Parts) -> None:
        self._settings = settings = parts.settings
        self._reread = parts.reread
        self._listeners = parts.listeners
        self._tls = parts.tls
        self._watch = parts.watch
        self._kept = parts.kept
        self._selector = selectors.DefaultSelector()
        environ = without_secret(os.environ)
        self._keeper = KeeperProcess(parts.kept.keeper if parts.kept is not None else None, environ)
        plan = Plan(settings, worker_trust(environ))
        self._workers = Workers(plan, parts.run_dir, self._selector, self._workers_changed, self._settled)
        self._edges = Edges(self._selector, self._greet, self._leave, self._heard)
        self._control = ControlServer(parts.run_dir, self._selector, self._command)
        self._replies: dict[int, list[Reply]] = {}
        self._signals: list[int] = []
        self._started_at = time.monotonic()
        self._is_serving = False
        self._stop_signals = 0
        self._stop_asked_at = 0.0
        self._drain_timeout = settings.timeouts.drain
        self._next_watch = 0.0
        self._certificates: list[MemoryCertificate] = []

    def run(self, remarks: Sequence[str]) -> int:
        """Serve until told to stop; return the exit code. `remarks` are for the operator, once it serves.

        Raises EdgeError if the application does not start.
        """
        with self._signal_handling():
            try:
                self._until(lambda: self._is_serving or self._stop_signals > 0)
                if self._is_serving:
                    # Not before: whoever named a wrong application gets the one line that says so.
                    for remark in remarks:
                        say(remark)
                self._until(lambda: self._stop_signals > 0)
                if self._workers.failure is not None:
                    raise _start_error(self._workers.failure)
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
        due = min(deadline, self._workers.deadline(), self._edges.deadline(), self._keeper.deadline)
        if self._watch.is_watching:
            due = min(due, self._next_watch)
        return max(0.0, min(due - time.monotonic(), 60.0))

    def _do_due(self) -> None:
        now = time.monotonic()
        self._workers.do_due(now)
        self._edges.do_due(now)
        self._keeper.due(now)
        if self._watch.is_watching and now >= self._next_watch:
            self._next_watch = now + WATCH
            if self._watch.changed():
                self._reload_certificates()

    @contextlib.contextmanager
    def _signal_handling(self) -> Iterator[None]:
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, lambda number, frame: None) for number in _SIGNALS}

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                self._signals += reading.recv(4096)

        self._selector.register(reading, selectors.EVENT_READ, readable)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._control.close()
            self._selector.close()
            reading.close()
            writing.close()

    def _handle_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop_asked(time.monotonic())
            elif number == signal.SIGHUP:
                self._reload(None)
            elif number in (signal.SIGTTIN, signal.SIGTTOU):
                more = 1 if number == signal.SIGTTIN else -1
                self._workers.resize(min(MAX_PROCESSES, max(1, self._workers.size + more)))
        if signal.SIGCHLD in signals:
            self._workers.reap()
            self._edges.reap()
            self._keeper.reap(time.monotonic())

    def _stop_asked(self, now: float) -> None:
        if now - self._stop_asked_at >= SAME_WISH:
            self._stop_signals += 1
        self._stop_asked_at = now

    # Workers and edges.

    def _workers_changed(self) -> None:
        self._edges.order(workers=self._workers.paths())
        if self._workers.is_any_ready and not self._is_serving and not self._stop_signals:
            self._start_serving()

    def _start_serving(self) -> None:
        self._is_serving = True
        start_listening(self._listeners, self._settings.listen.backlog)
        self._start_edges()
        for listener in self._listeners:
            say(f"listening on {describe(listener)}")
        self._keeper.begin(time.monotonic())

    def _start_edges(self) -> None:
        settings = self._settings
        self._edges.start(
            settings.pool.edges,
            lambda control: run_edge(settings, self._listeners, self._tls, control),
            settings.timeouts.drain,
        )

    def _greet(self, edge: Edge) -> None:
        if self._certificates:
            edge.order(certificates=[item.encode() for item in self._certificates])
        edge.order(workers=self._workers.paths())

    def _leave(self) -> None:
        self._edges.close_controls()
        self._workers.close_controls()
        self._control.leave()
        self._keeper.abandon()
        self._selector.close()

    def _heard(self, _edge: Edge) -> None:
        self._workers.heard(self._seen())

    def _seen(self) -> dict[int, tuple[int, float]]:
        """Add up what the edges have seen of the workers; alive is whom one of them has heard."""
        seen: dict[int, tuple[int, float]] = {}
        for edge in self._edges:
            for name, (requests, _, silent) in edge.report.get("workers", {}).items():
                before = seen.get(int(name), (0, _NEVER))
                seen[int(name)] = (before[0] + requests, min(before[1], silent))
        return seen

    # Reload.

    def _reload(self, reply: Reply | None) -> None:
        """Read everything again; nothing changes unless all of it is good. `reply` gets the outcome."""
        try:
            settings = self._reread()
            self._refuse_fixed(settings)
            plan = Plan(settings, worker_trust(without_secret(os.environ)))
            self._watch.changed()  # the files are read now: what has changed by then is not news again
            loaded = load_certificates(settings.tls, self._kept) if self._tls is not None else []
            sites = Sites(loaded) if loaded else None
        except (EdgeError, CertificateError, OSError, ValueError) as error:
            what = "certificates" if isinstance(error, CertificateError) else "settings"
            logger.error("%s not reloaded: %s; the old ones go on serving", what, error)
            if reply is not None:
                reply.refuse(f"{what} not reloaded: {error}")
            return
        if sites is not None:
            self._use_certificates(loaded, sites)
        before, self._settings = self._settings, settings
        if _of_edges(before) != _of_edges(settings):
            self._start_edges()
        if before.pool.workers != settings.pool.workers:
            self._workers.resize(settings.pool.workers)
        generation = self._workers.reload(plan)
        logger.info("reload: new workers take the place of the old ones")
        if reply is not None:
            self._replies.setdefault(generation, []).append(reply)

    def _refuse_fixed(self, settings: ServeSettings) -> None:
        """What was bound at the start stays: another address needs another start."""
        if settings.listen != self._settings.listen:
            raise ConfigError("listening addresses have changed; restart to use them")
        if settings.tls != self._settings.tls or settings.acme != self._settings.acme:
            raise ConfigError("which certificates are served has changed; restart to use others than before")

    def _settled(self, settled: Settled) -> None:
        if settled.failure:
            logger.error("reload given up: %s; the old workers go on serving", settled.failure)
        else:
            logger.info("reload: done, every worker is new")
        for reply in self._replies.pop(settled.generation, []):
            if settled.failure:
                reply.refuse(f"reload given up: {settled.failure}; the old workers go on serving")
            else:
                reply.send(workers=self._workers.size)

    # Certificates.

    def _reload_certificates(self) -> None:
        """Read the files again; what serves goes on serving unless all of it is good."""
        try:
            loaded = load_certificates(self._settings.tls, self._kept)
            sites = Sites(loaded)
        except (CertificateError, OSError, ValueError) as error:
            logger.error("certificates not reloaded: %s; the old ones go on serving", error)
            return
        self._use_certificates(loaded, sites)

    def _use_certificates(self, loaded: list[Certificate], sites: Sites) -> None:
        assert self._tls is not None  # only called with certificates
        self._watch.follow(loaded)
        self._tls.sites = sites
        self._certificates = [MemoryCertificate(item.names, item.chain_pem, item.key_pem) for item in loaded]
        self._edges.order(certificates=[item.encode() for item in self._certificates])
        for item in loaded:
            names = ", ".join(item.names)
            logger.info(
                "certificate reloaded: %s, SHA-256 %s, valid until %s", names, item.fingerprint, item.not_after.date()
            )

    # Commands.

    def _command(self, name: str, arguments: dict[str, Any], reply: Reply) -> None:
        """Do what the operator asks on the control socket; see docs/reference/control.md."""
        if name == "status":
            reply.send(**self._status())
        elif name == "reload":
            self._reload(reply)
        elif name == "scale":
            self._scale(arguments.get("workers"), reply)
        elif name in ("stop", "drain"):
            self._stop_signals += 2 if arguments.get("now") else 1
            if name == "drain":
                self._drain_timeout = _NEVER
            reply.send(pid=os.getpid())
        else:
            reply.refuse(f"{name!r}: unknown command; use status, reload, scale, drain or stop")

    def _scale(self, count: object, reply: Reply) -> None:
        if type(count) is not int or not 1 <= count <= MAX_PROCESSES:
            reply.refuse(f"{count!r}: not a number of workers; use 1 to {MAX_PROCESSES}")
            return
        before = self._workers.size
        self._workers.resize(count)
        reply.send(workers=count, before=before)

    def _status(self) -> dict[str, Any]:
        seen = self._seen()
        running: dict[int, int] = {}
        for edge in self._edges:
            for name, (_, count, _) in edge.report.get("workers", {}).items():
                running[int(name)] = running.get(int(name), 0) + count
        workers = self._workers.status()
        for worker in workers:
            requests, silent = seen.get(int(str(worker["number"])), (0, 0.0))
            worker |= {"requests": requests, "in_flight": running.get(int(str(worker["number"])), 0), "silent": silent}
        return {
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started_at, 1),
            "state": "draining" if self._stop_signals else "serving" if self._is_serving else "starting",
            "listening": [describe(listener) for listener in self._listeners],
            "size": self._workers.size,
            "restarts": self._workers.restarts,
            "workers": workers,
            "edges": [
                {"pid": edge.pid, "age": round(time.monotonic() - edge.started_at, 1), "draining": edge.is_draining}
                | {key: value for key, value in edge.report.items() if key != "workers"}
                for edge in self._edges
            ],
            "certificates": self._kept.status() if self._kept is not None else [],
            "queue": sum(edge.report.get("queue", 0) for edge in self._edges),
        }

    # The end.

    def _drain(self) -> None:
        """Let edges finish, then workers; the drain timeout and a second signal cut it short."""
        self._workers.stop()
        self._edges.stop()
        signals = 1
        deadline = time.monotonic() + self._drain_timeout
        for listener in self._listeners:
            listener.sock.close()
        self._edges.order(drain=True)
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
        self._keeper.end(LAST_GRACE if self._stop_signals < 2 else 0.0)
        self._edges.end()
        self._workers.end(LAST_GRACE if self._stop_signals < 2 else 0.0)


def _of_edges(settings: ServeSettings) -> ServeSettings:
    """Return the settings that edges have read, with the others left out."""
    pool = dataclasses.replace(settings.pool, workers=1)
    return dataclasses.replace(settings, application=None, tls=None, pool=pool)  # type: ignore[arg-type]  # to compare


def _start_error(failure: StartFailure) -> EdgeError:
    """A name that leads nowhere is the command's fault, everything else the application's."""
    return (ConfigError if failure.code == ConfigError.exit_code else StartError)(failure.message)


def say(line: str) -> None:
    """Tell the operator one thing at the start."""
    print(f"edge: {line}", file=sys.stderr, flush=True)


def describe(listener: Listener) -> str:
    """Return a listener as the operator would type it."""
    if listener.public_port is None:
        return listener.address
    scheme = "https" if listener.tls else "http"
    return f"{scheme}://{listener.address}"
