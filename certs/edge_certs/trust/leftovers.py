"""What a crash in the middle of `edge trust` left behind: what it is, and the command that ends what was begun."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from edge_certs.files import abandoned_writes
from edge_certs.trust.installations import Installation, Installations
from edge_certs.trust.store import TrustStore
from edge_certs.trust.stores.place import NAME_DIGITS


@dataclass(frozen=True, slots=True)
class Leftover:
    """`path` is what lies there or was half done, `text` says what it is (one line), `command` mends it in a shell."""

    path: Path
    text: str
    command: str


def leftovers(home: Path, tree: Path = Path("/")) -> list[Leftover]:
    """Return what interrupted commands left under the home folder and in stores, sorted by its path.

    Empty is what is right. `tree` is where the stores' machine has its files. Reads only, and takes no lock: while
    another command adds a root, that one may be shown for a moment.

    Raises CertificateError: the store or the record is damaged or not ours to read.
    """
    store = TrustStore(home)
    entries = Installations(home).all()
    folders = {store.folder, store.folder / "anchors", *(_folder(entry, tree) for entry in entries)}
    found = [
        _removable(path, "a write that was interrupted") for folder in folders for path in abandoned_writes(folder)
    ]
    listed = {f"{anchor.sha256}.pem" for anchor in store.anchors()}
    for path in _files(store.folder / "anchors"):
        if path.name not in listed and path.suffix == ".pem":
            found.append(_removable(path, "a root that is not listed, and so not trusted"))
    found += [_interrupted(entry) for entry in entries if not entry.complete]
    return sorted(found, key=lambda item: item.path)


def _folder(entry: Installation, tree: Path) -> Path:
    """A location is a folder or, for Java, a file or a link to one."""
    location = (tree / entry.location.lstrip("/")).resolve()
    return location if location.is_dir() else location.parent


def _interrupted(entry: Installation) -> Leftover:
    text = f"installing or removing a root in {entry.target} was interrupted"
    command = f"edge trust remove {entry.sha256[:NAME_DIGITS]} --from {entry.target}"
    return Leftover(Path(entry.location), text, command)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if os.path.isdir(folder) else []


def _removable(path: Path, text: str) -> Leftover:
    return Leftover(path, text, f"rm {shlex.quote(str(path))}")
