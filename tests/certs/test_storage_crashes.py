"""What is on the disk after a crash, on a full disk, in a closed folder, and after many bad days."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge_certs.csr import generate_key
from edge_certs.errors import CertificateError
from edge_certs.issuance import MAX_ERROR
from edge_certs.ledger import MAX_ATTEMPTS, Attempt, Ledger, Outcome
from edge_certs.storage import KEPT_VERSIONS, MAX_ORDER_FAILURES, SavedOrder, Storage
from tests.certs.forge import NOW, forge, ordinary_user

DIRECTORY = "https://ca.example/acme/directory"
NAME = "shop.example"
KEY = generate_key()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "home")


def install(storage: Storage) -> None:
    leaf = forge(NAME)
    storage.lineage(NAME).install(leaf.pem, leaf.key_pem)


def test_link_that_a_crash_left_before_it_was_renamed_is_no_certificate(storage: Storage) -> None:
    install(storage)
    (storage.home / "live" / f".{NAME}.tmp").symlink_to("../archive/nowhere")
    assert [lineage.name for lineage in storage.lineages()] == [NAME]
    install(storage)
    assert not os.path.lexists(storage.home / "live" / f".{NAME}.tmp")


def test_version_that_a_full_disk_left_half_written_takes_no_place(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk does it: the first files are there, then there is no room."""
    install(storage)
    lineage = storage.lineage(NAME)
    before = lineage.version_folder()
    written: list[int] = []

    def fail(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(KEPT_VERSIONS + 1):
        written.clear()
        with pytest.raises(CertificateError, match=r"no space left on device; make room there, or set EDGE_HOME"):
            install(storage)
    monkeypatch.undo()
    assert lineage.version_folder() == before
    assert os.listdir(storage.home / "archive" / NAME) == ["0001"]
    install(storage)
    assert sorted(os.listdir(storage.home / "archive" / NAME)) == ["0001", "0002"]


def test_order_that_is_in_the_way_is_forgotten(storage: Storage) -> None:
    lineage = storage.lineage(NAME)
    lineage.blame_order()
    made = SavedOrder(DIRECTORY, '{"url": "https://ca.example/order/1"}', KEY)
    lineage.save_order(made)
    for failures in range(1, MAX_ORDER_FAILURES):
        lineage.blame_order()
        assert lineage.order() == replace(made, failures=failures)
    lineage.blame_order()
    assert lineage.order() is None
    # One that was never made is in nobody's way.
    asked = replace(made, saved='{"url": null}')
    lineage.save_order(asked)
    lineage.blame_order()
    assert lineage.order() == asked


def test_order_that_cannot_be_removed_is_said(storage: Storage) -> None:
    lineage = storage.lineage(NAME)
    lineage.save_order(SavedOrder(DIRECTORY, "{}", KEY))
    (storage.home / "orders" / NAME).chmod(0o500)
    with (
        ordinary_user(),
        pytest.raises(CertificateError, match=r"^cannot remove .*order\.json: permission den"),
    ):
        lineage.drop_order()


def test_files_half_written_are_swept_and_others_are_not(storage: Storage) -> None:
    install(storage)
    folder = storage.home / "archive" / NAME / "0001"
    left = folder / ".privkey.pem.abcd1234.tmp"
    left.write_bytes(KEY)
    (folder / "notes.tmp").write_text("mine")
    with open(folder / ".cert.pem.wxyz9876.tmp", "wb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        storage.sweep(NOW)
        assert not left.exists()
        assert sorted(path.name for path in folder.iterdir() if path.suffix == ".tmp") == [
            ".cert.pem.wxyz9876.tmp",
            "notes.tmp",
        ]


def test_ledger_of_many_long_attempts_is_read(storage: Storage) -> None:
    """Of a hundred names each, refused with the longest line: it stops nothing."""
    names = tuple(f"{'x' * 60}.{number}.example" for number in range(100))
    folder = storage.authority(DIRECTORY)
    attempts = [Attempt(NOW, names, Outcome.FAILED, error="\N{PILE OF POO}" * MAX_ERROR)] * MAX_ATTEMPTS
    folder.amend(lambda ledger: Ledger(tuple(attempts)))
    assert len(folder.ledger().attempts) == MAX_ATTEMPTS
