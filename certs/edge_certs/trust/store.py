"""The roots that this user added: `EDGE_HOME/trust/anchors/<sha256>.pem`, and `state.json`, which says which count.

The state is the truth: it is written after the files it names and before those it no longer names are removed, so a
crash leaves a file too many, never a root that is trusted and not listed or listed and not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError, naming, place, reason
from edge_certs.files import WRITE_ADVICE, locked, read_file, write_private
from edge_certs.trust.anchors import AnchorRefused, fingerprint, parse_anchors
from edge_certs.trust.defects import Defect, Severity, find_defects

VERSION = 1

# Fewer digits of a fingerprint could be a label, and a typing error could meet another root.
MIN_FINGERPRINT = 8


@dataclass(frozen=True, slots=True)
class Anchor:
    """A root that was added. `added_at` is in UTC; `forced` is the reason given for one with refusing defects."""

    sha256: str
    label: str
    added_at: datetime
    forced: str
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Addition:
    """What adding one certificate does: `is_new` is False when it is there already, and nothing changes then."""

    anchor: Anchor
    is_new: bool
    defects: tuple[Defect, ...]


class TrustStore:
    """The roots under a home folder. Reading makes no folder; writing is safe from several processes at once."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "trust"
        self._state = self.folder / "state.json"
        self._lock = home / "locks" / "trust.lock"

    @property
    def is_readable(self) -> bool:
        """False when a folder on the way is closed to this user, and so it cannot be told whether a root was added."""
        try:
            os.stat(self._state)
        except PermissionError:
            return False
        except OSError:
            return True
        return True

    def anchors(self) -> list[Anchor]:
        """Return the roots in the order in which they were added.

        Raises CertificateError: the state or a root's file is missing in part, damaged, or not ours to read.
        """
        content = self._read_state()
        while content is not None:
            try:
                with naming(f"trust state {place(self._state)}"):
                    return [self._anchor(entry) for entry in _entries(content)]
            except CertificateError:
                # A root that it names may have been removed since, by a command that runs beside us.
                before, content = content, self._read_state()
                if content == before:
                    raise
        return []

    def plan(self, certificates: Sequence[x509.Certificate], label: str, now: datetime, forced: str) -> list[Addition]:
        """Return what `add` would do with the same arguments; `now` is in UTC, `forced` empty or a reason.

        Raises AnchorRefused: one of them has a refusing defect and no reason is given; CertificateError: as `anchors`.
        """
        known = {anchor.sha256: anchor for anchor in self.anchors()}
        return [_addition(certificate, known, (label, now, forced)) for certificate in certificates]

    def add(self, certificates: Sequence[x509.Certificate], label: str, now: datetime, forced: str) -> list[Addition]:
        """Add `certificates`, all or none, under `label`, and return what was done.

        Raises AnchorRefused, CertificateError: as `plan`, or the folder cannot be written; nothing is added then.
        """
        # Before the lock: what is refused makes no folder.
        planned = self.plan(certificates, label, now, forced)
        if not any(addition.is_new for addition in planned):
            return planned
        with locked(self._lock):
            additions = self.plan(certificates, label, now, forced)
            new = [addition.anchor for addition in additions if addition.is_new]
            for anchor in new:
                write_private(self.path_of(anchor.sha256), anchor.pem)
            self._write([*self.anchors(), *new])
        return additions

    def select(self, name: str) -> list[Anchor]:
        """Return the roots that have `name` as their label, or the one whose fingerprint begins with it.

        A fingerprint may have colons and `sha256:` before it, and is of at least 8 digits.

        Raises CertificateError: the fingerprint fits several roots, or as `anchors`.
        """
        anchors = self.anchors()
        labelled = [anchor for anchor in anchors if anchor.label == name]
        if labelled:
            return labelled
        digits = normal_fingerprint(name)
        if len(digits) < MIN_FINGERPRINT:
            return []
        found = [anchor for anchor in anchors if anchor.sha256.startswith(digits)]
        if len(found) > 1:
            raise CertificateError(f"fingerprint {name!r}: fits {len(found)} roots", "give more of its digits")
        return found

    def remove(self, name: str) -> list[Anchor]:
        """Remove what `select` finds for `name`, exactly that, and return it.

        Raises CertificateError: as `select`, or the folder cannot be written.
        """
        if not self.select(name):
            return []
        with locked(self._lock):
            removed = self.select(name)
            gone = {anchor.sha256 for anchor in removed}
            self._write([anchor for anchor in self.anchors() if anchor.sha256 not in gone])
            for sha256 in gone:
                _remove_file(self.path_of(sha256))
        return removed

    def _read_state(self) -> bytes | None:
        """None when nothing was ever added."""
        if self.is_readable and not os.path.lexists(self._state):
            return None
        return read_file(self._state, "trust state")

    def _anchor(self, entry: dict[str, str]) -> Anchor:
        sha256 = entry["sha256"]
        path = self.path_of(sha256)
        certificate = _stored_certificate(path, sha256)
        if certificate is None:
            raise CertificateError(
                f"root {place(path)} is missing or not what was added",
                f"restore it, or remove {place(self.folder)} and add the roots again",
            )
        return Anchor(sha256, entry["label"], datetime.fromisoformat(entry["added_at"]), entry["forced"], certificate)

    def path_of(self, sha256: str) -> Path:
        """Return the file that holds the root with this fingerprint, or would hold it."""
        return self.folder / "anchors" / f"{sha256}.pem"

    def _write(self, anchors: Sequence[Anchor]) -> None:
        entries = [
            {
                "sha256": anchor.sha256,
                "label": anchor.label,
                "added_at": anchor.added_at.isoformat(timespec="seconds"),
                "forced": anchor.forced,
                "subject": anchor.certificate.subject.rfc4514_string(),
            }
            for anchor in anchors
        ]
        write_private(self._state, json.dumps({"version": VERSION, "anchors": entries}, indent=1).encode() + b"\n")


