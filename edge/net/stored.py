"""Listeners of an earlier run, which the service manager has kept: they are taken up again where they are wanted.

Theory of operation
-------------------
A listener that was opened here is handed to the service manager when it takes connections (edge/notify.py). The socket
stays open there whatever becomes of us, so who connects in the meantime waits in its backlog. The next run gets all of
them back beside the sockets of socket units, and tells them apart by their names, which are made of their addresses. So
whoever wants to bind an address asks here first.

One that nobody wants any more still has its port, in the service manager's hands. It is given up when that port is
wanted in another way (`0.0.0.0:443` was, `[::]:443` is to be), and at the latest when all listeners are open.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

from edge.systemd import HandedSocket, store_name


def tcp_name(host: str, port: int, *, dual: bool) -> str:
    """Return the name of a TCP listener; `dual`: it takes IPv4 as well as IPv6."""
    return store_name(f"{host},{port}{',dual' if dual else ''}")


def tcp_name_of(sock: socket.socket) -> str:
    """Return the same of a socket that is bound."""
    host, port = sock.getsockname()[:2]
    is_ipv6 = sock.family == socket.AF_INET6
    return tcp_name(host, port, dual=is_ipv6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def unix_name(path: str) -> str:
    """Return the name of the listener whose file is at `path`, which is absolute; empty if there is none.

    The file is part of it: where another program has put its own there since, nobody would find ours.
    """
    try:
        return store_name(f"unix:{path}#{os.lstat(path).st_ino}")
    except OSError:
        return ""


class StoredSockets:
    """What has come back and is not wanted yet. `forget` has the service manager close its own, by name."""

    def __init__(self, handed: Iterable[HandedSocket], forget: Callable[[str], None]) -> None:
        self._forget = forget
        self._sockets: dict[str, socket.socket] = {}
        self.taken: set[str] = set()
        """The names of those that are in use again."""
        for item in handed:
            sock = _open(item.fd)
            if sock is None:
                forget(item.name)
            elif item.name in self._sockets:
                sock.close()
            else:
                self._sockets[item.name] = sock

    def take(self, name: str) -> socket.socket | None:
        """Return the socket with this name, which is the caller's from now on; None if there is none."""
        sock = self._sockets.pop(name, None)
        if sock is not None:
            self.taken.add(name)
        return sock

    def release(self, port: int) -> bool:
        """Give up those with this TCP port; True if there was one, so that it is worth trying again to bind it."""
        names = [name for name, sock in self._sockets.items() if _port(sock) == port]
        for name in names:
            self._give_up(name)
        return bool(names)

    def give_up_rest(self) -> None:
        """Nobody else is going to want one."""
        for name in list(self._sockets):
            self._give_up(name)

    def close(self) -> None:
        """Close what was not taken; the service manager keeps it for a run that comes further than this one."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _give_up(self, name: str) -> None:
        self._sockets.pop(name).close()
        self._forget(name)


def _open(fd: int) -> socket.socket | None:
    """Return the socket of that number, None if it is none that takes connections."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    # It was inherited by us, and workers would inherit it in turn.
    sock.set_inheritable(False)
    sock.setblocking(False)
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return sock
    sock.close()
    return None


def _port(sock: socket.socket) -> int:
    """Return the TCP port, -1 for a Unix socket."""
    return int(sock.getsockname()[1]) if sock.family in (socket.AF_INET, socket.AF_INET6) else -1
