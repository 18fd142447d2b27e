"""Java's keystores with the real keytool, on stores that it made for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.stores.java import PASSWORD, JavaKeystore, java_places
from edge_certs.trust.stores.machine import Finished, Machine, run_command
from edge_certs.trust.stores.steps import describe, perform
from edge_certs.trust.stores.targets import find_places, open_place
from tests.certs.forge import ordinary_user
from tests.certs.trust.stores.recording import Answer, Recording, machine, make_root

needs_keytool = pytest.mark.skipif(shutil.which("keytool") is None, reason="needs keytool of default-jre-headless")


@pytest.fixture
def on(tmp_path: Path) -> Machine:
    """A runtime out of this machine's keytool, and a keystore of its own."""
    environ = {"JAVA_HOME": str(tmp_path / "java"), "PATH": "/nosuch"}
    return Machine(tmp_path / "tree", tmp_path, "Linux", True, environ, run_command)


def make_keystore(path: Path, kind: str, first: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["keytool", "-importcert", "-noprompt", "-alias", "public", "-file", str(first), "-storetype", kind]
    command += ["-keystore", str(path), "-storepass", PASSWORD]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    path.chmod(0o644)


@needs_keytool
@pytest.mark.parametrize("kind", ["JKS", "PKCS12"])
def test_root_goes_into_the_runtimes_keystore_and_out_of_it(kind: str, on: Machine, tmp_path: Path) -> None:
    public, root = make_root(tmp_path), make_root(tmp_path)
    keystore = tmp_path / "etc/cacerts"
    make_keystore(keystore, kind, public.file)
    link = tmp_path / "java/lib/security/cacerts"
    link.parent.mkdir(parents=True)
    link.symlink_to(keystore)
    [place] = find_places("java", on)
    assert (place.location, place.needs_root, place.is_personal) == (str(link), False, False)
    assert (place.trusts(public), place.trusts(root)) == (True, False)
    for step in place.installing(root):
        perform(step, on)
    assert (place.trusts(root), place.holds(root), place.trusts(public)) == (True, True, True)
    assert link.is_symlink()
    assert keystore.stat().st_mode & 0o777 == 0o644
    for step in open_place("java", place.location, on).removing(root):
        perform(step, on)
    assert (place.trusts(root), place.holds(root), place.trusts(public)) == (False, False, True)
    assert list(place.removing(root)) == []
    assert [path.name for path in keystore.parent.iterdir()] == ["cacerts"]


@needs_keytool
def test_root_that_somebody_else_added_is_trusted_and_not_ours(on: Machine, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    make_keystore(tmp_path / "cacerts", "JKS", root.file)
    place = JavaKeystore(on, str(tmp_path / "cacerts"))
    assert (place.trusts(root), place.holds(root), list(place.removing(root))) == (True, False, [])


@needs_keytool
def test_keystore_with_another_password_is_an_error_and_unchanged(on: Machine, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    keystore = tmp_path / "cacerts"
    make_keystore(keystore, "PKCS12", make_root(tmp_path).file)
    change = ["keytool", "-storepasswd", "-new", "another", "-keystore", str(keystore), "-storepass", PASSWORD]
    subprocess.run(change, check=True, capture_output=True, timeout=60)
    before = keystore.read_bytes()
    place = JavaKeystore(on, str(keystore))
    with pytest.raises(CertificateError, match=r"exit code 1: .*password was incorrect"):
        perform(place.installing(root)[0], on)
    assert keystore.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []
    with pytest.raises(CertificateError, match=r"Java keystore .*password was incorrect; repair it, or reinstall Java"):
        place.trusts(root)


def runtime(folder: Path, name: str = "lib/security/cacerts") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xfe\xed\xfe\xed")
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/keytool").touch(mode=0o755)
    return path


def test_runtimes_are_found_once_each_wherever_they_are(tmp_path: Path) -> None:
    chosen = runtime(tmp_path / "chosen")
    in_path = runtime(tmp_path / "in-path", "jre/lib/security/cacerts")
    package = runtime(tmp_path / "usr/lib/jvm/java-21")
    (tmp_path / "usr/lib/jvm/default").symlink_to("java-21")
    mac = runtime(tmp_path / "Library/Java/JavaVirtualMachines/a.jdk/Contents/Home")
    environ = {"JAVA_HOME": str(tmp_path / "chosen"), "PATH": str(tmp_path / "in-path/bin")}
    found = java_places(machine(tmp_path, Recording({}), environ))
    assert [place.location for place in found] == [str(path) for path in (chosen, in_path, package, mac)]


@pytest.mark.parametrize("name", ["lib/security/cacerts", "jre/lib/security/cacerts"])
def test_keytool_is_the_runtimes_own(name: str, tmp_path: Path) -> None:
    location = runtime(tmp_path / "java", name)
    root = make_root(tmp_path)
    [step] = JavaKeystore(machine(tmp_path, Recording({})), str(location)).installing(root)
    assert describe(step) == (
        f"run {tmp_path}/java/bin/keytool -importcert -noprompt -trustcacerts -alias {root.name} -file {root.file}"
        f" -keystore {location} -storepass changeit"
    )


def test_machine_without_java_says_so(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"java: no runtime with a cacerts file; set JAVA_HOME to its folder"):
        find_places("java", machine(tmp_path, Recording({}), {"PATH": "/nosuch"}))


def test_keystore_of_a_runtime_that_was_removed_trusts_nothing(tmp_path: Path) -> None:
    place = JavaKeystore(machine(tmp_path, Recording({})), str(tmp_path / "java/lib/security/cacerts"))
    root = make_root(tmp_path)
    assert (place.trusts(root), place.holds(root), list(place.removing(root))) == (False, False, [])


def test_keystore_of_root_needs_root(tmp_path: Path) -> None:
    place = JavaKeystore(machine(tmp_path, Recording({})), str(runtime(tmp_path / "java")))
    assert not place.needs_root
    os.chmod(tmp_path / "java/lib/security", 0o555)
    with ordinary_user():
        assert place.needs_root


def test_keystore_that_is_closed_to_this_user_is_an_error(tmp_path: Path) -> None:
    location = runtime(tmp_path / "java")
    location.unlink()
    location.mkdir()
    with pytest.raises(CertificateError, match=r"Java keystore .*: is a directory; let this user read it"):
        JavaKeystore(machine(tmp_path, Recording({})), str(location)).trusts(make_root(tmp_path))


def test_answer_without_certificates_means_that_there_are_none(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    keystore = tmp_path / "cacerts"
    keystore.write_bytes(root.der)
    asked = f"keytool -list -rfc -keystore {keystore} -storepass changeit"
    on = machine(tmp_path, Recording({asked: Answer(Finished(0, b"Your keystore contains 0 entries\n"))}))
    assert not JavaKeystore(on, str(keystore)).trusts(root)
