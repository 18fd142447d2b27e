from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.stores import machine as module
from edge_certs.trust.stores.machine import Finished, Machine, package_advice, run_command, this_machine


def with_runner(run: object) -> Machine:
    assert callable(run)
    return Machine(Path("/"), Path("/"), "Linux", False, {}, run)


def test_this_machine_is_seen_as_its_user_sees_it() -> None:
    found = this_machine({"HOME": "/home/alice", "SUDO_USER": "alice"})
    assert (found.tree, found.home, found.sudo_user) == (Path("/"), Path("/home/alice"), "alice")
    assert found.is_root == (os.geteuid() == 0)
    assert found.system == os.uname().sysname


def test_sudo_by_root_is_none_and_home_is_the_accounts_without_a_variable() -> None:
    found = this_machine({"SUDO_USER": "root"})
    assert (found.sudo_user, found.home) == ("", Path(os.path.expanduser("~")))


def test_command_runs_in_the_c_locale_without_a_terminal() -> None:
    program = 'read line || echo "end $LC_ALL"; echo oops >&2; exit 3'
    assert run_command(["sh", "-c", program]) == Finished(3, b"end C\n", b"oops\n")


def test_commands_of_the_system_are_found_without_a_path_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for root after su(1), whose PATH is still the user's."""
    monkeypatch.delenv("PATH")
    monkeypatch.setattr(module, "SYSTEM_FOLDERS", ("/nosuch", "/usr/bin", "/bin"))
    assert run_command(["true"]).code == 0


def test_command_that_is_missing_says_its_package() -> None:
    with pytest.raises(
        CertificateError, match=r"command './no such': not found; install it: it belongs to this system"
    ):
        with_runner(run_command).run(["./no such"])


def test_command_that_may_not_be_run_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.touch(mode=0o644)
    with pytest.raises(CertificateError, match=r"command '.*tool': permission denied; look at its mode and PATH"):
        with_runner(run_command).run([str(path)])


def test_command_that_hangs_is_given_up() -> None:
    def hang(command: Sequence[str]) -> Finished:
        raise subprocess.TimeoutExpired(list(command), 120)

    with pytest.raises(CertificateError, match=r"command 'update now': did not end within 120 s; run it by hand"):
        with_runner(hang).run(["update", "now"])


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        (Finished(1), "it said nothing"),
        (Finished(1, b"on standard output\n", b" \n"), "on standard output"),
        (Finished(1, b"out", b"\nfirst\nsecond"), "first"),
        (Finished(1, b"", b"\x1b[31mred"), "'\\x1b[31mred'"),
        (Finished(1, b"", b"x" * 400), "x" * 300),
    ],
)
def test_failure_is_one_line_of_what_the_command_said(finished: Finished, said: str) -> None:
    with pytest.raises(CertificateError) as caught:
        with_runner(lambda command: finished).require(["tool"])
    assert str(caught.value) == f"command 'tool': exit code 1: {said}; run it by hand"


def test_file_that_cannot_be_read_is_empty_text(tmp_path: Path) -> None:
    on = Machine(tmp_path, tmp_path, "Linux", False, {}, run_command)
    (tmp_path / "etc").mkdir()
    assert (on.text("/etc/os-release"), on.text("/etc")) == ("", "")


@pytest.mark.parametrize("command", ["certutil", "keytool", "update-ca-certificates", "update-ca-trust", "trust"])
def test_command_of_a_package_has_advice(command: str) -> None:
    assert package_advice(command) != package_advice("nosuch")
