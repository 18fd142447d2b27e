from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_certs.trust.stores.machine import Finished, Machine
from edge_certs.trust.toolsettings import Setting, is_switch, read_settings
from tests.certs.forge import ordinary_user


def machine(tree: Path, git: bytes | None, **environ: str) -> Machine:
    """A machine of files below `tree` whose git answers with `git`, or that has none."""

    def run(command: Sequence[str]) -> Finished:
        if git is None:
            raise FileNotFoundError(command[0])
        assert tuple(command[:2]) == ("git", "config")
        return Finished(0 if git else 1, git)

    return Machine(tree, tree / "home/me", "Linux", False, environ, run)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, []),
        (b"", []),
        (
            b"global\0http.sslcainfo\n/a b.pem\0",
            [Setting("git http.sslCAInfo", "/a b.pem", "git config --global --unset-all http.sslcainfo")],
        ),
        (
            b"system\0http.sslverify\nfalse\0local\0http.https://a.example.sslverify\nno\0global\0http.sslverify\ntrue\0",
            [
                Setting("git http.sslVerify", "false", "git config --system --unset-all http.sslverify"),
                Setting("git http.sslVerify", "no", "git config --local --unset-all http.https://a.example.sslverify"),
            ],
        ),
    ],
)
def test_git_is_asked_for_what_it_is_told(answer: bytes | None, expected: list[Setting], tmp_path: Path) -> None:
    assert [item for item in read_settings(machine(tmp_path, answer)) if item.name.startswith("git")] == expected


def test_pip_is_read_where_it_reads_itself_and_the_command_names_the_scope(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pip.conf").write_text("[global]\ncert = /c.pem\nproxy = http://me:50%@proxy\n")
    user = tmp_path / "home/me/.config/pip/pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[install]\ntrusted_host = a.example\n\tb.example\n[global]\ncert =\n")
    assert list(read_settings(machine(tmp_path, None))) == [
        Setting("pip cert", "/c.pem", f"{sys.executable} -m pip config --global unset global.cert"),
        Setting(
            "pip trusted-host",
            "a.example\nb.example",
            f"{sys.executable} -m pip config --user unset install.trusted-host",
        ),
    ]


def test_pip_that_reads_no_file_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pip.conf").write_text("[global]\ncert = /c.pem\n")
    assert list(read_settings(machine(tmp_path, None, PIP_CONFIG_FILE="/dev/null"))) == []


@pytest.mark.parametrize("content", [b"cert = /c.pem\n", b"\xff\xfe", b"[global]\ncert /c.pem\n"])
def test_file_that_pip_cannot_read_is_passed_over(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pip.conf").write_bytes(content)
    assert list(read_settings(machine(tmp_path, None))) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("git http.sslVerify", True), ("pip trusted-host", True), ("git http.sslCAInfo", False), ("pip cert", False)],
)
def test_switch_is_what_turns_verification_off(name: str, expected: bool) -> None:
    assert is_switch(Setting(name, "", "")) is expected


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("insecure", "curl insecure", "insecure"),
        (" --insecure", "curl insecure", "--insecure"),
        ("-k", "curl insecure", "-k"),
        ('cacert = "/a b.pem"', "curl cacert", "/a b.pem"),
        ("--cacert /c.pem", "curl cacert", "/c.pem"),
    ],
)
def test_curl_is_read_where_it_reads_itself_and_the_command_takes_the_line_out(
    line: str, name: str, value: str, tmp_path: Path
) -> None:
    home = tmp_path / "home/me"
    home.mkdir(parents=True)
    (home / ".curlrc").write_text(f"# insecure\nsilent\n{line}\ninsecure-not = 1\n")
    [setting] = read_settings(machine(tmp_path, None))
    assert (setting.name, setting.value, is_switch(setting)) == (name, value, name == "curl insecure")
    subprocess.run(["sh", "-c", setting.undo], check=True)
    assert (home / ".curlrc").read_text() == "# insecure\nsilent\ninsecure-not = 1\n"


def test_of_curls_files_the_first_that_is_there_counts(tmp_path: Path) -> None:
    (tmp_path / "home/me").mkdir(parents=True)
    (tmp_path / "home/me/.curlrc").write_text("insecure\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/curlrc").write_text("silent\n")
    assert list(read_settings(machine(tmp_path, None, XDG_CONFIG_HOME=str(tmp_path / "config")))) == []
    assert len(list(read_settings(machine(tmp_path, None, CURL_HOME=str(tmp_path / "gone"))))) == 1


def test_file_of_curl_that_is_closed_to_us_says_nothing(open_folder: Path) -> None:
    (open_folder / "home/me").mkdir(parents=True)
    (open_folder / "home/me/.curlrc").write_text("insecure\n")
    (open_folder / "home/me/.curlrc").chmod(0)
    with ordinary_user():
        assert list(read_settings(machine(open_folder, None))) == []
