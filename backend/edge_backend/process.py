"""The worker process: it starts a worker, lets edges connect to it, and ends it.

The master hands over two sockets. On the *listener* edges connect and speak the wire. On the *control* socket the
master sends the settings as one line, `tasks` when it wants to know how many the event loop has, and `stop` at the end;
the worker answers `ready` and the wire's version, or `failed` and an exit code, and `tasks` with a number. When the
control socket closes, the master is gone and the worker ends too: no worker outlives its pool.

Signals that go to a whole process group or cgroup (Ctrl-C, systemd, timeout(1)) are the master's to understand: a
worker that obeyed them itself would leave before the requests that it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import signal
import socket
import sys
import traceback

from . import wire
from .certifi_hook import answer_certifi
from .errors import LoadError, StartupError
from .loader import application_traceback, cause_of, load_application
from .log_formatters import ColorFormatter
from .loops import loop_factory
from .settings import DUMP_SIGNAL, WorkerSettings
from .strict_hook import relax_strict
from .trace import TRACE
from .worker import WireConnection, Worker

logger = logging.getLogger("edge.worker")

EXIT_FAILED = 1
EXIT_WRONG_COMMAND = 2


async def run_worker(settings: WorkerSettings, listener: socket.socket, control: socket.socket) -> int:
    """Load the application, serve until told to stop, and return the exit code."""
    name = f"application {settings.target!r}"
    if settings.ca_bundle:
        answer_certifi(settings.ca_bundle)
    if settings.relax_strict:
        relax_strict()
        logger.info("trust: servers' certificates need not be strict (RFC 5280) by default: --trust-strict off")
    worker = Worker(settings)
    try:
        loaded = load_application(settings.target, app_dir=settings.app_dir, factory=settings.factory)
        if loaded.remark and settings.is_first:
            logger.warning("%s", loaded.remark)
        await worker.start(loaded)
    except LoadError as error:
        return report_failure(control, str(error), EXIT_WRONG_COMMAND)
    except StartupError as error:
        return report_failure(control, f"{name} failed to start: {error}", EXIT_FAILED)
    except (Exception, SystemExit) as error:
        traceback.print_exception(type(error), error, application_traceback(error.__traceback__))
        what = cause_of(error)
        return report_failure(control, f"{name} failed to start: {what}", EXIT_FAILED)
    await _serve(worker, listener, control)
    await worker.stop()
    return 0


async def _serve(worker: Worker, listener: socket.socket, control: socket.socket) -> None:
    # What start-up made lives as long as the process: the collector need not look at it again. A request allocates
    # some dozens of containers and leaves no cycle of ours behind: the default of 700 would collect every tenth.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    stopping = asyncio.Event()

    def control_readable() -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = control.recv(4096)
        if data and b"stop" not in data:
            with contextlib.suppress(OSError):
                control.sendall(b"tasks %d\n" % len(asyncio.all_tasks()))
            return
        # It is told to stop, or the master has gone: whoever is next to serve must not find us holding the
        # application's resources.
        worker.loop.remove_reader(control.fileno())
        stopping.set()

    server = await worker.loop.create_unix_server(lambda: WireConnection(worker), sock=listener)
    worker.loop.add_reader(control.fileno(), control_readable)
    control.sendall(b"ready %d\n" % wire.VERSION)
    await stopping.wait()
    server.close()
    await worker.drain()


def report_failure(control: socket.socket, message: str, code: int) -> int:
    """Tell the master why this worker cannot serve; return the exit code."""
    line = f"failed {code} {message}".replace("\n", " ")
    with contextlib.suppress(OSError):
        control.sendall(line.encode() + b"\n")
    return code


def set_up_logging(level: str, *, colors: bool = False) -> None:
    """Send what workers log to standard error, one line each."""
    logging.addLevelName(TRACE, "TRACE")
    numeric = TRACE if level == "trace" else logging.getLevelName(level.upper())
    handler = logging.StreamHandler(sys.stderr)
    kind = ColorFormatter if colors else logging.Formatter
    handler.setFormatter(kind("%(levelname)s %(name)s: %(message)s"))
    edge_logger = logging.getLogger("edge")
    edge_logger.addHandler(handler)
    edge_logger.setLevel(numeric)
    edge_logger.propagate = False


def main(listener_fd: int, control_fd: int) -> int:
    """Run a worker on the two inherited sockets and return its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN: the application's own subprocesses would inherit that, and ignore terminate().
        signal.signal(number, lambda number, frame: None)
    # A hung event loop runs no Python handler; this one is C, and needs neither the loop nor the interpreter's lock.
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    control = socket.socket(fileno=control_fd)
    listener = socket.socket(fileno=listener_fd)
    line = control.makefile("rb", buffering=0).readline()
    settings = WorkerSettings.decode(line)
    set_up_logging(settings.log_level, colors=settings.use_colors)
    control.setblocking(False)

    async def run() -> int:
        return await run_worker(settings, listener, control)

    if settings.log_config:
        # Not always: it brings a megabyte of the standard library. Not later: --pythonpath may hide some of that.
        from .log_config import apply_log_config
    sys.path[:0] = settings.python_path
    try:
        if settings.log_config:
            apply_log_config(settings.log_config)
        with asyncio.Runner(loop_factory=loop_factory(settings.loop, settings.app_dir)) as runner:
            return runner.run(run())
    except LoadError as error:
        return report_failure(control, str(error), EXIT_WRONG_COMMAND)
