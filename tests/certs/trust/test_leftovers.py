from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from edge_certs.files import abandoned_writes, write_private
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


@pytest.mark.parametrize("is_file", [False, True])
def test_installation_that_was_interrupted_is_a_leftover_and_so_is_what_it_was_writing(
    is_file: bool, tmp_path: Path
) -> None:
    """A location is a folder, or the file that Java has."""
    home, tree = tmp_path / "home", tmp_path / "tree"
    [addition] = TrustStore(home).add([ROOT.certificate], "corp", NOW, "")
    location = tree / "etc/java/cacerts"
    (location if not is_file else location.parent).mkdir(parents=True)
    temporary = (location.parent if is_file else location) / ".cacerts.abcd1234.tmp"
    temporary.touch()
    sha256 = addition.anchor.sha256
    entry = {"sha256": sha256, "target": "java", "kind": "java", "location": "/etc/java/cacerts"}
    rows = [{**entry, "at": NOW.isoformat(), "complete": complete} for complete in (False, True)]
    write_private(home / "trust/installed.json", json.dumps({"version": 1, "installations": rows}).encode())
    interrupted, write = leftovers(home, tree)
    assert (interrupted.path, interrupted.command) == (
        Path("/etc/java/cacerts"),
        f"edge trust remove {sha256[:16]} --from java",
    )
    assert interrupted.text == "installing or removing a root in java was interrupted"
    assert (write.path, write.text) == (temporary, "a write that was interrupted")
