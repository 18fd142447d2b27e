"""Doctor over a tree of files; tests/process/test_trust_doctor.py is about the machine that it runs on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_certs.trust.doctor import Report, Store, examine
from edge_certs.trust.store import TrustStore
from edge_certs.trust.stores.machine import Finished, Machine
from tests.certs.forge import AUTHORITY, NOW, child_environment, forge, ordinary_user

ROOT = forge(extensions=[AUTHORITY])
DEBIAN = 'PRETTY_NAME="Debian"\nID=debian\n'


def run(command: Sequence[str]) -> Finished:
    raise FileNotFoundError(command[0])


def report(tree: Path, **environ: str) -> Report:
    machine = Machine(tree, tree / "home", "Linux", True, {**child_environment(), **environ}, run)
    return examine(machine, tree / "edge", NOW, lambda bundle: "")


def codes(found: Report) -> list[str]:
    # Without the hook, certifi answers for itself.
    return [item.code for item in found.findings if item.code != "certifi-hook-not-active"]


def write(tree: Path, path: str, content: bytes) -> None:
    file = tree / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def test_machine_without_roots_is_told_what_brings_them(tmp_path: Path) -> None:
    write(tmp_path, "/etc/os-release", DEBIAN.encode())
    [finding] = [item for item in report(tmp_path).findings if item.code == "no-system-roots"]
    assert finding.command == "apt-get install --yes --reinstall ca-certificates"


@pytest.mark.parametrize("release", ["", "ID=plan9\n"])
def test_machine_that_is_not_known_has_no_such_command(release: str, tmp_path: Path) -> None:
    if release:
        write(tmp_path, "/etc/os-release", release.encode())
    [finding] = [item for item in report(tmp_path).findings if item.code == "no-system-roots"]
    assert finding.command == ""


def test_administrators_files_are_found_in_folders_below_too(tmp_path: Path) -> None:
    write(tmp_path, "/etc/os-release", DEBIAN.encode())
    write(tmp_path, "/usr/local/share/ca-certificates/corp/root.pem", ROOT.pem)
    write(tmp_path, "/usr/local/share/ca-certificates/.hidden.crt", b"")
    found = report(tmp_path)
    assert "local-name-ignored" in codes(found)
    [local] = [place for place in found.places if place.name == "local"]
    assert local.path == f"{tmp_path}/usr/local/share/ca-certificates/corp/root.pem"


def test_stores_are_asked_for_what_was_added(tmp_path: Path) -> None:
    write(tmp_path, "/etc/os-release", DEBIAN.encode())
    write(tmp_path, "/etc/ssl/certs/ca-certificates.crt", ROOT.pem)
    assert report(tmp_path).stores == ()
    TrustStore(tmp_path / "edge").add([ROOT.certificate], "corp", NOW, "")
    # Where there is a JAVA_HOME, it is asked too.
    assert Store("system", "/usr/local/share/ca-certificates", 1) in report(tmp_path).stores


def test_folder_of_edge_that_is_closed_to_this_user_is_named(open_folder: Path) -> None:
    TrustStore(open_folder / "edge").add([ROOT.certificate], "corp", NOW, "")
    os.chmod(open_folder / "edge", 0o700)
    # What Python imports later, that user may not be able to read.
    assert "store-closed" not in codes(report(open_folder))
    with ordinary_user():
        found = codes(report(open_folder))
    if os.geteuid() == 0:
        assert "store-closed" in found
    assert "store-damaged" not in found


def test_python_that_does_not_start_is_named(tmp_path: Path) -> None:
    [finding] = [
        item for item in report(tmp_path, PYTHONHOME="/nosuch", PYTHONPATH="").findings if item.code == "no-worker"
    ]
    assert finding.text.startswith("a worker's Python does not start: ")
