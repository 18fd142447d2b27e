from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from edge_certs.files import abandoned_writes
from edge_certs.trust.leftovers import leftovers
from edge_certs.trust.store import TrustStore
from tests.certs.forge import AUTHORITY, NOW, forge

ROOT = forge(extensions=[AUTHORITY])


def test_store_without_roots_has_no_leftovers(tmp_path: Path) -> None:
    assert leftovers(tmp_path) == []


def test_store_as_add_leaves_it_has_no_leftovers(tmp_path: Path) -> None:
    TrustStore(tmp_path).add([ROOT.certificate], "corp", NOW, "")
    assert leftovers(tmp_path) == []


def test_root_that_is_not_listed_is_a_leftover_and_its_command_mends_it(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT.certificate], "corp", NOW, "")
    orphan = store.folder / "anchors" / f"{'0' * 64}.pem"
    orphan.write_bytes(ROOT.pem)
    [found] = leftovers(tmp_path)
    assert (found.path, found.text) == (orphan, "a root that is not listed, and so not trusted")
    subprocess.run(shlex.split(found.command), check=True)
    assert leftovers(tmp_path) == []


def test_files_of_others_are_no_leftovers(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add([ROOT.certificate], "corp", NOW, "")
    for name in ("README", ".hidden", "notes.tmp", ".state.json.swp"):
        (store.folder / "anchors" / name).touch()
    assert leftovers(tmp_path) == []


def test_folder_that_is_not_there_has_no_abandoned_writes(tmp_path: Path) -> None:
    assert abandoned_writes(tmp_path / "nosuch") == []