def normal_fingerprint(text: str) -> str:
    """Return a fingerprint as digits in lower case, without colons and `sha256:`; empty if `text` is none."""
    digits = text.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    return digits if set(digits) <= set("0123456789abcdef") else ""


def _entries(content: bytes) -> list[dict[str, str]]:
    """The version comes first: a later one may hold what we would lose by writing it again."""
    advice = "use the edge that wrote it, or restore the file"
    try:
        state = json.loads(content)
        version = state["version"]
        if version == VERSION:
            return [_entry(row) for row in state["anchors"]]
    except (ValueError, KeyError, TypeError):
        raise CertificateError("damaged", advice) from None
    raise CertificateError(f"of version {version!r}, this edge reads {VERSION}", advice)


def _entry(row: dict[str, str]) -> dict[str, str]:
    """Raises ValueError, KeyError, TypeError: something is missing, or the date is none."""
    datetime.fromisoformat(row["added_at"])
    return {name: str(row[name]) for name in ("sha256", "label", "added_at", "forced")}


def _stored_certificate(path: Path, sha256: str) -> x509.Certificate | None:
    """None when it is not the certificate that was added: nobody else's is trusted because it lies there."""
    if not os.path.lexists(path):
        return None
    content = read_file(path, "root")
    try:
        [certificate] = parse_anchors(content)
    except (AnchorRefused, ValueError):
        return None
    return certificate if fingerprint(certificate) == sha256 else None


def _addition(certificate: x509.Certificate, known: dict[str, Anchor], how: tuple[str, datetime, str]) -> Addition:
    label, now, forced = how
    sha256 = fingerprint(certificate)
    defects = tuple(find_defects(certificate, now))
    if sha256 in known:
        return Addition(known[sha256], is_new=False, defects=defects)
    refusing = [defect.text for defect in defects if defect.severity is Severity.REFUSES]
    if refusing and not forced:
        subject = certificate.subject.rfc4514_string()
        raise AnchorRefused(
            f"{subject!r}: {' and '.join(refusing)}", "name the root's certificate; --force REASON adds this one anyway"
        )
    return Addition(Anchor(sha256, label, now, forced, certificate), is_new=True, defects=defects)


def _remove_file(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CertificateError(f"cannot remove {place(path)}: {reason(error)}", WRITE_ADVICE) from error
