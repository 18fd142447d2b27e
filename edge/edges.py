"""The edge processes, as the master sees them: forked, told what to do, asked how they are, and replaced.

An edge gets its orders as JSON lines on its control socket and sends its reports the same way (edge/orders.py).
Replacement comes before removal here too: new settings fork new edges, and when all of those serve, the old ones drain.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from edge.counts import add_up
from edge_backend.supervisor import open_descriptors

logger = logging.getLogger("edge.master")

# An edge process that lived for less than this is replaced when it would have.
EDGE_PACE = 1.0
# An edge reads its orders at once; one that has hung must not hold the master.
ORDER_TIMEOUT = 2.0
_NEVER = float("inf")

Serve = Callable[[socket.socket], None]
"""What an edge process does, until it is over: called in the child with its control socket."""


class Edge:
    """One edge process. `report` is the last that it sent, see edge/orders.py."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.started_at = time.monotonic()
        self.report: dict[str, Any] = {}
        self.is_old = False  # others are to take its place
        self.is_draining = False
        self.stop_at = _NEVER
        self.asked = 0  # the question that it got last, see Edges.ask
        self._buffer = b""
        control.settimeout(ORDER_TIMEOUT)

    @property
    def is_serving(self) -> bool:
        """True when it takes connections."""
        return bool(self.report)

    def order(self, **order: Any) -> None:
        """Send an order; an edge that has died is noticed elsewhere, and one that does not read is ended."""
        try:
            self.control.sendall(json.dumps(order).encode() + b"\n")
        except TimeoutError:
            logger.error("edge process %d: takes no orders; killed", self.pid)
            self.kill()
        except OSError:
            pass  # it is dying

    def read(self) -> bool:
        """Take what it reports; False when it has closed its end."""
        try:
            data = self.control.recv(1 << 16)
        except OSError:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if lines:
            self.report = json.loads(lines[-1])
        return bool(data)

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Edges:
    """Keeps `count` edge processes running once `start` was called.

    `greet` gives a new edge its first orders, `leave` closes in the child what is the master's, and `heard` is told of
    each report.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        greet: Callable[[Edge], None],
        leave: Callable[[], None],
        heard: Callable[[Edge], None],
    ) -> None:
        self._selector = selector
        self._greet = greet
        self._leave = leave
        self._heard = heard
        self._edges: dict[int, Edge] = {}
        self._serve: Serve
        self._count = 0
        self._drain_timeout = 0.0
        self._fork_at = 0.0
        self._questions = 0
        self._ended = Counter[str]()  # what those counted that have ended

    def __iter__(self) -> Any:
        return iter(list(self._edges.values()))

    def __len__(self) -> int:
        return len(self._edges)

    def start(self, count: int, serve: Serve, drain_timeout: float) -> None:
        """Keep `count` processes that do this; those that did something else are replaced, the new ones first."""
        for edge in self:
            edge.is_old = True
        self._count, self._serve, self._drain_timeout = count, serve, drain_timeout
        while self._missing() > 0:
            self._fork()

    def stop(self) -> None:
        """Replace none any more."""
        self._count = 0

    @property
    def are_all_serving(self) -> bool:
        """True if as many take connections as there should be."""
        return not self._missing() and all(edge.is_serving for edge in self if not edge.is_old)

    @property
    def are_all_new(self) -> bool:
        """True if none is left of those that did something else."""
        return not any(edge.is_old for edge in self)

    def have_taken_over(self, workers: Collection[int]) -> bool:
        """True if none sends requests to other workers, and those that did something else take no more connections."""
        return (
            self.are_all_serving
            and all(edge.report.get("draining") for edge in self if edge.is_old)
            and all(number in workers for edge in self for number in edge.report.get("serving", ()))
        )

    def drain(self, *, gently: bool) -> None:
        """Have all of them take nothing new and end; `gently` if others take the connections that still come."""
        self.order(drain=True, gently=gently)

    def order(self, **order: Any) -> None:
        """Tell all of them."""
        for edge in self:
            edge.order(**order)

    def ask(self) -> bool:
        """Ask all that serve for a sign of life, unless they owe one; True if they do not, and there are some."""
        serving = [edge for edge in self if edge.is_serving]
        if any(edge.report.get("answer", 0) < edge.asked for edge in serving):
            return False
        self._questions += 1
        for edge in serving:
            edge.asked = self._questions
            edge.order(ask=self._questions)
        return bool(serving)

    def status(self) -> list[dict[str, Any]]:
        """What an operator asks of each: process, age in seconds, and what it has reported of itself."""
        now = time.monotonic()
        return [
            {
                "pid": edge.pid,
                "age": round(now - edge.started_at, 1),
                "draining": edge.is_draining,
                "descriptors": open_descriptors(edge.pid),
            }
            | {
                key: value
                for key, value in edge.report.items()
                if key not in ("workers", "serving", "counts", "draining", "answer")
            }
            for edge in self
        ]

    def counts(self) -> Counter[str]:
        """Return what all of them have counted, also those that have ended, see edge/counts.py."""
        return self._ended + add_up(edge.report for edge in self)

    def deadline(self) -> float:
        """Return when `do_due` must be called next."""
        times = [edge.stop_at for edge in self]
        if self._missing() > 0:
            times.append(self._fork_at)
        return min(times, default=_NEVER)

    def do_due(self, now: float) -> None:
        """Fork what is missing, and end what has drained for long enough."""
        if self._missing() > 0 and now >= self._fork_at:
            self._fork()
        for edge in self:
            if now >= edge.stop_at:
                edge.stop_at = _NEVER
                logger.warning(
                    "edge process %d: %g s are over; what still runs is cut off", edge.pid, self._drain_timeout
                )
                edge.order(stop=True)

    def reap(self) -> None:
        """Take note of those that have ended."""
        for edge in self:
            ended, _ = os.waitpid(edge.pid, os.WNOHANG)
            if ended:
                self._exited(edge)

    def end(self) -> None:
        """Kill and reap all of them."""
        for edge in self:
            edge.kill()
            os.waitpid(edge.pid, 0)
            self._forget(edge)

    def close_controls(self) -> None:
        """In a child: an edge must not hold the others' control sockets, or they would not notice the master's end."""
        for edge in self:
            edge.control.close()

    # Below: how.

    def _missing(self) -> int:
        return self._count - sum(not edge.is_old for edge in self)

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A page of memory is shared until one of the two writes to it, and the collector writes to what it looks at: it
        # need not look again at what is here by now, neither there nor here. That saves 10 MB.
        gc.collect()
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            self._be_edge(ours, theirs)
        theirs.close()
        edge = self._edges[pid] = Edge(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._readable(edge))
        self._greet(edge)

    def _be_edge(self, ours: socket.socket, control: socket.socket) -> None:
        """In the child: serve, then leave without running what the master's stack holds."""
        code = 1
        try:
            ours.close()
            self._leave()
            self._serve(control)
            code = 0
        except BaseException:
            logger.exception("edge process failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _readable(self, edge: Edge) -> None:
        if not edge.read():
            self._selector.unregister(edge.control)
            return
        self._heard(edge)
        self._drain_old()

    def _drain_old(self) -> None:
        old = [edge for edge in self if edge.is_old and not edge.is_draining]
        if old and self.are_all_serving:
            for edge in old:
                edge.is_draining = True
                edge.stop_at = time.monotonic() + self._drain_timeout
                edge.order(drain=True, gently=True)

    def _exited(self, edge: Edge) -> None:
        while edge.read():
            pass  # what it has reported last may be there unread
        if not edge.is_old and self._count:
            now = time.monotonic()
            self._fork_at = max(now, edge.started_at + EDGE_PACE)
            logger.error("edge process %d ended; replaced in %.1f s", edge.pid, self._fork_at - now)
        self._forget(edge)

    def _forget(self, edge: Edge) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(edge.control)
        edge.control.close()
        self._ended += add_up((edge.report,))
        del self._edges[edge.pid]
