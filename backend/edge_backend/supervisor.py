"""Starts worker processes and speaks with them on their control sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import wire
from .identity import Identity
from .settings import DUMP_SIGNAL, WorkerSettings


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says: `ready`, or that the application failed with an exit code for the server."""

    ready: bool
    code: int = 0
    message: str = ""


class WorkerProcess:
    """One worker: its process, its control socket, and the path at which edges reach it."""

    def __init__(
        self,
        settings: WorkerSettings,
        run_dir: Path,
        environ: Mapping[str, str],
        python: str = "",
        identity: Identity | None = None,
    ) -> None:
        """Start it, with the interpreter `python` if that is not to be this one, and as `identity` if not as this user.

        The listener is bound here, so edges can connect before the application is there.

        Raises OSError if there is no such interpreter.
        """
        self.number = settings.number
        self.path = str(run_dir / f"worker-{settings.number}.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control, theirs = socket.socketpair()
        with listener, theirs:
            listener.bind(self.path)
            if identity is not None:
                # Edges are this user too; nobody can have connected before, as the socket does not listen yet.
                os.chmod(self.path, 0o600)
                os.chown(self.path, identity.uid, identity.gid)
            listener.listen(128)
            command = [
                python or sys.executable,
                "-P",
                "-m",
                "edge_backend",
                str(listener.fileno()),
                str(theirs.fileno()),
            ]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(listener.fileno(), theirs.fileno()),
                env=dict(environ),
                **(identity.popen if identity is not None else {}),
            )
        # One line of a few hundred bytes: it fits the socket's buffer, so this does not wait for the worker.
        self.control.sendall(settings.encode())
        self.control.setblocking(False)
        self._buffer = b""
        self.tasks = 0
        """How many its event loop had when it was asked last."""
        self.is_asked = False
        """True while it has not answered yet."""

    def read_report(self) -> Report | None:
        """Return what the worker has to say, None if nothing whole came yet.

        Raises EOFError when its end of the control socket is closed.
        """
        try:
            data = self.control.recv(65536)
        except BlockingIOError:
            return None
        if not data:
            raise EOFError
        self._buffer += data
        word = "tasks"
        while word == "tasks":
            if b"\n" not in self._buffer:
                return None
            line, _, self._buffer = self._buffer.partition(b"\n")
            word, _, rest = line.decode("utf-8", "replace").partition(" ")
            if word == "tasks":
                self.tasks, self.is_asked = int(rest), False
        if word != "ready":
            code, _, message = rest.partition(" ")
            return Report(False, int(code), message)
        if rest != str(wire.VERSION):
            # Another version was installed while this one runs: a worker comes from there, the edges from here.
            found = f"the installed edge speaks version {rest} of the wire, the running one {wire.VERSION}"
            return Report(False, 1, f"{found}; use edge upgrade")
        return Report(True)

    def poll(self) -> str | None:
        """Return how the process ended, None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit code {status}"

    def ask(self) -> None:
        """Ask how many tasks its event loop has."""
        with contextlib.suppress(OSError):
            self.control.sendall(b"tasks\n")
            self.is_asked = True

    def stop(self) -> None:
        """Ask it to finish what runs and to end."""
        with contextlib.suppress(OSError):
            self.control.sendall(b"stop\n")

    def dump(self) -> None:
        """Have it write the stacks of its threads to standard error, whatever its event loop does."""
        self._signal(DUMP_SIGNAL)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    @property
    def memory(self) -> int:
        """The bytes of memory that the process has, 0 where the system does not say (it does on Linux)."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_bytes().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGESIZE")

    @property
    def descriptors(self) -> int:
        """How many files and sockets the process has open, 0 where the system does not say."""
        return open_descriptors(self.process.pid)

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def release(self) -> None:
        """Close the control socket and remove the socket's file, after the process has ended."""
        self.control.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def open_descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open, 0 where the system does not say (it does on Linux)."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
