"""A new version takes over while the old one serves: what the two masters say to each other.

The old master starts the command that it was started with once more. The new one gets the listeners, open, so that no
connection is refused in between; it starts its own workers and edges, says `ready` when all of them serve, and only
then the old one drains. A new one that ends before that changes nothing.

What was started first may be what a container or a supervisor waits for. So when the old master has drained it does not
end: it becomes a *stand-in* (edge/standin.py), a few MB that pass signals on and end with the new one's exit code.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge import standin
from edge.control import Reply
from edge.net.listener import Listener

logger = logging.getLogger("edge.master")

VARIABLE = "EDGE_UPGRADE"
# What a new master may take to end that is not to take over: it gives its own workers two seconds.
UPGRADE_GRACE = 5.0


class Upgrade:
    """At most one upgrade, as the old master sees it. `succeeded` gets the process id of the one that has taken over.

    `listeners` are handed on, and `variables` besides those of the environment; the new master starts in the directory
    `folder`, by default the current one.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        selector: selectors.BaseSelector,
        succeeded: Callable[[int], None],
        folder: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._listeners = listeners
        self._folder = folder
        self._variables = variables or {}
        self._selector = selector
        self._succeeded = succeeded
        self._under_way: tuple[Successor, Reply | None] | None = None

    @property
    def is_under_way(self) -> bool:
        """True from `begin` on, until it has failed."""
        return self._under_way is not None

    @property
    def pids(self) -> list[int]:
        """The new master, if there is one."""
        return [self._under_way[0].pid] if self._under_way is not None else []

    def begin(self, reply: Reply | None) -> None:
        """Start the new master; `reply` gets the outcome."""
        logger.info("upgrade: the command %s starts again, and takes over when it serves", sys.orig_argv[1:])
        successor = Successor(self._listeners, {**os.environ, **self._variables}, self._folder)
        self._under_way = successor, reply
        self._selector.register(successor.control, selectors.EVENT_READ, lambda: self._reports(successor, reply))

    def leave(self) -> None:
        """In a child: close what is the master's."""
        if self._under_way is not None:
            self._under_way[0].control.close()

    def give_up(self) -> None:
        """Have a new master that is not ready end, without waiting for it: the server is to stop."""
        if self._under_way is None or self._under_way[0].is_ready:
            return
        successor, reply = self._under_way
        self._selector.unregister(successor.control)
        successor.terminate()
        if reply is not None:
            reply.refuse("upgrade given up: the server is ending")

    def end(self) -> None:
        """End a new master that is not ready: the server is to stop."""
        if self._under_way is not None and not self._under_way[0].is_ready:
            self._under_way[0].end(UPGRADE_GRACE)

    def _reports(self, successor: Successor, reply: Reply | None) -> None:
        self._selector.unregister(successor.control)
        if successor.read():
            logger.info("upgrade: process %d has taken over; what runs here is finished", successor.pid)
            self._succeeded(successor.pid)
            if reply is not None:
                reply.send(pid=successor.pid)
            return
        self._under_way = None
        successor.end(UPGRADE_GRACE)
        logger.error("upgrade given up: the new server ended before it served; the old one goes on")
        if reply is not None:
            reply.refuse("upgrade given up: the new server ended before it served, see its log; the old one goes on")


class Successor:
    """The new master, as the old one sees it. `control` is readable when it has something to say, or has ended."""

    def __init__(self, listeners: Sequence[Listener], environ: Mapping[str, str], folder: str | None = None) -> None:
        self.control, theirs = socket.socketpair()
        self.is_ready = False
        self._is_told = False  # to end
        with theirs:
            handed = {
                "control": theirs.fileno(),
                "listeners": [{**_describe(listener), "fd": listener.sock.fileno()} for listener in listeners],
            }
            self._process = subprocess.Popen(
                # Not sys.argv: how Python was told to find the program is part of the command.
                [sys.executable, *sys.orig_argv[1:]],
                stdin=subprocess.DEVNULL,
                cwd=folder,
                pass_fds=(theirs.fileno(), *(listener.sock.fileno() for listener in listeners)),
                env={**environ, VARIABLE: json.dumps(handed)},
            )

    @property
    def pid(self) -> int:
        """The new master's process id."""
        return self._process.pid

    def read(self) -> bool:
        """Take what it says; True when it is ready, False when it has ended, or failed."""
        data = b""
        with contextlib.suppress(OSError):
            data = self.control.recv(64)
        self.is_ready = data == b"ready\n"
        return self.is_ready

    def terminate(self) -> None:
        """Tell it to end, once: a second signal would cut off what runs there."""
        if not self._is_told:
            self._is_told = True
            self._process.terminate()

    def end(self, timeout: float) -> None:
        """End one that is not ready: the server is to stop, or it has failed."""
        self.control.close()
        self.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Predecessor:
    """The old master, as the new one sees it, and what it hands over."""

    def __init__(self, handed: dict[str, Any]) -> None:
        self._control = socket.socket(fileno=handed["control"])
        self._control.set_inheritable(False)
        self.listeners = [_take(value) for value in handed["listeners"]]

    @classmethod
    def find(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """Return who has started this process to take over, None if nobody has; the environment says so only once."""
        handed = environ.pop(VARIABLE, None)
        return None if handed is None else cls(json.loads(handed))

    def tell_ready(self) -> None:
        """Everything serves: the old one may go."""
        with contextlib.suppress(OSError):  # it has ended already: all the more
            self._control.sendall(b"ready\n")
        self._control.close()

    def leave(self) -> None:
        """In a child: close what is the master's."""
        self._control.close()


def stand_in(pid: int) -> NoReturn:
    """Become what passes signals on to the new master, and ends as it does."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(Path(standin.__file__)), str(pid)])


def _describe(listener: Listener) -> dict[str, Any]:
    return {
        "tls": listener.tls,
        "address": listener.address,
        "public_port": listener.public_port,
        "owned_path": listener.owned_path,
        "is_metrics": listener.is_metrics,
        "store_name": listener.store_name,
    }


def _take(value: dict[str, Any]) -> Listener:
    sock = socket.socket(fileno=value.pop("fd"))
    # It was inherited by us, and workers would inherit it in turn.
    sock.set_inheritable(False)
    sock.setblocking(False)
    return Listener(sock, **value)
