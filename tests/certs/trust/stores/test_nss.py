"""NSS databases with the real certutil, in a home folder of their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.installations import Installations
from edge_certs.trust.stores.machine import Finished, Machine, run_command
from edge_certs.trust.stores.nss import DATABASE, NssDatabase, chromium_places
from edge_certs.trust.stores.place import Place, Root
from edge_certs.trust.stores.steps import perform
from edge_certs.trust.stores.targets import find_places, open_place
from tests.certs.forge import NOW
from tests.certs.trust.stores.recording import Answer, Recording, machine, make_root

needs_certutil = pytest.mark.skipif(shutil.which("certutil") is None, reason="needs certutil of libnss3-tools")


@pytest.fixture
def on(tmp_path: Path) -> Machine:
    """This machine's certutil, somebody else's home."""
    return Machine(Path("/"), tmp_path / "home", "Linux", False, {}, run_command)


def certutil(folder: Path, *arguments: str) -> str:
    command = ["certutil", arguments[0], "-d", f"sql:{folder}", *arguments[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def names(folder: Path) -> list[str]:
    return [line.split()[0] for line in certutil(folder, "-L").splitlines() if ",," in line]


def make_database(folder: Path) -> Path:
    folder.mkdir(parents=True)
    certutil(folder, "-N", "--empty-password")
    return folder


def install(place: Place, root: Root, on: Machine) -> None:
    for step in place.installing(root):
        perform(step, on)


def remove(place: Place, root: Root, on: Machine) -> None:
    for step in place.removing(root):
        perform(step, on)


@needs_certutil
def test_database_that_is_not_there_is_made_for_its_user_alone(on: Machine, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    [place] = find_places("nss", on)
    folder = on.home / ".local/share/pki/nssdb"
    assert (place.location, place.is_personal, place.needs_root) == (str(folder), True, False)
    assert not place.trusts(root)
    install(place, root, on)
    assert (place.trusts(root), place.holds(root)) == (True, True)
    assert names(folder) == [root.name]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not (on.home / ".pki").exists()


@needs_certutil
def test_of_two_roots_with_one_subject_exactly_the_one_is_removed(on: Machine, tmp_path: Path) -> None:
    """NSS gives certificates of one subject to whoever asks by either of their names."""
    first, second = make_root(tmp_path), make_root(tmp_path)
    place = NssDatabase(on, str(make_database(tmp_path / "db")))
    install(place, first, on)
    install(place, second, on)
    remove(open_place("nss", place.location, on), first, on)
    assert (place.trusts(first), place.trusts(second)) == (False, True)
    remove(place, second, on)
    assert names(tmp_path / "db") == []
    assert list(place.removing(second)) == []


@needs_certutil
def test_root_under_another_name_is_found_and_counts_only_if_it_is_trusted(on: Machine, tmp_path: Path) -> None:
    root, distrusted = make_root(tmp_path), make_root(tmp_path)
    folder = make_database(tmp_path / "db")
    certutil(folder, "-A", "-a", "-t", "CT,C,C", "-n", "by the user", "-i", str(root.file))
    certutil(folder, "-A", "-a", "-t", ",,", "-n", "not trusted", "-i", str(distrusted.file))
    place = NssDatabase(on, str(folder))
    assert (place.trusts(root), place.holds(root)) == (True, True)
    assert (place.trusts(distrusted), place.holds(distrusted)) == (False, True)


@pytest.mark.parametrize(
    ("folders", "environ", "expected"),
    [
        ([], {}, ".local/share/pki/nssdb"),
        ([".local/share/pki/nssdb"], {}, ".local/share/pki/nssdb"),
        # Even an empty one hides the other.
        ([".pki/nssdb", ".local/share/pki/nssdb"], {}, ".pki/nssdb"),
        ([], {"XDG_DATA_HOME": "/data"}, "/data/pki/nssdb"),
        ([".pki/nssdb"], {"XDG_DATA_HOME": "/data"}, ".pki/nssdb"),
        # The XDG base directory specification: a relative path is to be ignored.
        ([], {"XDG_DATA_HOME": "data"}, ".local/share/pki/nssdb"),
    ],
)
def test_database_of_chromium_is_the_one_that_it_reads(
    folders: list[str], environ: dict[str, str], expected: str, tmp_path: Path
) -> None:
    where = machine(tmp_path, Recording({}), environ)
    for folder in folders:
        (where.home / folder).mkdir(parents=True)
    assert [place.location for place in chromium_places(where)] == [str(where.home / expected)]


def test_snap_of_chromium_has_one_of_its_own(tmp_path: Path) -> None:
    where = machine(tmp_path, Recording({}))
    (where.home / "snap/chromium/current").mkdir(parents=True)
    assert [place.location for place in chromium_places(where)] == [
        str(where.home / ".local/share/pki/nssdb"),
        str(where.home / "snap/chromium/current/.pki/nssdb"),
    ]


@pytest.mark.parametrize("target", ["nss", "firefox"])
def test_machine_without_certutil_says_its_package(target: str, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"command 'certutil': not found; install it: libnss3-tools"):
        find_places(target, machine(tmp_path, Recording({})))


@pytest.mark.parametrize("target", ["nss", "firefox"])
def test_user_without_a_home_has_no_browser(target: str, tmp_path: Path) -> None:
    on = Machine(tmp_path, Path("~"), "Linux", False, {}, Recording({}))
    with pytest.raises(CertificateError, match=r": this user has no home folder; set HOME"):
        find_places(target, on)


@needs_certutil
def test_database_with_a_password_is_an_error_and_as_it_was(on: Machine, tmp_path: Path) -> None:
    """As Firefox's with a primary password: certutil stores the certificate, and then asks before it trusts it."""
    folder = tmp_path / "db"
    folder.mkdir()
    (tmp_path / "password").write_text("secret")
    certutil(folder, "-N", "-f", str(tmp_path / "password"))
    root, place = make_root(tmp_path), NssDatabase(on, str(folder))
    record = Installations(tmp_path / "record")
    with pytest.raises(
        CertificateError, match=r"^nss .*db: command 'certutil -A .*': exit code \d+: .*; run it by hand"
    ):
        record.install(root, place, on, NOW)
    assert (place.holds(root), record.all()) == (False, [])


