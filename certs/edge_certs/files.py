"""The folder that lasts: where it is, how it is read, and how it is written so that no crash tears a file.

Everything here is 0700 for folders and 0600 for files. A write is a temporary file beside the target, fsync, rename:
a reader sees the old content or the new, never a part. Locks are the kernel's (`flock`): they end with their holder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_certs.errors import CertificateError, naming, place, reason

# A chain of ten RSA-4096 certificates is 25 KiB: more than this is not a certificate, and a reload reads it often.
MAX_FILE_SIZE = 1024 * 1024

# Making a root takes a few milliseconds; whoever holds a lock for longer hangs, and so would we.
LOCK_TIMEOUT = 30.0
LOCK_POLL_INTERVAL = 0.02

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")

# What `_write` names its temporary files; eight characters are tempfile's.
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")

CERTIFICATE_SUFFIXES = (".pem", ".crt", ".cer")
ROOM_ADVICE = "make room there, or set EDGE_HOME to another folder"
WRITE_ADVICE = "give this user the right to write there, or set EDGE_HOME to another folder"


class LockHeld(CertificateError):
    """Another process has the lock: what it guards is being done."""


def edge_home(environ: Mapping[str, str]) -> Path:
    """Return the folder for everything that lasts: `EDGE_HOME`, or the one of this user.

    The folder need not exist yet.

    Raises CertificateError: no home is known for this user.
    """
    if chosen := environ.get("EDGE_HOME"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/edge")
    data = environ.get("XDG_DATA_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    return Path(data) / "edge" if os.path.isabs(data) else _user_home(environ) / ".local/share/edge"


def find_key(cert: Path) -> Path:
    """Return the file that should hold the private key of the certificate file `cert`, which may be `cert` itself.

    Raises CertificateError: `cert` cannot be read, or no key is inside or beside it.
    """
    content = read_file(cert, "certificate")
    if PRIVATE_KEY.search(content):
        return cert
    places = _key_places(cert)
    for candidate in places:
        # lexists: a link into a folder that is closed to us is the right place, and reading it says what is wrong.
        if os.path.lexists(candidate):
            return candidate
    looked = " and ".join(place(candidate) for candidate in places)
    raise CertificateError(
        f"certificate {place(cert)}: no private key inside it, and no file {looked}", "name the key file with --key"
    )


def read_file(path: Path, what: str, max_size: int = MAX_FILE_SIZE) -> bytes:
    """Return the content of the regular file `path`, at most `max_size` bytes; messages call it `what`.

    Raises CertificateError: it is missing, not a file, too large, or not ours to read.
    """
    with naming(f"{what} {place(path)}"):
        try:
            return _read_regular(path, max_size)
        except FileNotFoundError:
            raise CertificateError("no such file", f"name a PEM file with the {what}") from None
        except IsADirectoryError:
            raise CertificateError(
                "a directory, not a file", f"name the file in it, such as {_example_in(path)}"
            ) from None
        except PermissionError:
            raise CertificateError("permission denied", f"let user {user_name()!r} read it") from None
        except OSError as error:
            raise CertificateError(reason(error), f"name a PEM file with the {what}") from None


def write_private(path: Path, content: bytes) -> None:
    """Make `path` hold `content`, all of it or (after a crash) what it held before; folders are made as needed.

    The file has mode 0600 and is on the disk when this returns.

    Raises CertificateError: the folder or the file cannot be written.
    """
    _write(path, content, 0o600)


def write_shared(path: Path, content: bytes) -> None:
    """Do what `write_private` does, for what the folder's group reads if it gets into the folder: mode 0640.

    Raises CertificateError: the folder or the file cannot be written.
    """
    _write(path, content, 0o640, of_folder=True)


def write_public(path: Path, content: bytes) -> None:
    """Do what `write_private` does, for what holds no secret and others read, as in a container: mode 0644.

    Raises CertificateError: the folder or the file cannot be written.
    """
    _write(path, content, 0o644)


def abandoned_writes(folder: Path) -> list[Path]:
    """Return the temporary files in `folder` whose writer is gone: killed, or the machine went down.

    They never count as content, and may be removed. A folder that is not there, or closed to us, has none.
    """
    try:
        found = sorted(path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name))
    except OSError:
        return []
    return [path for path in found if not _has_writer(path)]


def make_private_folder(path: Path) -> None:
    """Make the folder `path` and its missing parents, each 0700; those that are there keep their mode.

    Raises CertificateError: it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
    except OSError as error:
        raise CertificateError(f"cannot make folder {place(path)}: {reason(error)}", WRITE_ADVICE) from error


