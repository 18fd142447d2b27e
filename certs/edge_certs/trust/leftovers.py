"""What a crash in the middle of `edge trust` left behind. None of it is trusted; all of it can be removed."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from edge_certs.files import abandoned_writes
from edge_certs.trust.store import TrustStore


@dataclass(frozen=True, slots=True)
class Leftover:
    """`path` is what lies there or was half done, `text` says what it is (one line), `command` mends it in a shell."""

    path: Path
    text: str
    command: str


def leftovers(home: Path) -> list[Leftover]:
    """Return what interrupted commands left under the home folder, sorted by its path; empty is what is right.

    Reads only, and takes no lock: while another command adds a root, that one may be shown for a moment.

    Raises CertificateError: the store is damaged or not ours to read.
    """
    store = TrustStore(home)
    folders = (store.folder, store.folder / "anchors")
    found = [
        _removable(path, "a write that was interrupted") for folder in folders for path in abandoned_writes(folder)
    ]
    listed = {f"{anchor.sha256}.pem" for anchor in store.anchors()}
    for path in _files(store.folder / "anchors"):
        if path.name not in listed and path.suffix == ".pem":
            found.append(_removable(path, "a root that is not listed, and so not trusted"))
    return sorted(found, key=lambda item: item.path)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if os.path.isdir(folder) else []


def _removable(path: Path, text: str) -> Leftover:
    return Leftover(path, text, f"rm {shlex.quote(str(path))}")
