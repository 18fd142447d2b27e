"""Plays systemd for tests: hears what a server tells it, keeps the sockets that it sends, and hands them back."""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import struct
from collections.abc import Sequence

from tests.process.server import wait_until

# Above the numbers under which a service gets its sockets.
FIRST_KEPT = 40


class Manager:
    """Plays systemd: `wrapper` starts the server as it would, and `wait` returns what it is told.

    `interval` is that of the watchdog in seconds, `room` how many sockets it keeps between two runs.
    """

    def __init__(self, name: str, interval: float = 0.0, room: int = 0) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(f"\0{name}")
        self._sock.setblocking(False)
        self._heard: list[tuple[int, dict[str, str]]] = []
        self._room = room
        self.stored: dict[str, int] = {}
        """What it keeps: descriptors by name."""
        self.environ = {"NOTIFY_SOCKET": f"@{name}"}
        if interval:
            self.environ["WATCHDOG_USEC"] = str(round(interval * 1_000_000))
        if room:
            self.environ["FDSTORE"] = str(room)
        self.wrapper = ("sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh")

    def handing_over(self, *sockets: tuple[str, int]) -> tuple[Sequence[str], Sequence[int]]:
        """Return a wrapper that starts the server with these and all that is kept, and the descriptors to pass on."""
        handed = [*sockets, *self.stored.items()]
        moves = " ".join(f"{3 + index}<&{fd} {fd}<&-" for index, (_, fd) in enumerate(handed))
        names = ":".join(name for name, _ in handed)
        variables = f"SYSTEMD_EXEC_PID=$$ LISTEN_PID=$$ LISTEN_FDS={len(handed)} LISTEN_FDNAMES='{names}'"
        return ("bash", "-c", f'{variables} exec "$@" {moves}', "bash"), [fd for _, fd in handed]

    def take(self) -> list[tuple[int, dict[str, str]]]:
        """Return what has come since the last time: who said it, and what."""
        self._receive()
        heard, self._heard = self._heard, []
        return heard

    def wait(self, name: str) -> tuple[int, dict[str, str]]:
        """Return the next that has this value, and forget it and what came before."""
        return wait_until(lambda: self._next(name), f"{name} is told; last came {self._heard[-3:]}")  # type: ignore[no-any-return]

    def close(self) -> None:
        """End, and keep nothing."""
        self._sock.close()
        for descriptor in self.stored.values():
            os.close(descriptor)

    def _next(self, name: str) -> tuple[int, dict[str, str]] | None:
        self._receive()
        for index, item in enumerate(self._heard):
            if name in item[1]:
                del self._heard[: index + 1]
                return item
        return None

    def _receive(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(4096, 256, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            found = {kind: value for _, kind, value in ancillary}
            said = dict(line.split("=", 1) for line in data.decode().split("\n"))
            self._heard.append((struct.unpack("3i", found[socket.SCM_CREDENTIALS])[0], said))
            files = array.array("i", found.get(socket.SCM_RIGHTS, b""))
            if "FDSTORE" in said and self._room:
                self._store(said["FDNAME"], files)
            if "FDSTOREREMOVE" in said:
                os.close(self.stored.pop(said["FDNAME"]))
            for descriptor in files:
                os.close(descriptor)  # of BARRIER=1: what came before has been done

    def _store(self, name: str, files: Sequence[int]) -> None:
        """Keep them as systemd does: up to so many, nothing twice, and nothing whose peer has hung up."""
        assert len(name) < 256
        assert name.isascii()
        assert name.isprintable()
        assert ":" not in name
        for descriptor in files:
            hangs_up = select.poll()
            hangs_up.register(descriptor, 0)
            assert not hangs_up.poll(0), f"{name}: systemd would let go of it at once"
            assert name not in self.stored
            assert len(self.stored) < self._room
            self.stored[name] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_KEPT)