def user_name() -> str:
    """Return the name of the user that this process acts as, or its number when it has no account."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def remove_file(path: Path) -> None:
    """Remove the file `path`; one that is not there is no fault.

    Raises CertificateError: the folder cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CertificateError(f"cannot remove {place(path)}: {reason(error)}", WRITE_ADVICE) from error


def sync_folder(folder: Path) -> None:
    """Return when what was renamed in `folder` is on the disk: a rename is there only when its folder is.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock file `path` for the block; waits at most `timeout` seconds. The file stays: removing it would race.

    Raises LockHeld: another process kept it. Raises CertificateError: the file system has no locks.
    """
    make_private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CertificateError(f"cannot open lock {place(path)}: {reason(error)}", WRITE_ADVICE) from error
    try:
        _wait_lock(descriptor, path, timeout)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, mode: int, *, of_folder: bool = False) -> None:
    make_private_folder(path.parent)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with open(descriptor, "wb") as file:
                # Held while somebody writes, by nobody after a crash. Where there are no locks, it goes without.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(content)
                file.flush()
                group = path.parent.stat().st_gid
                if of_folder and os.fstat(file.fileno()).st_gid != group:
                    os.fchown(file.fileno(), -1, group)
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise CertificateError(f"cannot write {place(path)}: {reason(error)}", _write_advice(error)) from error


def _write_advice(error: OSError) -> str:
    return ROOM_ADVICE if error.errno in (errno.ENOSPC, errno.EDQUOT) else WRITE_ADVICE


def _has_writer(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True  # it had one until now
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
    return False


def _user_home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        # A container that runs as a number without an entry in /etc/passwd.
        raise CertificateError(
            f"no home folder: HOME is unset and user {os.geteuid()} has no account", "set EDGE_HOME to a folder"
        ) from None


def _key_places(cert: Path) -> list[Path]:
    """Certbot's place, then Caddy's and cert-manager's, then mkcert's."""
    name = cert.stem if cert.suffix in CERTIFICATE_SUFFIXES else cert.name
    certbot = ["privkey.pem"] if cert.name == "fullchain.pem" else []
    mkcert = [f"{name}-key.pem"] if cert.suffix == ".pem" else []
    return [cert.with_name(key) for key in (*certbot, f"{name}.key", *mkcert) if key != cert.name]


def _read_regular(path: Path, max_size: int) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise CertificateError("not a regular file", "copy it to one: a reload must be able to read it again")
        content = file.read(max_size + 1)
    if len(content) > max_size:
        raise CertificateError(f"more than {max_size} bytes", "name a PEM file of one certificate and its chain")
    return content


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe that nobody writes to would hang the start.
    return os.open(path, flags | os.O_NONBLOCK)


def _example_in(folder: Path) -> str:
    for name in ("fullchain.pem", "tls.crt"):
        if os.path.lexists(folder / name):
            return place(folder / name)
    return place(folder / "fullchain.pem")


def _wait_lock(descriptor: int, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not _try_lock(descriptor, path):
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"lock {place(path)}: held by another process for more than {timeout:g} s", "end that process"
            )
        time.sleep(LOCK_POLL_INTERVAL)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CertificateError(f"cannot lock {place(path)}: {reason(error)}", WRITE_ADVICE) from error
    return True
