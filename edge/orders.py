"""The control socket in an edge process: orders of the master come, and reports go.

Both are JSON lines. Orders: `workers` (who serves), `certificates` and `guards` (new ones), `gate`, `reopen` (the
access log), `ask` (a number, for a sign of life), `drain`, `stop`. Twice a second, and at its end, the edge reports if
anything has changed: `workers` (number: requests so far, requests that run, seconds without a sign of life), `serving`
(those of them that get requests), `connections`, `draining`, `queue`, `tasks`, `answer` (the number that it was asked
last), `upstreams` if there are any, and for `--metrics` its `counts` (edge/counts.py). It reports at once when it has
left a worker. When the control socket closes, the master is gone and the edge ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

from edge.access_output import open_output
from edge.config_logs import LogSettings
from edge.dispatch.links import Place
from edge.errors import ConfigError
from edge.observe import Output
from edge.process import EdgeProcess
from edge.tls.contexts import MemoryCertificate
from edge.tls.guards import Guard
from edge_backend.errors import LoadError
from edge_backend.identity import Identity
from edge_backend.log_config import apply_log_config

logger = logging.getLogger("edge.process")


class Orders:
    """Has an edge do what the master says on `control`, and the master hear of it."""

    def __init__(self, edge: EdgeProcess, control: socket.socket) -> None:
        self._edge = edge
        self._control = control
        self._buffer = b""
        self._reported = b""
        self._answer = 0
        control.setblocking(False)

    async def run(self) -> None:
        """Have it serve until it was told to drain and everything has ended, or the master is gone."""
        edge = self._edge
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._readable)
        await edge.wait_workers()
        await edge.open(self._report)
        gc.collect()
        gc.freeze()
        # Nothing of a request forms a cycle: the collector only has to find what errors leave behind.
        gc.set_threshold(50_000, 20, 50)
        self._report()
        await edge.wait_drained()
        await edge.close()
        self._report()

    def _report(self) -> None:
        """Tell the master what has changed since the last time."""
        line = json.dumps({**self._edge.report(), "answer": self._answer}).encode() + b"\n"
        if line != self._reported:
            with contextlib.suppress(OSError):  # a master that does not read gets the next one
                self._control.send(line)
                self._reported = line

    def _readable(self) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self._control.recv(1 << 20)
        if not data:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._edge.end()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        edge = self._edge
        if "workers" in order:
            edge.set_workers({int(number): Place(*place) for number, place in order["workers"].items()})
        if "certificates" in order:
            edge.use_certificates([MemoryCertificate.decode(item) for item in order["certificates"]])
        if "guards" in order:
            edge.use_guards({name: Guard.decode(item) for name, item in order["guards"].items()})
        if "gate" in order:
            edge.set_gate(order["gate"])
        if "ask" in order:
            self._answer = order["ask"]
        if "reopen" in order:
            edge.reopen_log()
        if "drain" in order:
            edge.drain(gently=order.get("gently", False))
        if "stop" in order:
            edge.stop()


def run_edge(
    make: Callable[[Output | None], EdgeProcess], logs: LogSettings, identity: Identity | None, control: socket.socket
) -> None:
    """Be an edge process, as `identity` if not as this user: called in the child, returns when it is over.

    `make` gets where the access log goes, if there is one.
    """
    if identity is not None:
        identity.take()
    # Ctrl-C, systemd and timeout(1) signal every process of a group or cgroup; the master alone decides what it means.
    for number in (
        signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1,
        signal.SIGUSR2,
    ):  # fmt: skip
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)

    output = _access_output(logs)

    async def run() -> None:
        await Orders(make(output), control).run()

    try:
        import uvloop  # not on every platform
    except ImportError:
        asyncio.run(run())
    else:
        uvloop.run(run())


def _access_output(logs: LogSettings) -> Output | None:
    """Open the access log. The master has shown that it can be; what has gone wrong since then must not end an edge."""
    try:
        name = apply_log_config(logs.config) if logs.config else ""
        return open_output(logs, name) if logs.access_log else None
    except (ConfigError, LoadError) as error:
        logger.error("%s; the access log goes to standard output", error)
        return None
