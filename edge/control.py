"""The control socket: commands of the operator to a server that runs, as JSON lines (docs/reference/control.md).

The master's end takes commands in its `selectors` loop; the other end, at the bottom, is for commands and for code that
wants something of a server, such as `reload()`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.rundir import CONTROL_SOCKET, Running, running_servers, server_of_process

# A command is a few hundred bytes; this many clients at a time are more than an operator and a monitor.
MAX_COMMAND = 64 * 1024
MAX_CLIENTS = 32
# An answer fits the socket's buffer unless the client reads nothing.
SEND_TIMEOUT = 1.0
# What a master may take to answer what needs no waiting: it is one turn of its loop.
ANSWER_TIMEOUT = 10.0

Command = Callable[[str, dict[str, Any], "Reply"], None]


class ControlError(EdgeError):
    """A server that runs could not be found or asked, or has refused (exit code 1)."""


class Reply:
    """The answer to one command; it may be given later. A client that has gone is no error."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, **values: Any) -> None:
        """The command was done."""
        self._write({"ok": True, **values})

    def refuse(self, message: str) -> None:
        """The command was not done, and why."""
        self._write({"ok": False, "error": message})

    def _write(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._sock.settimeout(SEND_TIMEOUT)
            self._sock.sendall(json.dumps(answer).encode() + b"\n")


class ControlServer:
    """The master's end. `command` gets each command's name, its arguments, and where its answer goes."""

    def __init__(self, run_dir: Path, selector: selectors.BaseSelector, command: Command) -> None:
        self._selector = selector
        self._command = command
        self._clients: dict[socket.socket, bytes] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(run_dir / CONTROL_SOCKET))
        # Nobody can have connected before this: the socket does not listen yet, and its folder is 0700.
        os.chmod(run_dir / CONTROL_SOCKET, 0o600)
        self._listener.listen(MAX_CLIENTS)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Hang up on everybody: who waits for the end of the server sees it now."""
        for sock in list(self._clients):
            self._drop(sock)
        self._listener.close()

    def leave(self) -> None:
        """In a child: close what is the master's."""
        self._listener.close()
        for sock in self._clients:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._listener.accept()
            if len(self._clients) >= MAX_CLIENTS:
                sock.close()
                return
            self._clients[sock] = b""
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._readable(sock))

    def _readable(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(MAX_COMMAND)
        *lines, rest = (self._clients[sock] + data).split(b"\n")
        self._clients[sock] = rest
        for line in lines:
            self._obey(line, Reply(sock))
        if not data or len(rest) > MAX_COMMAND:
            self._drop(sock)

    def _obey(self, line: bytes, reply: Reply) -> None:
        try:
            arguments = json.loads(line)
            name = arguments.pop("command")
        except (ValueError, KeyError, TypeError, AttributeError):
            reply.refuse("not a command; send a JSON object with 'command', one a line")
            return
        self._command(str(name), arguments, reply)

    def _drop(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._clients[sock]
        sock.close()


def find_server(environ: Mapping[str, str], pid_file: str | None = None) -> Running:
    """Return the server that a command is meant for: the one in the pid file, or the only one with this EDGE_HOME.

    Raises ControlError if there is none, or more than one.
    """
    if pid_file is not None:
        try:
            pid = int(Path(pid_file).read_text())
        except (OSError, ValueError) as error:
            reason = error.strerror or "cannot be read" if isinstance(error, OSError) else "no process id in it"
            raise ControlError(f"{pid_file}: {reason.lower()}; name the file that edge serve -p has written") from None
        running = server_of_process(pid, environ)
        if running is None:
            raise ControlError(f"{pid_file}: no server of yours runs as process {pid}")
        return running
    servers = running_servers(environ)
    if not servers:
        raise ControlError(
            "no server runs with this EDGE_HOME; start one with edge serve, or name its pid file with -p"
        )
    if len(servers) > 1:
        pids = ", ".join(str(server.pid) for server in servers)
        raise ControlError(
            f"{len(servers)} servers run with this EDGE_HOME, as processes {pids}; name one's pid file with -p"
        )
    return servers[0]


def ask(server: Running, command: str, *, timeout: float | None = ANSWER_TIMEOUT, **arguments: Any) -> dict[str, Any]:
    """Have the server do a command and return its answer. `timeout` is in seconds, None waits for ever.

    Raises ControlError if the server does not answer, or refuses.
    """
    with connect(server, timeout) as sock:
        return exchange(sock, command, **arguments)


def connect(server: Running, timeout: float | None = ANSWER_TIMEOUT) -> socket.socket:
    """Return a connection to the server; it ends when the server does.

    Raises ControlError if the server takes no connection.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(str(server.control))
    except OSError as error:
        sock.close()
        raise ControlError(f"process {server.pid} takes no commands: {str(error.strerror).lower()}") from None
    return sock


def exchange(sock: socket.socket, command: str, **arguments: Any) -> dict[str, Any]:
    """Send a command on a connection and return the answer to it.

    Raises ControlError if none comes, or it is a refusal.
    """
    try:
        sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = sock.recv(1 << 16)
            if not piece:
                raise ControlError(f"{command}: the server ended before it answered")
            data += piece
    except OSError as error:
        raise ControlError(f"{command}: no answer: {str(error.strerror or error).lower()}") from None
    answer: dict[str, Any] = json.loads(data)
    if not answer.pop("ok"):
        raise ControlError(str(answer["error"]))
    return answer


def reload(environ: Mapping[str, str], pid_file: str | None = None, timeout: float | None = None) -> int:
    """Have the running server read everything again and replace its workers; return their number when all are new.

    This is `edge reload`, for other commands too. `timeout` is in seconds, None waits as long as the server needs.

    Raises ControlError if no server runs, or the reload was given up; what served before goes on serving then.
    """
    return int(ask(find_server(environ, pid_file), "reload", timeout=timeout)["workers"])
