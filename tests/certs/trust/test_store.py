from __future__ import annotations

import json
import multiprocessing
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError
from edge_certs.files import read_file
from edge_certs.trust import store as store_module
from edge_certs.trust.anchors import AnchorRefused, fingerprint
from edge_certs.trust.store import TrustStore, normal_fingerprint
from tests.certs.forge import AUTHORITY, NOW, forge, ordinary_user

ROOT = forge(extensions=[AUTHORITY]).certificate
OTHER = forge(extensions=[AUTHORITY]).certificate
LEAF = forge("www.corp.example", extensions=[x509.BasicConstraints(False, None)]).certificate
SHA256 = fingerprint(ROOT)


def files(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_nothing_was_added_and_reading_makes_no_folder(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "home")
    assert store.anchors() == store.select("corp") == store.remove("corp") == []
    assert list(tmp_path.iterdir()) == []


def test_root_that_was_added_is_listed_with_what_was_said_of_it(tmp_path: Path) -> None:
    [addition] = TrustStore(tmp_path).add([ROOT], "corp", NOW, "")
    assert addition.is_new
    assert [defect.code for defect in addition.defects] == [
        "basic-constraints-not-critical",
        "no-key-usage",
        "no-subject-key-identifier",
    ]
    [anchor] = TrustStore(tmp_path).anchors()
    assert anchor == addition.anchor
    assert (anchor.sha256, anchor.label, anchor.added_at, anchor.forced) == (SHA256, "corp", NOW, "")
    assert (tmp_path / f"trust/anchors/{SHA256}.pem").read_bytes() == anchor.pem


def test_files_and_folders_are_the_users_alone(tmp_path: Path) -> None:
    TrustStore(tmp_path).add([ROOT], "corp", NOW, "")
    made = list(tmp_path.rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o700}


def test_root_that_is_removed_while_the_state_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrustStore(tmp_path).add([ROOT, OTHER], "corp", NOW, "")

    def read_late(path: Path, what: str) -> bytes:
        content = read_file(path, what)
        if what == "trust state":
            # Another command, between the state and the files that it names.
            monkeypatch.setattr(store_module, "read_file", read_file)
            TrustStore(tmp_path).remove(SHA256)
        return content

    monkeypatch.setattr(store_module, "read_file", read_late)
    assert [anchor.sha256 for anchor in TrustStore(tmp_path).anchors()] == [fingerprint(OTHER)]


def test_adding_again_changes_nothing_and_keeps_the_first_label(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT], "corp", NOW, "")
    before = files(tmp_path)
    [addition] = store.add([ROOT], "another", NOW + timedelta(days=1), "")
    assert not addition.is_new
    assert addition.anchor.label == "corp"
    assert files(tmp_path) == before


def test_plan_says_what_add_would_do_and_does_nothing(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    assert [addition.is_new for addition in store.plan([ROOT], "corp", NOW, "")] == [True]
    assert files(tmp_path) == {}


def test_certificate_of_a_server_is_refused_and_nothing_of_its_file_is_added(tmp_path: Path) -> None:
    with pytest.raises(AnchorRefused, match=r"^'CN=Shop\.Example': not an authority's certificate \(CA:FALSE\)"):
        TrustStore(tmp_path).add([ROOT, LEAF], "corp", NOW, "")
    assert files(tmp_path) == {}


def test_refused_certificate_can_be_forced_with_a_reason_that_is_kept(tmp_path: Path) -> None:
    TrustStore(tmp_path).add([LEAF], "printer", NOW, "its firmware cannot do better")
    [anchor] = TrustStore(tmp_path).anchors()
    assert anchor.forced == "its firmware cannot do better"


@pytest.mark.parametrize(
    "name",
    [
        "corp",
        SHA256,
        SHA256[:8],
        SHA256.upper(),
        f"sha256:{SHA256}",
        ":".join(SHA256[i : i + 2] for i in range(0, 64, 2)),
    ],
    # The root is another one in each process: names of tests must not come of it.
    ids=["label", "fingerprint", "its beginning", "upper case", "with the algorithm", "with colons"],
)
def test_exactly_the_root_that_is_named_is_removed(name: str, tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([OTHER], "other", NOW, "")
    before = files(tmp_path)
    store.add([ROOT], "corp", NOW, "")
    assert [anchor.sha256 for anchor in store.remove(name)] == [SHA256]
    assert files(tmp_path) == before
    assert store.remove(name) == []
    assert files(tmp_path) == before


def test_label_of_a_bundle_removes_all_of_it(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT, OTHER], "corp", NOW, "")
    assert [anchor.certificate for anchor in store.remove("corp")] == [ROOT, OTHER]
    assert store.anchors() == []
    assert list((tmp_path / "trust/anchors").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["", SHA256[:7], "sha256:", "zz" + SHA256[2:], "corp2"],
    ids=["nothing", "too short", "algorithm alone", "not hexadecimal", "label begun alike"],
)
def test_name_of_nothing_removes_nothing(name: str, tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT], "corp", NOW, "")
    assert store.remove(name) == []
    assert len(store.anchors()) == 1


