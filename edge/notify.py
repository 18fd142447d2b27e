"""Tells the service manager how the server is (sd_notify(3)); nothing where none asks to be told.

The master calls it: it serves (READY=1), reloads, ends, has a successor, or is sound. A datagram costs some
microseconds and is sent when something changes, and at half of the watchdog's interval. Where the service manager keeps
sockets for the next run (FDSTORE=1), it gets those that were opened here when they take connections: of one that is
bound and does not listen it would think that its peer has hung up.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping

from edge.systemd import (
    FDSTORE,
    NOTIFY_SOCKET,
    SYSTEMD_EXEC_PID,
    WATCHDOG_USEC,
    encode_notification,
    parse_notify_address,
    parse_store_room,
    parse_watchdog,
)

logger = logging.getLogger("edge.notify")

_NEVER = float("inf")
# A successor is heard only when the service manager has been told of it, which its predecessor does within this time.
HAND_OVER = 1.0
# A service manager reads at once; one that has hung must not hold the master.
SEND_TIMEOUT = 1.0


class ServiceManager:
    """What this process tells its service manager, as `variables` (edge.systemd.take_variables) ask for.

    `is_successor`: this process takes over from the one that the service manager started.

    Raises ConfigError: a variable is not what it should be.
    """

    def __init__(self, variables: Mapping[str, str], *, is_successor: bool = False) -> None:
        address = variables.get(NOTIFY_SOCKET, "")
        self._address = parse_notify_address(address) if address else ""
        self._interval = parse_watchdog(variables, os.getpid()) if address else 0.0
        self._room = parse_store_room(variables) if address else 0
        started = {str(os.getpid()), str(os.getppid())} if is_successor else {str(os.getpid())}
        self.is_main = bool(address) and variables.get(SYSTEMD_EXEC_PID) in started
        """True if the service manager waits for this very process: then another may take its place."""
        self._is_unheard = is_successor
        known = (NOTIFY_SOCKET, WATCHDOG_USEC, FDSTORE)
        self._variables = {name: variables[name] for name in known if name in variables}
        self._unstored: dict[str, socket.socket] = {}
        self.stored: set[str] = set()
        """The names of the sockets that it keeps when this process ends."""
        self._is_ready = False
        self._reloads = 0
        self._status = ""
        self.deadline = _NEVER
        """When `beat` is to be called next, in monotonic seconds."""

    @property
    def variables(self) -> dict[str, str]:
        """What a successor has to be told the same by."""
        return {**self._variables, SYSTEMD_EXEC_PID: str(os.getpid())} if self.is_main else dict(self._variables)

    def store(self, sockets: Mapping[str, socket.socket], stored: Iterable[str]) -> None:
        """Have sockets kept for the next run under their names, from when it is ready; those of `stored` are by now."""
        names = list(sockets)[: self._room]
        self.stored = set(names).intersection(stored)
        self._unstored = {name: sockets[name] for name in names if name not in self.stored}
        if 0 < self._room < len(sockets):
            logger.warning(
                "FileDescriptorStoreMax=%d: %d sockets are open; after a restart the last ones are opened anew",
                self._room,
                len(sockets),
            )

    def forget(self, name: str) -> None:
        """Have it close a socket that it has kept; when this returns, it has, or is not going to."""
        self._send(FDSTOREREMOVE=1, FDNAME=name)
        done, theirs = os.pipe()
        try:
            self._send((theirs,), BARRIER=1)
        finally:
            os.close(theirs)
        try:
            # It closes the other end when it has done what it was told before: sd_notify_barrier(3).
            hangs_up = select.poll()
            hangs_up.register(done, 0)
            hangs_up.poll(SEND_TIMEOUT * 1000)
        finally:
            os.close(done)

    def tell(self, status: str, *, is_ready: bool) -> None:
        """How the server is. From when it first is ready, it is so until it reloads or ends."""
        if self._is_ready or not is_ready:
            self._tell(status)
            return
        self._is_ready = True
        self._status = status
        if self._is_unheard and self._address:
            self.deadline = time.monotonic() + HAND_OVER
            return
        self._announce()
        if self._interval:
            self.deadline = time.monotonic() + self._interval / 2

    def reloading(self) -> None:
        """A reload begins; each ends with `reloaded`."""
        self._reloads += 1
        if self._is_ready and self._reloads == 1:
            self._send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="reloading")

    def reloaded(self, status: str) -> None:
        """A reload is over, whether it was done or given up; `status` is what serves now."""
        self._reloads = max(0, self._reloads - 1)  # code that is wrong from the start was no reload
        if self._is_ready and not self._reloads:
            self._status = status
            self._send(READY=1, STATUS=status)

    def stopping(self, status: str) -> None:
        """The server ends."""
        self._status = status
        self._send(STOPPING=1, STATUS=status)

    def succeeded(self, pid: int) -> None:
        """Another process is the server from now on; this one has nothing to tell any more."""
        if self.is_main:
            self._send(MAINPID=pid, **({"WATCHDOG": 1} if self._interval else {}))
        self._address, self.deadline = "", _NEVER

    def beat(self, now: float, is_sound: Callable[[], bool]) -> None:
        """Give the sign of life if it is time and all `is_sound`; without it, the server is ended and started again."""
        if now < self.deadline:
            return
        if self._is_unheard:
            self._is_unheard = False
            self._announce()
        if not self._interval:
            self.deadline = _NEVER
            return
        if is_sound():
            self._send(WATCHDOG=1)
            self.deadline = now + self._interval / 2
        else:
            # What was missed is made up for as soon as all is well: there is half an interval left.
            self.deadline = now + self._interval / 8

    def _announce(self) -> None:
        for name, sock in self._unstored.items():
            if self._send((sock.fileno(),), FDSTORE=1, FDNAME=name):
                self.stored.add(name)
        self._unstored.clear()
        self._send(READY=1, STATUS=self._status)

    def _tell(self, status: str) -> None:
        if status == self._status or self._reloads:
            return
        self._status = status
        if not self._is_unheard:
            self._send(STATUS=status)

    def _send(self, files: tuple[int, ...] = (), /, **values: object) -> bool:
        if not self._address:
            return False
        # What it is not told of in time, it acts upon by its own rules.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SEND_TIMEOUT)
            sock.connect(self._address)
            socket.send_fds(sock, [encode_notification(**values)], files)
            return True
        return False
