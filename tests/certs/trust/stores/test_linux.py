"""The systems that cannot be run here, over a tree of files and a recording of their commands.

Debian's is here for its rules; that its command does as the recording says is shown for real in tests/process.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.stores.alpine import REFRESH
from edge_certs.trust.stores.machine import Finished, Machine
from edge_certs.trust.stores.place import Place, Root
from edge_certs.trust.stores.steps import describe, perform
from edge_certs.trust.stores.targets import find_places, open_place
from tests.certs.forge import AUTHORITY, forge
from tests.certs.trust.stores.recording import Answer, Recording, machine, make_root

PUBLIC = forge(extensions=[AUTHORITY]).pem

# os-release, folder and suffix, the command, the bundle that it makes: reference is each system's own manual.
SYSTEMS = {
    "debian": (
        'NAME="Debian GNU/Linux"\nID=debian\n',
        "/usr/local/share/ca-certificates/{name}.crt",
        "update-ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
    ),
    "ubuntu": (
        "ID=ubuntu\nID_LIKE=debian\n",
        "/usr/local/share/ca-certificates/{name}.crt",
        "update-ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
    ),
    "mint": (
        'ID=linuxmint\nID_LIKE="ubuntu debian"\n',
        "/usr/local/share/ca-certificates/{name}.crt",
        "update-ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
    ),
    "alpine": (
        "ID=alpine\n",
        "/usr/local/share/ca-certificates/{name}.crt",
        "update-ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
    ),
    "fedora": (
        "ID=fedora\n",
        "/etc/pki/ca-trust/source/anchors/{name}.pem",
        "update-ca-trust extract",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ),
    "rocky": (
        'ID="rocky"\nID_LIKE="rhel centos fedora"\n',
        "/etc/pki/ca-trust/source/anchors/{name}.pem",
        "update-ca-trust extract",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ),
    "arch": (
        "ID=arch\n",
        "/etc/ca-certificates/trust-source/anchors/{name}.crt",
        "trust extract-compat",
        "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    ),
    "tumbleweed": (
        'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n',
        "/etc/pki/trust/anchors/{name}.pem",
        "update-ca-certificates",
        "/var/lib/ca-certificates/ca-bundle.pem",
    ),
    "sles": (
        'ID="sles"\nID_LIKE="suse"\n',
        "/etc/pki/trust/anchors/{name}.pem",
        "update-ca-certificates",
        "/var/lib/ca-certificates/ca-bundle.pem",
    ),
}


def write(tree: Path, name: str, content: bytes) -> Path:
    path = tree / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def system(tree: Path, name: str, *, code: int = 0, is_root: bool = True) -> tuple[Machine, Recording]:
    """Return the machine with its command, which makes the bundle of all files in its folder."""
    release, file, command, bundle = SYSTEMS[name]
    write(tree, "/etc/os-release", release.encode())
    write(tree, bundle, PUBLIC)
    if name == "alpine":
        write(tree, REFRESH, b"")

    def refresh() -> None:
        folder = (tree / file.lstrip("/")).parent
        write(tree, bundle, PUBLIC + b"".join(path.read_bytes() for path in sorted(folder.glob("*"))))

    answer = Answer(Finished(code, errors=b"E: it broke\n"), refresh if code == 0 else lambda: None)
    recording = Recording({command: answer})
    return machine(tree, recording, is_root=is_root), recording


def install(place: Place, root: Root, on: Machine) -> None:
    for step in place.installing(root):
        perform(step, on)


def remove(place: Place, root: Root, on: Machine) -> None:
    for step in place.removing(root):
        perform(step, on)


@pytest.mark.parametrize("name", SYSTEMS)
def test_root_is_a_file_of_its_own_and_then_in_the_bundle_and_removed_without_a_trace(
    name: str, tmp_path: Path
) -> None:
    root = make_root(tmp_path)
    on, recording = system(tmp_path, name)
    _, file, command, bundle = SYSTEMS[name]
    [place] = find_places("system", on)
    assert (place.target, place.is_personal, place.needs_root) == ("system", False, False)
    assert not place.trusts(root)
    path = tmp_path / file.format(name=root.name).lstrip("/")
    assert [describe(step) for step in place.installing(root)] == [f"write {path}", f"run {command}"]
    install(place, root, on)
    assert path.read_bytes() == root.pem
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert (place.trusts(root), place.holds(root)) == (True, True)
    remove(open_place(place.kind, place.location, on), root, on)
    assert (place.trusts(root), place.holds(root)) == (False, False)
    assert (tmp_path / bundle.lstrip("/")).read_bytes() == PUBLIC
    assert recording.ran == [command, command]


@pytest.mark.parametrize("name", SYSTEMS)
def test_only_root_may_change_it(name: str, tmp_path: Path) -> None:
    on, _ = system(tmp_path, name, is_root=False)
    [place] = find_places("system", on)
    assert place.needs_root


def test_folders_are_readable_whatever_the_umask_is(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    on, _ = system(tmp_path, "fedora")
    before = os.umask(0o077)
    try:
        [place] = find_places("system", on)
        install(place, root, on)
    finally:
        os.umask(before)
    folder = tmp_path / "etc/pki/ca-trust/source/anchors"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent, *folder.iterdir())] == [0o755, 0o755, 0o644]


def test_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    on, _ = system(tmp_path, "debian", code=1)
    [place] = find_places("system", on)
    with pytest.raises(
        CertificateError, match=r"command 'update-ca-certificates': exit code 1: E: it broke; run it by hand"
    ):
        install(place, root, on)


def test_command_that_is_missing_says_its_package(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    on, recording = system(tmp_path, "debian")
    recording.answers.clear()
    [place] = find_places("system", on)
    with pytest.raises(CertificateError, match=r"'update-ca-certificates': not found; install it: ca-certificates"):
        install(place, root, on)


def test_bare_alpine_has_the_root_in_the_bundle_itself(tmp_path: Path) -> None:
    """The base image has a bundle and no command: `apk add` needs the root before there can be one."""
    root, other = make_root(tmp_path), make_root(tmp_path)
    write(tmp_path, "/etc/os-release", b"ID=alpine\n")
    bundle = write(tmp_path, "/etc/ssl/certs/ca-certificates.crt", PUBLIC)
    recording = Recording({})
    on = machine(tmp_path, recording)
    [place] = find_places("system", on)
    install(place, root, on)
    install(place, other, on)
    assert bundle.read_bytes() == PUBLIC + root.pem + other.pem
    assert (place.trusts(root), place.holds(root)) == (True, True)
    assert (tmp_path / f"usr/local/share/ca-certificates/{root.name}.crt").read_bytes() == root.pem
    remove(open_place("alpine", place.location, on), root, on)
    assert (place.trusts(root), place.holds(root)) == (False, False)
    assert bundle.read_bytes() == PUBLIC + other.pem
    assert recording.ran == []


def test_bare_alpine_closes_a_line_that_is_open(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    write(tmp_path, "/etc/os-release", b"ID=alpine\n")
    bundle = write(tmp_path, "/etc/ssl/cert.pem", PUBLIC.rstrip())
    on = machine(tmp_path, Recording({}), is_root=False)
    [place] = find_places("system", on)
    assert place.needs_root
    install(place, root, on)
    assert bundle.read_bytes() == PUBLIC + root.pem


def test_system_without_a_bundle_says_what_to_install(tmp_path: Path) -> None:
    write(tmp_path, "/etc/os-release", b"ID=fedora\n")
    [place] = find_places("system", machine(tmp_path, Recording({})))
    with pytest.raises(CertificateError, match=r"this system's roots: no file /etc/pki/.*; install ca-certificates"):
        place.trusts(make_root(tmp_path))


@pytest.mark.parametrize(("release", "shown"), [("ID=nixos\n", "nixos"), ("# empty\n", "Linux"), ("", "Linux")])
def test_unknown_system_is_refused_with_the_way_out(release: str, shown: str, tmp_path: Path) -> None:
    write(tmp_path, "/etc/os-release", release.encode())
    with pytest.raises(CertificateError, match=f"system: '{shown}' is not a system whose store is known; install the"):
        find_places("system", machine(tmp_path, Recording({})))


def test_place_of_a_later_edge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"store of kind 'plan9': not known to this edge"):
        open_place("plan9", "/", machine(tmp_path, Recording({})))