def test_fingerprint_that_fits_two_roots_is_refused(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT], "corp", NOW, "")
    rename_state(tmp_path, [SHA256, SHA256])
    with pytest.raises(CertificateError, match=r"fits 2 roots; give more of its digits"):
        store.remove(SHA256[:10])


def rename_state(home: Path, fingerprints: list[str]) -> None:
    path = home / "trust/state.json"
    state = json.loads(path.read_bytes())
    state["anchors"] = [{**state["anchors"][0], "sha256": item} for item in fingerprints]
    path.write_text(json.dumps(state))


@pytest.mark.parametrize("content", [None, b"", b"garbage", OTHER.public_bytes(Encoding.PEM)])
def test_file_of_a_root_that_is_not_what_was_added_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    TrustStore(tmp_path).add([ROOT], "corp", NOW, "")
    path = tmp_path / f"trust/anchors/{SHA256}.pem"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CertificateError, match=r"is missing or not what was added; restore it, or remove .*trust and"):
        TrustStore(tmp_path).anchors()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "damaged"),
        (b"[]", "damaged"),
        (b"{", "damaged"),
        (b'{"version": 1, "anchors": 7}', "damaged"),
        (b'{"version": 2, "anchors": []}', "of version 2, this edge reads 1"),
        (b'{"version": 1, "anchors": [1]}', "damaged"),
        (b'{"version": 1, "anchors": [{"sha256": ""}]}', "damaged"),
        (b'{"version": 1, "anchors": [{"sha256": "", "label": "", "added_at": "x", "forced": ""}]}', "damaged"),
    ],
)
def test_damaged_state_is_an_error_and_is_not_written_over(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "trust/state.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CertificateError) as caught:
        TrustStore(tmp_path).add([ROOT], "corp", NOW, "")
    assert str(caught.value) == f"trust state {path}: {found}; use the edge that wrote it, or restore the file"
    assert path.read_bytes() == content


def test_file_left_by_a_crash_before_the_state_is_not_trusted(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT], "corp", NOW, "")
    (tmp_path / "trust/anchors" / f"{fingerprint(OTHER)}.pem").write_bytes(b"whatever")
    assert [anchor.sha256 for anchor in store.anchors()] == [SHA256]
    store.add([OTHER], "other", NOW, "")
    assert [anchor.certificate for anchor in store.anchors()] == [ROOT, OTHER]


def test_folder_that_cannot_be_written_is_one_line_and_changes_nothing(open_folder: Path) -> None:
    store = TrustStore(open_folder)
    store.add([ROOT], "corp", NOW, "")
    before = files(open_folder)
    for path in open_folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o644)
    (open_folder / "locks/trust.lock").chmod(0o666)
    with ordinary_user():
        assert store.is_readable
        with pytest.raises(CertificateError, match="permission denied; give this user the right to write there"):
            store.add([OTHER], "other", NOW, "")
        with pytest.raises(CertificateError, match="permission denied; give this user the right to write there"):
            store.remove("corp")
    assert files(open_folder) == before


def test_file_of_a_root_that_cannot_be_removed_is_one_line_and_the_root_is_trusted_no_more(open_folder: Path) -> None:
    store = TrustStore(open_folder)
    store.add([ROOT], "corp", NOW, "")
    for path in open_folder.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (open_folder / "trust/anchors").chmod(0o555)
    with ordinary_user(), pytest.raises(CertificateError, match=r"cannot remove .*\.pem: permission denied; give"):
        store.remove("corp")
    assert store.anchors() == []


def test_folder_that_is_closed_to_this_user_is_told_from_an_empty_one(open_folder: Path) -> None:
    store = TrustStore(open_folder)
    store.add([ROOT], "corp", NOW, "")
    with ordinary_user():
        assert not store.is_readable
        with pytest.raises(CertificateError, match="permission denied; let user"):
            store.anchors()


def test_file_in_the_place_of_the_folder_holds_no_roots(tmp_path: Path) -> None:
    (tmp_path / "trust").write_text("")
    assert TrustStore(tmp_path).is_readable
    assert TrustStore(tmp_path).anchors() == []


def add_number(home: Path, number: int) -> None:
    certificate = forge(extensions=[AUTHORITY]).certificate
    TrustStore(home).add([certificate], f"root {number}", NOW, "")


def test_processes_that_add_at_once_all_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_number, args=(tmp_path, number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert {anchor.label for anchor in TrustStore(tmp_path).anchors()} == {f"root {number}" for number in range(6)}


@pytest.mark.parametrize(
    ("text", "digits"), [("SHA256:AB:cd", "abcd"), ("ab cd", "abcd"), ("", ""), ("corp", ""), ("sha1:ab", "")]
)
def test_fingerprint_is_read_as_people_write_it(text: str, digits: str) -> None:
    assert normal_fingerprint(text) == digits