def test_damaged_database_is_one_line(on: Machine, tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database, but long enough to look like a file of one" * 20)
    with pytest.raises(CertificateError, match=r"NSS database .*cert9.db: file is not a database; close the browser"):
        NssDatabase(on, str(tmp_path)).trusts(make_root(tmp_path))


PROFILES = [
    ".mozilla/firefox/abc.default-release",
    ".config/mozilla/firefox/def.default",
    "snap/firefox/common/.mozilla/firefox/ghi.default",
    ".var/app/org.mozilla.firefox/.mozilla/firefox/jkl.default",
    ".var/app/org.mozilla.firefox/config/mozilla/firefox/mno.default",
]


def test_profiles_of_firefox_are_those_with_a_database_in_every_place_it_is_packaged_for(tmp_path: Path) -> None:
    where = machine(tmp_path, Recording({"certutil -H": Answer(Finished(0))}))
    for name in PROFILES:
        (where.home / name).mkdir(parents=True)
        (where.home / name / DATABASE).touch()
    (where.home / ".mozilla/firefox/Crash Reports").mkdir()
    places = find_places("firefox", where)
    assert {place.location for place in places} == {str(where.home / name) for name in PROFILES}
    assert {(place.target, place.kind) for place in places} == {("firefox", "firefox")}


def test_profiles_of_firefox_follow_xdg(tmp_path: Path) -> None:
    where = machine(
        tmp_path, Recording({"certutil -H": Answer(Finished(0))}), {"XDG_CONFIG_HOME": f"{tmp_path}/config"}
    )
    profile = tmp_path / "config/mozilla/firefox/a.default"
    profile.mkdir(parents=True)
    (profile / DATABASE).touch()
    assert [place.location for place in find_places("firefox", where)] == [str(profile)]


def test_firefox_that_was_never_started_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"firefox: no profile in any of its folders; start Firefox once"):
        find_places("firefox", machine(tmp_path, Recording({"certutil -H": Answer(Finished(0))})))


@needs_certutil
def test_root_goes_into_a_profile_of_firefox_and_out_of_it(on: Machine, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    make_database(on.home / ".mozilla/firefox/abc.default")
    [place] = find_places("firefox", on)
    install(place, root, on)
    assert place.trusts(root)
    remove(open_place("firefox", place.location, on), root, on)
    assert not place.holds(root)
