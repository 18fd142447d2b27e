from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.installations import Installations, Status, find_presences, find_trusting, plan_install, root_of
from edge_certs.trust.store import TrustStore
from edge_certs.trust.stores.anchor_folder import AnchorFolder
from edge_certs.trust.stores.debian import LAYOUT, debian
from edge_certs.trust.stores.docker import DockerRegistry
from edge_certs.trust.stores.machine import Finished, Machine
from edge_certs.trust.stores.macos import KEYCHAIN, MacKeychain
from edge_certs.trust.stores.place import Root
from tests.certs.forge import AUTHORITY, NOW, child_environment, forge, ordinary_user
from tests.certs.trust.stores.recording import Answer, Recording, machine, make_root

CRASH = Path(__file__).with_name("crash.py")
FORGED = forge(extensions=[AUTHORITY])
REGISTRY = "/etc/docker/certs.d/registry.corp.example"
EMPTY_STATE = {"listed": 0, "recorded": [], "installed": [], "bundled": 0, "leftovers": []}
FULL_STATE = {"listed": 1, "recorded": [True], "installed": [True], "bundled": 1, "leftovers": []}


@pytest.fixture
def on(tmp_path: Path) -> Machine:
    return machine(tmp_path / "tree", Recording({}))


@pytest.fixture
def record(tmp_path: Path) -> Installations:
    return Installations(tmp_path / "home")


