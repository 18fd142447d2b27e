"""Files of roots that one server trusts for as long as it runs: judged as by `edge trust add`, and kept nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import naming, place
from edge_certs.files import read_file
from edge_certs.trust.anchors import AnchorRefused, parse_anchors
from edge_certs.trust.bundle import Source, find_unusable
from edge_certs.trust.defects import Defect, Severity, find_defects

WHAT = "outbound CA"

# From this one on, Python refuses what roots with strict defects signed.
STRICT_PYTHON = (3, 13)


@dataclass(frozen=True, slots=True)
class RootFile:
    """What a file holds: the certificates, whose they are, and what is wrong with them that leaves them of use."""

    source: Source
    subjects: tuple[str, ...]
    remarks: tuple[str, ...]


def read_root_files(paths: Sequence[Path], now: datetime) -> tuple[RootFile, ...]:
    """Return what is in the files; `now` is in UTC.

    Raises CertificateError: one cannot be read, holds a private key or no certificate, or one that no client takes for
    a root at `now`.
    """
    return tuple(_read(path, now) for path in paths)


def _read(path: Path, now: datetime) -> RootFile:
    content = read_file(path, WHAT)
    with naming(f"{WHAT} {place(path)}"):
        certificates = parse_anchors(content)
        remarks = [text for certificate in certificates for text in _judge(certificate, now)]
        encoded = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        if unusable := find_unusable(encoded):
            # In the one bundle, they would keep every client from all of it.
            raise AnchorRefused(f"OpenSSL cannot read {len(unusable)} of its certificates", "leave them out")
    subjects = tuple(certificate.subject.rfc4514_string() for certificate in certificates)
    return RootFile(Source(place(path), encoded), subjects, tuple(f"{WHAT} {place(path)}: {text}" for text in remarks))


def _judge(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    """Yield what this Python is stricter about than others. Raises AnchorRefused: everybody refuses it."""
    defects = find_defects(certificate, now)
    subject = repr(certificate.subject.rfc4514_string())
    if refusing := _texts(defects, Severity.REFUSES):
        advice = "name the file of a root that is in use, or leave this one out"
        raise AnchorRefused(f"{subject}: {' and '.join(refusing)}", advice)
    if sys.version_info >= STRICT_PYTHON:
        for text in _texts(defects, Severity.STRICT):
            yield f"{subject}: {text}; ask for a new one, or start with --trust-strict off"


def _texts(defects: Sequence[Defect], severity: Severity) -> list[str]:
    return [defect.text for defect in defects if defect.severity is severity]
