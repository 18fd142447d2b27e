"""The master process: starts and replaces workers and edges, hands certificates on, and ends it all.

Theory of operation
-------------------
No client byte comes here, and no event loop runs here: one `selectors` loop waits for signals, the control sockets of
workers and edges, and the next deadline. That keeps forking simple, as a fork copies nothing that runs.

Settings are checked, listeners bound, certificates read and proven before it is made (server.py), so that bad input
leaves nothing behind. Workers start; when the first is ready, the listeners listen and edges are forked.
Stop: edges drain, then workers; a second signal, or the drain timeout, ends it at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.acme import KeptCertificates, without_secret
from edge.certificates import CertificateWatch, load_certificates
from edge.config import ServeSettings
from edge.errors import ConfigError, EdgeError, StartError
from edge.keeper import KeeperProcess
from edge.net.listener import Listener, start_listening
from edge.process import run_edge
from edge.tls.contexts import MemoryCertificate, Sites, TlsServer
from edge.trust import worker_trust
from edge_backend.pool import Kill, Pool, Spawn, StartFailure
from edge_backend.settings import WorkerSettings
from edge_backend.supervisor import WorkerProcess
from edge_certs.errors import CertificateError

logger = logging.getLogger("edge.master")

# Certificate files are looked at this often: a new one serves within two seconds.
WATCH = 1.0
# Signals to stop that come together are one wish: timeout(1) sends its own to the process, then to the whole group.
SAME_WISH = 0.1
# An edge process that lived for less than this is replaced when it would have.
EDGE_PACE = 1.0
# An edge reads its orders at once; one that has hung must not hold the master.
ORDER_TIMEOUT = 2.0
# What an edge may take to answer and to log the requests that it cuts off.
EDGE_GRACE = 0.5
# What an edge or a worker may take to end after it was told to, before it is killed.
LAST_GRACE = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class _Edge:
    """An edge process, as the master sees it."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.started_at = time.monotonic()
        control.settimeout(ORDER_TIMEOUT)

    def order(self, **order: Any) -> None:
        """Send an order; an edge that has died is noticed elsewhere, and one that does not read is ended."""
        try:
            self.control.sendall(json.dumps(order).encode() + b"\n")
        except TimeoutError:
            logger.error("edge process %d: takes no orders; killed", self.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass  # it is dying


class Master:
    """Runs the processes of one server. `run()` is its whole life."""

    def __init__(
        self,
        settings: ServeSettings,
        listeners: list[Listener],
        tls: TlsServer | None,
        watch: CertificateWatch,
        run_dir: Path,
        kept: KeptCertificates | None = None,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._tls = tls
        self._run_dir = run_dir
        self._trust = worker_trust(without_secret(os.environ))
        self._kept = kept
        self._keeper = KeeperProcess(kept.keeper if kept is not None else None, without_secret(os.environ))
        self._pool = Pool(size=settings.pool.workers, startup_timeout=settings.timeouts.startup)
        self._workers: dict[int, WorkerProcess] = {}
        self._edges: dict[int, _Edge] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._is_serving = False
        self._stop_signals = 0
        self._stop_asked_at = 0.0
        self._fork_at = 0.0
        self._watch = watch
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
                if self._pool.failure is not None:
                    raise _start_error(self._pool.failure)
                self._drain()
            finally:
                self._end_processes()
        return 0

    # The loop.

    def _until(self, done: Callable[[], bool], deadline: float = float("inf")) -> None:
        """Run the loop until `done()`, the deadline, or a start that failed."""
        while not done() and self._pool.failure is None and time.monotonic() < deadline:
            self._do_due()
            for key, _ in self._selector.select(self._timeout(deadline)):
                key.data()
            self._handle_signals()

    def _timeout(self, deadline: float) -> float:
        times = [deadline, self._pool.deadline() or deadline, self._keeper.deadline]
        if self._watch.is_watching:
            times.append(self._next_watch)
        if self._missing_edges:
            times.append(self._fork_at)
        return max(0.0, min(min(times) - time.monotonic(), 60.0))

    def _do_due(self) -> None:
        now = time.monotonic()
        for action in self._pool.due(now):
            if isinstance(action, Spawn):
                self._spawn(action.number)
            elif isinstance(action, Kill):
                logger.error("worker %d: %s; killed", action.number, action.reason)
                self._workers[action.number].kill()
        if self._missing_edges and now >= self._fork_at:
            self._fork_edge()
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
            self._selector.close()
            reading.close()
            writing.close()

    def _handle_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop_asked(time.monotonic())
            elif number == signal.SIGHUP and self._watch.is_watching:
                self._watch.changed()  # the files are read now: what has changed by then is not news again
                self._reload_certificates()
        if signal.SIGCHLD in signals:
            self._reap()

    def _stop_asked(self, now: float) -> None:
        if now - self._stop_asked_at >= SAME_WISH:
            self._stop_signals += 1
        self._stop_asked_at = now

    # Workers.

    def _spawn(self, number: int) -> None:
        settings = self._settings
        application = settings.application
        worker = WorkerProcess(
            WorkerSettings(
                target=application.target,
                app_dir=application.app_dir or os.getcwd(),
                factory=application.factory,
                root_path=application.root_path,
                lifespan=application.lifespan,
                number=number,
                log_level=settings.logs.level,
                drain_timeout=settings.timeouts.drain,
                ws_max_size=settings.websocket.max_size,
                ws_ping_interval=settings.websocket.ping_interval,
                ws_ping_timeout=settings.websocket.ping_timeout,
                ws_per_message_deflate=settings.websocket.per_message_deflate,
                ca_bundle=self._trust.ca_bundle,
            ),
            self._run_dir,
            self._trust.environ,
        )
        self._workers[number] = worker
        self._selector.register(worker.control, selectors.EVENT_READ, lambda: self._worker_reports(worker))
        self._tell_workers()

    def _worker_reports(self, worker: WorkerProcess) -> None:
        try:
            report = worker.read_report()
        except (EOFError, OSError):
            self._selector.unregister(worker.control)
            return
        if report is None:
            return
        if report.ready:
            self._pool.ready(worker.number)
            logger.debug("worker %d: ready", worker.number)
            self._start_serving()
            return
        self._pool.failed(worker.number, report.code, report.message)
        if self._pool.failure is None:
            logger.error("worker %d: %s", worker.number, report.message)

    def _tell_workers(self) -> None:
        for edge in self._edges.values():
            edge.order(workers=self._worker_paths())

    def _worker_paths(self) -> dict[int, str]:
        return {number: worker.path for number, worker in self._workers.items()}

    def _reap(self) -> None:
        self._keeper.reap(time.monotonic())
        for number, worker in list(self._workers.items()):
            how = worker.poll()
            if how is not None:
                self._worker_exited(number, worker, how)
        for pid, edge in list(self._edges.items()):
            ended, _ = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._edge_exited(edge)

    def _worker_exited(self, number: int, worker: WorkerProcess, how: str) -> None:
        # What it said last may still be in the socket.
        with contextlib.suppress(KeyError, ValueError):
            self._worker_reports(worker)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.control)
        worker.release()
        del self._workers[number]
        self._tell_workers()
        delay = self._pool.exited(number, time.monotonic(), how)
        if delay is not None:
            logger.error("worker %d: %s; replaced in %.1f s", number, how, delay)

    # Edges.

    def _start_serving(self) -> None:
        if self._is_serving:
            return
        self._is_serving = True
        start_listening(self._listeners, self._settings.listen.backlog)
        while self._missing_edges:
            self._fork_edge()
        for listener in self._listeners:
            say(f"listening on {describe(listener)}")
        self._keeper.begin(time.monotonic())

    @property
    def _missing_edges(self) -> bool:
        return self._is_serving and not self._stop_signals and len(self._edges) < self._settings.pool.edges

    def _fork_edge(self) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_edge(ours, theirs)
        theirs.close()
        edge = _Edge(pid, ours)
        self._edges[pid] = edge
        if self._certificates:
            edge.order(certificates=[item.encode() for item in self._certificates])
        edge.order(workers=self._worker_paths())

    def _be_edge(self, ours: socket.socket, control: socket.socket) -> None:
        """In the child: serve, then leave without running what the master's stack holds."""
        code = 1
        try:
            ours.close()
            for edge in self._edges.values():
                edge.control.close()
            for worker in self._workers.values():
                worker.control.close()
            self._selector.close()
            self._keeper.abandon()
            run_edge(self._settings, self._listeners, self._tls, control)
            code = 0
        except BaseException:
            logger.exception("edge process failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _edge_exited(self, edge: _Edge) -> None:
        edge.control.close()
        del self._edges[edge.pid]
        if not self._stop_signals:
            now = time.monotonic()
            self._fork_at = max(now, edge.started_at + EDGE_PACE)
            logger.error("edge process %d ended; replaced in %.1f s", edge.pid, self._fork_at - now)

    # Certificates.

    def _reload_certificates(self) -> None:
        """Read the files again; what serves goes on serving unless all of it is good."""
        try:
            loaded = load_certificates(self._settings.tls, self._kept)
            sites = Sites(loaded)
        except (CertificateError, OSError, ValueError) as error:
            logger.error("certificates not reloaded: %s; the old ones go on serving", error)
            return
        self._watch.follow(loaded)
        assert self._tls is not None  # only called with certificates
        self._tls.sites = sites
        self._certificates = [MemoryCertificate(item.names, item.chain_pem, item.key_pem) for item in loaded]
        for edge in self._edges.values():
            edge.order(certificates=[item.encode() for item in self._certificates])
        for item in loaded:
            names = ", ".join(item.names)
            logger.info(
                "certificate reloaded: %s, SHA-256 %s, valid until %s", names, item.fingerprint, item.not_after.date()
            )

    # The end.

    def _drain(self) -> None:
        """Let edges finish, then workers; the drain timeout and a second signal cut it short."""
        self._pool.stop()
        signals = self._stop_signals
        deadline = time.monotonic() + self._settings.timeouts.drain
        for listener in self._listeners:
            listener.sock.close()
        for edge in self._edges.values():
            edge.order(drain=True)
        self._until(lambda: not self._edges or self._stop_signals > signals, deadline)
        if self._edges and self._stop_signals == signals:
            logger.warning("drain: %g s are over; what still runs is cut off", self._settings.timeouts.drain)
        for edge in self._edges.values():
            edge.order(stop=True)
        self._until(lambda: not self._edges, time.monotonic() + EDGE_GRACE)
        for worker in self._workers.values():
            worker.stop()
        # A worker that is not ready has nothing to finish and may not hear of it: it gets the last grace only.
        rest = max(deadline - time.monotonic(), LAST_GRACE)
        self._until(lambda: not self._pool.ready_numbers or self._stop_signals > signals, time.monotonic() + rest)

    def _end_processes(self) -> None:
        """Kill and reap whatever still runs: nothing outlives the master."""
        self._pool.stop()
        self._keeper.end(LAST_GRACE if self._stop_signals < 2 else 0.0)
        for edge in self._edges.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(edge.pid, signal.SIGKILL)
            os.waitpid(edge.pid, 0)
            edge.control.close()
        for worker in self._workers.values():
            worker.stop()
        deadline = time.monotonic() + (LAST_GRACE if self._stop_signals < 2 else 0.0)
        for worker in self._workers.values():
            with contextlib.suppress(Exception):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.kill()
            worker.process.wait()
            worker.release()


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
