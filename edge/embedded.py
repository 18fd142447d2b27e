"""A server inside another program: one edge and one worker in the running event loop, without a process of their own.

Theory of operation
-------------------
The edge half and the worker half are the ones that `edge serve` runs in processes; here a pair of transports in memory
joins them. Nothing of the program is touched that the server does not give back: no signal handler, no thread, no
collector; the logger `edge` and the variables of env files are put back as they were. Parts end in the reverse order of
their start: clients first, then the link, the application's calls, its lifespan, and the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.access_output import open_output
from edge.certificates import CertificateWatch, load_certificates, watched_files
from edge.config import ServeSettings
from edge.errors import ConfigError, EdgeError, StartError
from edge.net.listener import Listener, close_listeners, open_listeners, start_listening
from edge.observe import logging_set_up, say
from edge.process import EdgeProcess
from edge.served import ServedCertificates
from edge.server import open_tls
from edge.sites import guard_files
from edge.status import describe
from edge.trust import WorkerTrust
from edge.upstream.trust import load_upstream_trust
from edge.workers import Plan, worker_settings
from edge_backend.errors import LoadError, StartupError
from edge_backend.loader import Loaded, cause_of
from edge_backend.memory import join_in_memory
from edge_backend.worker import WireConnection, Worker

# What clients that are cut off may take to get their answers, as in edge/master.py.
CUT_OFF_GRACE = 0.5
# What application calls get at least, when the time for their clients is over.
LAST_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """A server that takes connections; `embed` makes it."""

    edge: EdgeProcess
    listeners: Sequence[Listener]
    certificates: ServedCertificates

    def look_after(self, now: float) -> None:
        """Do what is due: serve certificates whose files have changed."""
        if self.certificates.have_changed(now):
            self.certificates.reload()


@contextlib.asynccontextmanager
async def embed(
    settings: ServeSettings,
    load: Callable[[], Loaded],
    sockets: Sequence[Listener],
    forced: asyncio.Event,
    *,
    access_logger: str | None,
) -> AsyncIterator[Embedded]:
    """Serve what `load` gives, within the block; `sockets` take connections, or those that the settings name.

    At the end what runs is finished, unless `forced` is set. It is entered and left in the same event loop.
    `access_logger` is for the access log where logging is the program's; None: it is as the settings say.

    Raises ConfigError or CertificateError if what was asked for cannot be done, StartError if the application does not
    start; nothing is left then.
    """
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(logging_set_up(settings.logs)) if access_logger is None else access_logger
        output = open_output(settings.logs, name) if settings.logs.access_log else None
        if output is not None:
            stack.callback(output.close)
        stack.enter_context(_environment(settings))
        watch = CertificateWatch(watched_files(settings.tls, None), guard_files(settings.sites))
        certificates = load_certificates(settings.tls)
        watch.follow(certificates)
        tls, remarks = open_tls(settings, certificates, None)
        trust = load_upstream_trust(settings.sites, os.environ)
        listeners = list(sockets)
        stack.callback(lambda: close_listeners(listeners))
        if not listeners:
            opened, more = open_listeners(settings.listen, has_certificate=bool(certificates), dev=settings.tls.dev)
            listeners += opened
            remarks = [*more, *remarks]
        [(pool, app)] = settings.applications.items()
        worker = Worker(worker_settings(0, Plan(settings, app, WorkerTrust({}, ""))))
        await _start(worker, load, settings)
        edge = EdgeProcess(settings, listeners, tls, trust, output)
        try:
            start_listening(listeners, settings.listen.backlog)
        except BaseException:
            await worker.stop()
            raise
        join_in_memory(asyncio.get_running_loop(), edge.add_link(0, pool), WireConnection(worker))
        await edge.open(lambda: None)
        if access_logger is None and settings.logs.level not in ("critical", "error", "warning"):
            for line in (*(f"listening on {describe(listener)}" for listener in listeners), *remarks):
                say(line)
        try:
            yield Embedded(
                edge, listeners, ServedCertificates(settings.tls, tls, watch, None, certificates, settings.sites)
            )
        finally:
            await _end(edge, worker, settings.timeouts.drain, forced)


async def _start(worker: Worker, load: Callable[[], Loaded], settings: ServeSettings) -> None:
    name = f"application {settings.application.target!r}"
    try:
        loaded = load()
        if loaded.remark:
            say(loaded.remark)
        async with asyncio.timeout(settings.timeouts.startup):
            await worker.start(loaded)
    except LoadError as error:
        raise ConfigError(str(error)) from None
    except StartupError as error:
        raise StartError(f"{name} failed to start: {error}") from None
    except TimeoutError as error:
        raise StartError(f"{name} failed to start: not ready within {settings.timeouts.startup:g} s") from error
    except EdgeError:
        raise
    except (Exception, SystemExit) as error:
        what = cause_of(error)
        raise StartError(f"{name} failed to start: {what}") from error


async def _end(edge: EdgeProcess, worker: Worker, drain_timeout: float, forced: asyncio.Event) -> None:
    """Finish what runs within the time, and end."""
    deadline = time.monotonic() + drain_timeout
    edge.drain(gently=False)
    if not await _until(edge.wait_drained(), drain_timeout, forced):
        edge.cut_off()
        await _until(edge.wait_drained(), CUT_OFF_GRACE)
        for connection in list(edge.connections):
            connection.stream.abort()
    await edge.close()
    if not await _until(worker.drain(), max(deadline - time.monotonic(), LAST_GRACE), forced):
        await worker.cut_off()
    if forced.is_set() or not await _until(worker.stop(), None, forced):
        await worker.abandon()
    # Transports that were told to close do so in the next turns of the loop.
    for _ in range(3):
        await asyncio.sleep(0)


async def _until(work: Coroutine[Any, Any, None], limit: float | None, forced: asyncio.Event | None = None) -> bool:
    """Await the work; False, and it is given up, when the time is over or `forced` is set."""
    task = asyncio.ensure_future(work)
    waiting = [task] if forced is None else [task, asyncio.ensure_future(forced.wait())]
    try:
        await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        for item in waiting:
            item.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@contextlib.contextmanager
def _environment(settings: ServeSettings) -> Iterator[None]:
    """Let the application see what env files and `--env` say."""
    said: Mapping[str, str] = {**settings.variables, **os.environ, **dict(settings.application.variables)}
    before = {name: os.environ.get(name) for name, value in said.items() if os.environ.get(name) != value}
    os.environ.update({name: said[name] for name in before})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
