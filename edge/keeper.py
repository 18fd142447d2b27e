"""The process that keeps certificates, as the master sees it: started, started again when it ends, ended.

It is a program of its own (`python -P -m edge_certs`), because the master may not wait for anything (decision 8), and
because keys are made in it. It writes files; the master sees them change, and needs to be told nothing.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

from edge_certs.settings import KeeperSettings

logger = logging.getLogger("edge.master")

NEVER = float("inf")

# One that ends at once is started again at this pace, each time twice as slowly, up to the last.
FIRST_PAUSE = 1.0
LAST_PAUSE = 60.0


class KeeperProcess:
    """At most one process, and none for no settings. `due` starts it, from `begin` on until `end`."""

    def __init__(self, settings: KeeperSettings | None, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = dict(environ)
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._pause = FIRST_PAUSE
        self._started_at = 0.0
        self.deadline = NEVER
        """When `due` has something to do, in monotonic seconds."""

    @property
    def pids(self) -> list[int]:
        """The process, if there is one."""
        return [self._running[0].pid] if self._running is not None else []

    def begin(self, now: float) -> None:
        """The server listens, so that challenges can be answered."""
        if self._settings is not None:
            self.deadline = now

    def due(self, now: float) -> None:
        """Start it if it is time."""
        if self._settings is None or now < self.deadline:
            return
        control, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "edge_certs", str(theirs.fileno())]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=self._environ
            )
        self._running = process, control
        self._started_at, self.deadline = now, NEVER
        # It fits the socket's buffer (200 KiB) for thousands of names; what has died does not read it.
        with contextlib.suppress(OSError):
            control.sendall(self._settings.encode())

    def reap(self, now: float) -> None:
        """Take notice of its end, if it has."""
        if self._running is None or (code := self._running[0].poll()) is None:
            return
        self._forget()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._pause = FIRST_PAUSE if now - self._started_at > LAST_PAUSE else min(2 * self._pause, LAST_PAUSE)
        self.deadline = now + self._pause
        logger.error("certificates: the process that renews them ended with %s; again in %.0f s", how, self._pause)

    def end(self, timeout: float) -> None:
        """End it: it has `timeout` seconds to write down where it is."""
        self.deadline = NEVER
        if self._running is None:
            return
        process, control = self._running
        control.close()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._running = None

    def abandon(self) -> None:
        """In an edge process after the fork: let go of what is the master's."""
        if self._running is not None:
            self._running[1].close()

    def _forget(self) -> None:
        if self._running is not None:
            self._running[1].close()
            self._running = None
