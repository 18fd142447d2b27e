"""The run directory: what lives as long as a server, and how commands find the server that has it.

It is a folder `edge-*`, open to this user alone (but see `open_to`), with the sockets of the workers, the control
socket, `edge.json` (who has it) and `lock`. The lock is the kernel's: it ends with the last process of the server, also
of one that was killed. A folder whose lock nobody holds is what such a server left behind, and the next start removes
it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.account import can_enter
from edge.errors import ConfigError
from edge_backend.identity import Identity
from edge_certs.errors import CertificateError
from edge_certs.files import edge_home

# What `sockaddr_un` holds on macOS (104; Linux has 108), less `/worker-4294967295.sock` and its end.
MAX_RUN_DIRECTORY = 80
CONTROL_SOCKET = "control.sock"
# What `RuntimeDirectory=edge` of a systemd unit makes: the commands look there too.
SERVICE_DIRECTORY = Path("/run/edge")
_PREFIX = "edge-"
# A folder; its group may enter it where edges and workers are another user.
_MODES = (0o040700, 0o040710)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs: its master's process id, and its run directory."""

    pid: int
    path: Path

    @property
    def control(self) -> Path:
        """Where it takes commands."""
        return self.path / CONTROL_SOCKET


class RunDirectory:
    """The folder of this run. Commands find it while it is *current*: from `take` to `give_up` or the end. The pid
    file, if there is to be one, holds this process's id for the same time.
    """

    def __init__(self, path: Path, pid_file: str, lock: int) -> None:
        self.path = path
        self._pid_file = Path(pid_file) if pid_file else None
        self._own = f"{os.getpid()}\n"
        self._lock = lock
        self.is_current = False

    def open_to(self, identity: Identity) -> None:
        """Let edges and workers, which are this user, get at the sockets of workers: they may enter, no more."""
        os.chown(self.path, -1, identity.gid)
        self.path.chmod(0o710)

    def take(self) -> None:
        """Commands are for this server from now on.

        Raises ConfigError if the pid file cannot be written.
        """
        self.is_current = True
        _write_owner(self.path, is_current=True)
        if self._pid_file is None:
            return
        try:
            self._pid_file.write_text(self._own)
        except OSError as error:
            reason = str(error.strerror).lower()
            raise ConfigError(f"pid file {str(self._pid_file)!r}: {reason}; use another path") from None

    def give_up(self) -> None:
        """Another server has taken over, and the pid file with it."""
        self.is_current = False
        _write_owner(self.path, is_current=False)

    def remove(self) -> None:
        """Remove the folder, and the pid file unless another process has taken it over."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):
            if self._pid_file is not None and self._pid_file.read_text() == self._own:
                self._pid_file.unlink()


@contextlib.contextmanager
def run_directory(pid_file: str = "", identity: Identity | None = None) -> Iterator[RunDirectory]:
    """Make the folder in which the sockets of this run lie, and remove it at the end. It is not current yet.

    `identity` is whom edges and workers are, if not this user.

    Raises ConfigError if there can be none, or its path leaves no room for a socket's name.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or _of_service(os.environ) or tempfile.gettempdir()
    if identity is not None and not can_enter(identity, Path(base)):
        base = tempfile.gettempdir()
    what = f"run directory in {base!r}"
    do = "set XDG_RUNTIME_DIR to a short path that you may write to"
    try:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    except OSError as error:
        raise ConfigError(f"{what}: {str(error.strerror).lower()}; {do}") from None
    directory = RunDirectory(path, pid_file, _lock(path))
    try:
        size = len(os.fsencode(path))
        if size > MAX_RUN_DIRECTORY:
            raise ConfigError(f"{what}: its path has {size} bytes, at most {MAX_RUN_DIRECTORY} allowed; {do}")
        if identity is not None:
            directory.open_to(identity)
        _write_owner(path, is_current=False)
        _remove_stale(Path(base))
        yield directory
    finally:
        directory.remove()


def running_servers(environ: Mapping[str, str]) -> list[Running]:
    """Return the servers of this user that have the same EDGE_HOME, by process id."""
    home = _home(environ)
    found = {running.pid: running for base in _bases(environ) for running, of in _in_use(base) if of == home}
    return [found[pid] for pid in sorted(found)]


def server_of_process(pid: int, environ: Mapping[str, str]) -> Running | None:
    """Return the server with this master, whatever its EDGE_HOME; None if there is none."""
    return next((item for base in _bases(environ) for item, _ in _in_use(base) if item.pid == pid), None)


def _home(environ: Mapping[str, str]) -> str:
    try:
        return str(edge_home(environ))
    except CertificateError:
        return ""  # a container's user without an account or a home


def _bases(environ: Mapping[str, str]) -> set[Path]:
    """Where a run directory can be: whoever started the server may have had other variables than who asks."""
    own = (environ.get("XDG_RUNTIME_DIR"), _of_service(environ), f"/run/user/{os.geteuid()}", tempfile.gettempdir())
    return {Path(place) for place in (*own, SERVICE_DIRECTORY) if place and os.path.isdir(place)}


def _of_service(environ: Mapping[str, str]) -> str:
    """The directory that systemd made for the service (`RuntimeDirectory=`), the first of several."""
    return environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def _lock(path: Path) -> int:
    """Lock the folder; return the descriptor that holds the lock."""
    # Locked before it has its name: a folder whose `lock` can be locked is nobody's.
    descriptor = os.open(path / "lock.new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(path / "lock.new", path / "lock")
    return descriptor


def _write_owner(path: Path, *, is_current: bool) -> None:
    """Say who has the folder, in one step for who reads it."""
    owner = {"pid": os.getpid(), "home": _home(os.environ), "current": is_current}
    (path / "edge.json.new").write_text(json.dumps(owner))
    os.rename(path / "edge.json.new", path / "edge.json")


def _folders(base: Path) -> Iterator[Path]:
    """Yield the run directories of this user; of everyone, for root."""
    for path in base.glob(f"{_PREFIX}*"):
        try:
            status = path.lstat()
            is_locked = (path / "lock").is_file()
        except OSError:
            continue  # that server has ended just now; the others are still to be told of
        is_ours = status.st_uid == os.geteuid() or not os.geteuid()
        if is_ours and status.st_mode & 0o170777 in _MODES and is_locked:
            yield path


def _in_use(base: Path) -> Iterator[tuple[Running, str]]:
    for path in _folders(base):
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads((path / "edge.json").read_text())
            if owner["current"] and _is_locked(path):
                yield Running(int(owner["pid"]), path), str(owner["home"])


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove_stale(base: Path) -> None:
    for path in _folders(base):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and not _is_locked(path):
                shutil.rmtree(path, ignore_errors=True)
