"""Who edges and workers are to be, as far as that can be told without becoming them; see test_privileges.py."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from edge.account import can_enter, find_identity, let_in, refuse_unable
from edge.errors import ConfigError
from edge_backend.identity import Identity
from tests.process.server import clean_environment

OTHER = Identity(54321, 54322, (54322, 54323), "other", "/")


def as_us(**changes: int) -> Identity:
    return Identity(changes.get("uid", os.geteuid()), changes.get("gid", 54322), (54323,), "us", "/")


def test_nobody_is_to_be_anybody_else_by_default() -> None:
    assert find_identity("", "") is None


def test_user_that_we_are_needs_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: nobody.pw_gid)
    assert find_identity("nobody", "") is None
    assert find_identity(str(nobody.pw_uid), "") is None
    with pytest.raises(ConfigError, match="--user 'nobody': only root can become another user; start as root"):
        find_identity("nobody", "54321")


def test_identity_has_the_groups_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 7, 8])
    nobody = pwd.getpwnam("nobody")
    found = find_identity("nobody", "9")
    assert found == Identity(nobody.pw_uid, 9, (9, 7, 8), "nobody", nobody.pw_dir)
    assert found.variables == {"HOME": nobody.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}
    assert found.popen == {"user": nobody.pw_uid, "group": 9, "extra_groups": (9, 7, 8)}


@pytest.mark.parametrize(
    ("identity", "mode", "enters"),
    [
        (as_us(), 0o700, True),
        (as_us(), 0o077, False),
        (as_us(uid=54321, gid=os.getegid()), 0o710, True),
        (as_us(uid=54321, gid=os.getegid()), 0o701, False),
        (OTHER, 0o701, True),
        (OTHER, 0o770, False),
    ],
)
def test_user_enters_as_the_permissions_say(identity: Identity, mode: int, enters: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        place.mkdir()
        for path in (Path(folder), place):
            os.chown(path, -1, os.getegid())
        Path(folder).chmod(0o755)
        place.chmod(mode)
        try:
            assert can_enter(identity, place) == enters
        finally:
            place.chmod(0o700)


def test_folder_that_is_not_there_is_entered_by_nobody(tmp_path: Path) -> None:
    assert not can_enter(as_us(), tmp_path / "gone")


def test_user_is_let_in_but_not_to_list(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "trust").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    let_in(as_us(), home / "trust", home)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (home, home / "trust")]
    assert modes == [0o711, 0o711]
    assert stat.S_IMODE(tmp_path.stat().st_mode) & 0o077 in (0, 0o011)


def test_user_that_a_folder_above_keeps_out_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "closed" / "home"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    with pytest.raises(ConfigError) as caught:
        let_in(OTHER, home, home)
    assert str(caught.value) == (
        f"--user 'other': may not enter {str(home)!r}, where what it needs is; set EDGE_HOME to another folder"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_user_has_to_be_able_to_run_python(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'no module' >&2\nexit 1\n")
    program.chmod(0o755)
    root = Identity(0, 0, (0,), "root", "/root")
    with pytest.raises(ConfigError, match=r"--user 'root': cannot run .*python: no module; let that user read it and"):
        refuse_unable(root, str(program), {})
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ConfigError, match=r": cannot run .*python: exit code 3; let that user"):
        refuse_unable(root, str(program), {})
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigError, match=r"--user 'other': cannot run .*python: permission denied; let that user"):
        refuse_unable(OTHER, str(program), {})
    refuse_unable(root, sys.executable, clean_environment())
