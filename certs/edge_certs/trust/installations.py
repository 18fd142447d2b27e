"""Which root was installed where: `EDGE_HOME/trust/installed.json`, and what installs and removes.

An entry is written, as not complete, before a store is touched, and completed or taken out after it was looked at
again. So whatever a crash leaves, the entry says where; and doing the same again, or removing, ends well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import locked, read_file, write_private
from edge_certs.trust.store import Anchor, TrustStore
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Place, Root
from edge_certs.trust.stores.steps import Step, perform
from edge_certs.trust.stores.targets import TARGETS, find_places, open_place

VERSION = 1
# A system's command may take this long, and two of ours wait for one another.
LOCK_TIMEOUT = 120.0
KEYS = frozenset({"sha256", "target", "kind", "location", "at", "complete"})


@dataclass(frozen=True, slots=True)
class Installation:
    """A root in a place, put there by us; not `complete` when it was interrupted. `at` is in UTC."""

    sha256: str
    target: str
    kind: str
    location: str
    at: datetime
    complete: bool


class Status(Enum):
    """What installing or removing found, and did."""

    INSTALLED = "installed"
    UNCHANGED = "unchanged"
    # Trusted before, and not by us: it is not ours to remove.
    OTHERS = "there already, and not by edge"
    REMOVED = "removed"
    # What we installed is removed; somebody else's copy of the same root is not.
    STILL_TRUSTED = "removed, and trusted still: somebody else installed it, too"


@dataclass(frozen=True, slots=True)
class Presence:
    """A place of a root: whether we installed it there, and whether it is trusted there now."""

    target: str
    location: str
    is_ours: bool
    is_trusted: bool


class Installations:
    """The record under a home folder. Reading makes no folder; writing is safe from several processes at once."""

    def __init__(self, home: Path) -> None:
        self._path = home / "trust" / "installed.json"
        self._lock = home / "locks" / "trust-stores.lock"

    def all(self) -> list[Installation]:
        """Return every installation, in the order in which they were made.

        Raises CertificateError: the record is damaged, or not ours to read.
        """
        # A folder that is closed to us is no empty record: reading it says what is wrong.
        with suppress(PermissionError):
            if not self._path.exists():
                return []
        content = read_file(self._path, "record of installations")
        with naming(f"record of installations {place(self._path)}"):
            return _parse(content)

    def of(self, sha256: str) -> list[Installation]:
        """Return where the root with this fingerprint was installed; raises as `all`."""
        return [item for item in self.all() if item.sha256 == sha256]

    def install(self, root: Root, where: Place, machine: Machine, now: datetime) -> Status:
        """Install `root` and look whether it is trusted then; a failure is undone.

        Raises CertificateError: a step failed, the root is not trusted after all, or as `all`.
        """
        entry = Installation(root.sha256, where.target, where.kind, where.location, now, complete=False)
        with locked(self._lock, LOCK_TIMEOUT):
            known = next((item for item in self.of(root.sha256) if _is_at(item, where)), None)
            if where.trusts(root):
                return self._found(known)
            self._put(entry)
            try:
                _perform(where.installing(root), machine)
                if not where.trusts(root):
                    raise CertificateError("it does not trust the root, though each step succeeded", "run them by hand")
            except CertificateError as error:
                self._undo(entry, root, where, machine)
                raise CertificateError(f"{where.target} {where.location}: {error.found}", error.advice) from error
            self._put(replace(entry, complete=True))
        return Status.INSTALLED

    def remove(self, root: Root, where: Place, machine: Machine) -> Status:
        """Remove `root` from where the record says that we installed it; from anywhere else, do nothing.

        Raises CertificateError: a step failed, it is there still, or as `all`; the entry remains then.
        """
        with locked(self._lock, LOCK_TIMEOUT), naming(f"{where.target} {where.location}"):
            entry = next((item for item in self.of(root.sha256) if _is_at(item, where)), None)
            if entry is None:
                return Status.UNCHANGED
            self._put(replace(entry, complete=False))
            _perform(where.removing(root), machine)
            if where.holds(root):
                raise CertificateError("it has the root still, though each step succeeded", "run them by hand")
            self._drop(entry)
            return Status.STILL_TRUSTED if where.trusts(root) else Status.REMOVED

    def _found(self, known: Installation | None) -> Status:
        if known is None:
            return Status.OTHERS
        if known.complete:
            return Status.UNCHANGED
        # Interrupted when all was done but this.
        self._put(replace(known, complete=True))
        return Status.INSTALLED

    def _undo(self, entry: Installation, root: Root, where: Place, machine: Machine) -> None:
        """Leave the entry when it cannot be undone: doctor shows it, and remove tries again."""
        with suppress(CertificateError):
            for step in where.removing(root):
                with suppress(CertificateError):
                    perform(step, machine)
            if not where.holds(root):
                self._drop(entry)

    def _put(self, entry: Installation) -> None:
        self._write([*(item for item in self.all() if not _same(item, entry)), entry])

    def _drop(self, entry: Installation) -> None:
        self._write([item for item in self.all() if not _same(item, entry)])

    def _write(self, entries: Sequence[Installation]) -> None:
        rows = [
            {
                "sha256": item.sha256,
                "target": item.target,
                "kind": item.kind,
                "location": item.location,
                "at": item.at.isoformat(timespec="seconds"),
                "complete": item.complete,
            }
            for item in entries
        ]
        write_private(self._path, json.dumps({"version": VERSION, "installations": rows}, indent=1).encode() + b"\n")


def root_of(anchor: Anchor, store: TrustStore) -> Root:
    """Return `anchor`, a root of `store`, as stores take it."""
    certificate = anchor.certificate
    return Root(
        anchor.sha256,
        # Names a certificate to systems that know it by nothing else; proves nothing.
        certificate.fingerprint(SHA1()).hex(),
        certificate.public_bytes(Encoding.DER),
        anchor.pem,
        store.path_of(anchor.sha256),
    )


def plan_install(root: Root, where: Place) -> list[Step]:
    """Return the steps by which `Installations.install` would install `root`; none when it is trusted already.

    Raises CertificateError: it cannot be known.
    """
    return [] if where.trusts(root) else list(where.installing(root))


def find_trusting(root: Root, machine: Machine) -> list[Place]:
    """Return the places of `machine` that trust `root`; those that cannot be looked into are left out."""
    found: list[Place] = []
    for target in TARGETS:
        with suppress(CertificateError):
            found += [where for where in find_places(target, machine) if _trusts(where, root)]
    return found


def find_presences(root: Root, record: Installations, machine: Machine) -> list[Presence]:
    """Return where `root` was installed from here, there still or not, and then where else it is trusted.

    Raises CertificateError: the record is damaged.
    """
    entries = record.of(root.sha256)
    ours = [(entry, open_place(entry.kind, entry.location, machine)) for entry in entries]
    others = [where for where in find_trusting(root, machine) if not any(_is_at(entry, where) for entry in entries)]
    return [
        *(
            Presence(entry.target, entry.location, is_ours=True, is_trusted=_trusts(where, root))
            for entry, where in ours
        ),
        *(Presence(where.target, where.location, is_ours=False, is_trusted=True) for where in others),
    ]


def _trusts(where: Place, root: Root) -> bool:
    """False also when nobody can tell, as without the tool that would."""
    with suppress(CertificateError):
        return where.trusts(root)
    return False


def _is_at(entry: Installation, where: Place) -> bool:
    return (entry.kind, entry.location) == (where.kind, where.location)


def _perform(steps: Sequence[Step], machine: Machine) -> None:
    for step in steps:
        perform(step, machine)


def _same(one: Installation, other: Installation) -> bool:
    return (one.sha256, one.kind, one.location) == (other.sha256, other.kind, other.location)


def _parse(content: bytes) -> list[Installation]:
    advice = "use the edge that wrote it, or restore the file"
    try:
        record = json.loads(content)
        version, rows = record["version"], record["installations"]
        if version == VERSION and all(row.keys() >= KEYS for row in rows):
            return [_installation(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CertificateError("damaged", advice) from None
    raise CertificateError(f"of version {version!r}, this edge reads {VERSION}", advice)


def _installation(row: dict[str, Any]) -> Installation:
    texts = {name: str(row[name]) for name in ("sha256", "target", "kind", "location")}
    return Installation(**texts, at=datetime.fromisoformat(row["at"]), complete=row["complete"] is True)