def test_root_is_installed_once_and_removed_once(on: Machine, record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    place = DockerRegistry(on, REGISTRY)
    assert len(plan_install(root, place)) == 1
    assert record.install(root, place, on, NOW) is Status.INSTALLED
    [entry] = record.of(root.sha256)
    assert (entry.target, entry.kind, entry.location, entry.at, entry.complete) == (
        "docker",
        "docker",
        REGISTRY,
        NOW,
        True,
    )
    assert plan_install(root, place) == []
    assert record.install(root, place, on, NOW) is Status.UNCHANGED
    assert record.remove(root, place, on) is Status.REMOVED
    assert record.remove(root, place, on) is Status.UNCHANGED
    assert record.all() == []
    assert not place.trusts(root)


def test_installation_that_was_interrupted_is_completed(on: Machine, record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    place = DockerRegistry(on, REGISTRY)
    record.install(root, place, on, NOW)
    path = tmp_path / "home/trust/installed.json"
    path.write_text(path.read_text().replace("true", "false"))
    assert record.install(root, place, on, NOW) is Status.INSTALLED
    assert [entry.complete for entry in record.all()] == [True]


def test_root_that_somebody_else_installed_is_not_ours_to_remove(
    on: Machine, record: Installations, tmp_path: Path
) -> None:
    root = make_root(tmp_path)
    place = DockerRegistry(on, REGISTRY)
    theirs = on.path(REGISTRY) / "ca.crt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(root.pem)
    assert record.install(root, place, on, NOW) is Status.OTHERS
    assert record.remove(root, place, on) is Status.UNCHANGED
    assert theirs.read_bytes() == root.pem
    assert not (tmp_path / "home/trust").exists()


def test_removal_says_when_the_root_is_trusted_still(on: Machine, record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    place = DockerRegistry(on, REGISTRY)
    record.install(root, place, on, NOW)
    (on.path(REGISTRY) / "ca.crt").write_bytes(root.pem)
    assert record.remove(root, place, on) is Status.STILL_TRUSTED
    assert find_trusting(root, on)[0].location == REGISTRY


def test_removal_of_what_somebody_has_removed_already_ends_well(
    on: Machine, record: Installations, tmp_path: Path
) -> None:
    root = make_root(tmp_path)
    place = DockerRegistry(on, REGISTRY)
    record.install(root, place, on, NOW)
    for path in on.path(REGISTRY).iterdir():
        path.unlink()
    assert record.remove(root, place, on) is Status.REMOVED


def system(tree: Path, answer: Answer | list[Answer]) -> tuple[AnchorFolder, Machine]:
    (tree / "etc/ssl/certs").mkdir(parents=True)
    (tree / LAYOUT.bundle[0].lstrip("/")).write_bytes(FORGED.pem)
    on = machine(tree, Recording({"update-ca-certificates": answer}))
    return debian(on), on


def test_failure_is_undone(record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    place, on = system(tmp_path / "tree", Answer(Finished(1, errors=b"E: disk full")))
    with pytest.raises(
        CertificateError, match=r"^system /usr/local/share/ca-certificates: command .*E: disk full; run it"
    ):
        record.install(root, place, on, NOW)
    assert not place.holds(root)
    assert record.all() == []


def test_success_that_makes_nobody_trust_the_root_is_a_failure(record: Installations, tmp_path: Path) -> None:
    """As update-ca-certificates does with DER under a name that ends with .crt: "1 added", and no more."""
    root = make_root(tmp_path)
    place, on = system(tmp_path / "tree", Answer(Finished(0, b"1 added, 0 removed; done.")))
    with pytest.raises(CertificateError, match=r"it does not trust the root, though each step succeeded"):
        record.install(root, place, on, NOW)
    assert not place.holds(root)
    assert record.all() == []


def test_failure_that_cannot_be_undone_stays_on_record(record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    place, on = system(tmp_path / "tree", Answer(Finished(1)))
    folder = tmp_path / "tree/usr/local/share/ca-certificates"
    # A folder in the file's place: neither writing nor removing it succeeds.
    (folder / f"{root.name}.crt").mkdir(parents=True)
    with pytest.raises(CertificateError, match=r"cannot write .*: is a directory"):
        record.install(root, place, on, NOW)
    assert [entry.complete for entry in record.all()] == [False]


def test_removal_that_fails_keeps_the_entry(record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    tree = tmp_path / "tree"

    def trust() -> None:
        (tree / LAYOUT.bundle[0].lstrip("/")).write_bytes(FORGED.pem + root.pem)

    place, on = system(tree, [Answer(effect=trust), Answer(Finished(1, errors=b"E: no")), Answer()])
    record.install(root, place, on, NOW)
    with pytest.raises(CertificateError, match=r"^system .*: command 'update-ca-certificates': exit code 1: E: no"):
        record.remove(root, place, on)
    assert [entry.complete for entry in record.all()] == [False]
    assert record.remove(root, place, on) is Status.STILL_TRUSTED


def test_removal_after_which_the_root_is_there_still_is_a_failure(record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    find = f"security find-certificate -a -p {KEYCHAIN}"
    add = f"security add-trusted-cert -d -r trustRoot -k {KEYCHAIN} {root.file}"
    verify = f"security verify-cert -L -l -c {root.file} -p ssl -k {KEYCHAIN}"
    distrust = f"security remove-trusted-cert -d {root.file}"
    delete = f"security delete-certificate -Z {root.sha1.upper()} {KEYCHAIN}"
    there = Answer(Finished(0, root.pem))
    answers: dict[str, Answer | list[Answer]] = dict.fromkeys((add, verify, distrust, delete), Answer())
    on = machine(tmp_path, Recording(answers | {find: [Answer(), there]}), system="Darwin")
    place = MacKeychain(on)
    assert record.install(root, place, on, NOW) is Status.INSTALLED
    with pytest.raises(CertificateError, match=r"^system /Library/.*: it has the root still, though each step succ"):
        record.remove(root, place, on)
    assert [entry.complete for entry in record.all()] == [False]


def test_presences_are_ours_and_then_those_of_others(on: Machine, record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    record.install(root, DockerRegistry(on, REGISTRY), on, NOW)
    gone = DockerRegistry(on, "/etc/docker/certs.d/gone.example")
    record.install(root, gone, on, NOW)
    (on.path(gone.location) / f"{root.name}.crt").unlink()
    other = on.path("/etc/docker/certs.d/other.example/ca.crt")
    other.parent.mkdir()
    other.write_bytes(root.pem)
    found = [
        (item.location.rpartition("/")[2], item.is_ours, item.is_trusted) for item in find_presences(root, record, on)
    ]
    assert found == [
        ("registry.corp.example", True, True),
        ("gone.example", True, False),
        ("other.example", False, True),
    ]


def test_place_that_cannot_be_looked_into_is_not_said_to_trust(record: Installations, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    _, on = system(tmp_path / "tree", Answer())
    (tmp_path / "tree/etc/os-release").write_text("ID=debian\n")
    (tmp_path / "tree" / LAYOUT.bundle[0].lstrip("/")).unlink()
    assert find_trusting(root, on) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"version": 1, "installations": [{}]}', "of version 1, this edge reads 1"),
        ('{"version": 1, "installations": [7]}', "damaged"),
        ('{"version": 2, "installations": []}', "of version 2, this edge reads 1"),
    ],
)
def test_damaged_record_is_one_line(content: str, found: str, record: Installations, tmp_path: Path) -> None:
    path = tmp_path / "home/trust/installed.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(CertificateError, match=f"record of installations .*: {found}; use the edge that wrote it"):
        record.all()


def test_record_of_another_user_is_one_line(on: Machine, record: Installations, tmp_path: Path) -> None:
    record.install(make_root(tmp_path), DockerRegistry(on, REGISTRY), on, NOW)
    with ordinary_user(), pytest.raises(CertificateError, match=r"record of installations .*: permission denied; let"):
        record.all()


def test_root_as_stores_take_it_is_the_one_that_was_added(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    [addition] = store.add([FORGED.certificate], "corp", NOW, "")
    root: Root = root_of(addition.anchor, store)
    assert (root.sha256, root.pem, root.file.read_bytes()) == (addition.anchor.sha256, FORGED.pem, FORGED.pem)


def crash(change: str, folder: Path) -> list[dict[str, Any]]:
    (folder / "root.pem").write_bytes(FORGED.pem)
    done = subprocess.run(
        [sys.executable, str(CRASH), change, str(folder)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("change", "end"), [("add", FULL_STATE), ("remove", EMPTY_STATE)])
def test_kill_at_any_point_leaves_what_can_be_read_seen_and_ended(
    change: str, end: dict[str, Any], tmp_path: Path
) -> None:
    points = crash(change, tmp_path)
    assert len(points) > 10
    assert [point["killed"] for point in points] == [True] * (len(points) - 1) + [False]
    assert points[-1]["found"] == end
    seen = set()
    for point in points[:-1]:
        found = point["found"]
        seen.update(found["leftovers"])
        # Whole or not there, never a part; and nothing is installed that no record knows.
        assert all(found["installed"])
        assert len(found["installed"]) <= len(found["recorded"]) <= found["listed"]
        # What is not as complete commands leave it is said to be so.
        assert found["leftovers"] or found["recorded"] in ([], [True])
        assert point["mended"]["leftovers"] == []
        assert point["again"] == end
    assert seen >= {"a write that was interrupted", "installing or removing a root in docker was interrupted"}
