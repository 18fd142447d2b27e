from __future__ import annotations

from pathlib import Path

import pytest

from edge.key_files import KeyFile, look_at_key
from edge_certs.errors import CertificateError
from tests.certs.forge import ordinary_user

COPY = "serve a copy that this user owns with mode 600, or start as root with --user"
GROUP = "chmod 600, or serve a copy with that mode where the group needs this one"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o610, 0o620, 0o000])
@pytest.mark.parametrize("is_ours", [True, False])
def test_key_that_its_owner_alone_may_read_is_as_it_should_be(mode: int, is_ours: bool) -> None:
    assert KeyFile("a.key", mode, "root", is_ours).exposure == ""


@pytest.mark.parametrize(
    ("mode", "is_ours", "said"),
    [
        (0o644, True, "mode 644, everybody may read it; chmod 600"),
        (0o604, True, "mode 604, everybody may read it; chmod 600"),
        (0o640, True, f"mode 640, group 'ssl-cert' may read it; {GROUP}"),
        (0o440, True, f"mode 440, group 'ssl-cert' may read it; {GROUP}"),
        (0o640, False, f"mode 640, group 'ssl-cert' may read it; {COPY}"),
        (0o044, False, f"mode 044, everybody may read it; {COPY}"),
    ],
)
def test_who_else_may_read_a_key_is_said_with_what_to_do(mode: int, is_ours: bool, said: str) -> None:
    assert KeyFile("a.key", mode, "ssl-cert", is_ours).exposure == f"key a.key: {said}"


def test_file_is_looked_at_through_links(tmp_path: Path) -> None:
    (tmp_path / "a.key").touch(0o600)
    (tmp_path / "a.key").chmod(0o640)
    (tmp_path / "live.key").symlink_to("a.key")
    found = look_at_key(tmp_path / "live.key")
    assert (found.place, found.mode, found.is_ours) == (str(tmp_path / "live.key"), 0o640, True)


def test_file_of_another_user_is_not_ours() -> None:
    with ordinary_user():
        found = look_at_key(Path("/etc/passwd"))
    assert (found.is_ours, found.mode, found.group) == (False, 0o644, "root")


def test_group_without_a_name_is_told_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.key").touch()
    monkeypatch.setattr("grp.getgrgid", lambda number: {}[number])
    assert look_at_key(tmp_path / "a.key").group == str((tmp_path / "a.key").stat().st_gid)


def test_key_that_has_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"^key .*a\.key: no such file or directory; name a file"):
        look_at_key(tmp_path / "a.key")
