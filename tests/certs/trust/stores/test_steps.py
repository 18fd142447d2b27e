from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.files import abandoned_writes
from edge_certs.trust.stores.machine import Finished
from edge_certs.trust.stores.steps import (
    COPY,
    MakeFolder,
    RemoveFile,
    Rework,
    Run,
    Step,
    WriteFile,
    describe,
    perform,
)
from tests.certs.forge import child_environment, ordinary_user
from tests.certs.trust.stores.recording import Answer, Recording, machine


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (WriteFile(Path("/etc/a b.crt"), b""), "write /etc/a b.crt"),
        (WriteFile(Path("/etc/a\nb"), b""), "write '/etc/a\\nb'"),
        (RemoveFile(Path("/etc/x")), "remove /etc/x"),
        (MakeFolder(Path("/etc/x")), "make folder /etc/x"),
        (Run(("trust", "extract compat")), "run trust 'extract compat'"),
        (Rework(Path("/a b"), ("keytool", "-keystore", COPY)), "run keytool -keystore '/a b'"),
    ],
)
def test_step_is_one_line_that_a_shell_would_take(step: Step, line: str) -> None:
    assert describe(step) == line


def test_file_is_removed_once(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    on = machine(tmp_path, Recording({}))
    perform(RemoveFile(path), on)
    perform(RemoveFile(path), on)
    assert not path.exists()


def test_folder_of_a_user_is_closed_to_others_and_may_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    on = machine(tmp_path, Recording({}))
    perform(MakeFolder(path), on)
    perform(MakeFolder(path), on)
    assert [folder.stat().st_mode & 0o777 for folder in (path, path.parent)] == [0o700, 0o700]


class Keytool:
    """Records the copy that it got, and does to it what the test wants done."""

    def __init__(self, *, content: bytes | None = None, code: int = 0) -> None:
        self.copies: list[Path] = []
        self.were_held: list[bool] = []
        self._content = content
        self._code = code

    def __call__(self, command: object) -> Finished:
        assert isinstance(command, list)
        copy = Path(command[1])
        self.copies.append(copy)
        self.were_held.append(abandoned_writes(copy.parent) == [])
        if self._content is not None:
            copy.write_bytes(copy.read_bytes() + self._content)
        return Finished(self._code, errors=b"keytool error")


def test_command_works_on_a_copy_that_then_takes_the_files_place(tmp_path: Path) -> None:
    target, link = tmp_path / "real", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to("real")
    keytool = Keytool(content=b"+new")
    on = machine(tmp_path, Recording({}))
    perform(Rework(link, ("keytool", COPY)), type(on)(tmp_path, tmp_path, "Linux", True, {}, keytool))
    assert (target.read_bytes(), link.is_symlink()) == (b"old+new", True)
    assert target.stat().st_mode & 0o777 == 0o640
    assert keytool.copies[0] != target
    # While it works, nobody takes its copy for a leftover.
    assert keytool.were_held == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_command_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "real"
    target.write_bytes(b"old")
    on = machine(tmp_path, Recording({}))
    keytool = Keytool(content=b"half", code=1)
    with pytest.raises(CertificateError, match="exit code 1: keytool error"):
        perform(Rework(target, ("keytool", COPY)), type(on)(tmp_path, tmp_path, "Linux", True, {}, keytool))
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["real"]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: RemoveFile(path / "x"),
        lambda path: WriteFile(path / "x", b""),
        lambda path: WriteFile(path / "y/x", b""),
        lambda path: MakeFolder(path / "y"),
        lambda path: Rework(path / "x", ("keytool", COPY)),
    ],
)
def test_folder_that_is_closed_is_one_line(make: object, tmp_path: Path) -> None:
    assert callable(make)
    (tmp_path / "x").write_bytes(b"old")
    tmp_path.chmod(0o555)
    try:
        with (
            ordinary_user(),
            pytest.raises(CertificateError, match=r"^cannot (change|write) [^\n]*: permission denied; "),
        ):
            perform(make(tmp_path), machine(tmp_path, Recording({"keytool": Answer()})))
    finally:
        tmp_path.chmod(0o755)
    assert (tmp_path / "x").read_bytes() == b"old"


def test_copy_of_a_killed_process_is_a_leftover(tmp_path: Path) -> None:
    copy = tmp_path / ".cacerts.abcd1234.tmp"
    copy.touch()
    with open(copy, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert abandoned_writes(tmp_path) == []
    assert abandoned_writes(tmp_path) == [copy]


KILLED = """
import os, signal, sys
from pathlib import Path
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.steps import COPY, Rework, perform

def run(command):
    Path(command[1]).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

target = Path(sys.argv[1])
perform(Rework(target, ("keytool", COPY)), Machine(Path("/"), Path("/"), "Linux", True, {}, run))
"""


def test_kill_while_the_command_works_leaves_the_file_and_a_copy_that_can_be_told(tmp_path: Path) -> None:
    target = tmp_path / "cacerts"
    target.write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(target)]
    done = subprocess.run(command, env=child_environment(), capture_output=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert target.read_bytes() == b"old"
    [copy] = abandoned_writes(tmp_path)
    assert copy.read_bytes() == b"half"
