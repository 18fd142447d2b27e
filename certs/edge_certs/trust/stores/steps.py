"""What changes a store, step by step, as values: `--dry-run` shows them, and `perform` does them.

A file is replaced whole or not at all, so a crash between any two instructions leaves the old file or the new one.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from edge_certs.errors import CertificateError, place, reason
from edge_certs.files import write_public
from edge_certs.trust.stores.machine import Machine

WRITE_ADVICE = "look at the rights of its folder"
# Stands in a command for the copy that it works on.
COPY = "{copy}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """`path` is to hold `content`, for everybody to read."""

    path: Path
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """`path` is to be no more; it is no error when it is not there."""

    path: Path


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """The folder `path` is to be there, for its owner alone."""

    path: Path


@dataclass(frozen=True, slots=True)
class Run:
    """A command that has to succeed."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rework:
    """A command that changes `path` in place, and would tear it in a crash: it gets a copy, which then takes its place.

    `COPY` stands in `command` for the copy.
    """

    path: Path
    command: tuple[str, ...]


Step = WriteFile | RemoveFile | MakeFolder | Run | Rework


def describe(step: Step) -> str:
    """Return what `perform` does, in one line; commands are as a shell takes them."""
    match step:
        case WriteFile(path):
            return f"write {place(path)}"
        case RemoveFile(path):
            return f"remove {place(path)}"
        case MakeFolder(path):
            return f"make folder {place(path)}"
        case Run(command):
            return f"run {shlex.join(command)}"
        case Rework(path, command):
            return f"run {shlex.join(str(path) if part == COPY else part for part in command)}"
        case _:
            assert_never(step)


def perform(step: Step, machine: Machine) -> None:
    """Do `step`.

    Raises CertificateError: a file cannot be written, or a command fails.
    """
    match step:
        case Run(command):
            machine.require(command)
        case Rework(path, command):
            _rework(path, command, machine)
        case WriteFile(path, content):
            with _explained(path):
                _make_folders(path.parent, 0o755)
            write_public(path, content)
        case RemoveFile(path):
            with _explained(path):
                path.unlink(missing_ok=True)
        case MakeFolder(path):
            with _explained(path):
                _make_folders(path, 0o700)
        case _:
            assert_never(step)


def _rework(path: Path, command: tuple[str, ...], machine: Machine) -> None:
    # A link, as Debian's cacerts is one, stays a link.
    target = path.resolve()
    with _explained(path):
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    with open(descriptor, "rb") as held:
        try:
            with _explained(path):
                # As in edge_certs.files: what nobody holds is a leftover.
                with suppress(OSError):
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.copyfile(target, name)
                status = target.stat()
                os.chown(name, status.st_uid, status.st_gid)
                os.chmod(name, status.st_mode & 0o7777)
            machine.require([name if part == COPY else part for part in command])
            with _explained(path):
                _replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise


def _replace(name: str, target: Path) -> None:
    # By name: the command may have put another file in the copy's place.
    with open(name, "rb") as changed:
        os.fsync(changed.fileno())
    os.replace(name, target)


def _make_folders(path: Path, mode: int) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        # Whatever the umask is: those who use the store have to get to it.
        folder.chmod(mode)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CertificateError(f"cannot change {place(path)}: {reason(error)}", WRITE_ADVICE) from error
