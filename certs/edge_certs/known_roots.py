"""The roots that clients of this machine trust, each with whose it is, for looking at chains."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from edge_certs.files import read_file
from edge_certs.inspection import PUBLIC, Roots
from edge_certs.trust.bundle import read_base
from edge_certs.trust.store import TrustStore
from edge_certs.x509 import PARSE_ERRORS, parse_chain

ADDED = "added by edge trust"
LOCAL = "the local root, for clients that have it"


@dataclass(frozen=True, slots=True)
class KnownRoots:
    """The roots to build paths to, and the same ones as `pem` for OpenSSL."""

    roots: Roots
    pem: str = field(repr=False)


def read_known_roots(home: Path) -> KnownRoots:
    """Return the public roots, those that `edge trust` added under `home`, and the local root there.

    Raises CertificateError: one of them cannot be read.
    """
    public = _parse([der for source in read_base("both") for der in source.certificates])
    added = [anchor.certificate for anchor in TrustStore(home).anchors()]
    local_path = home / "dev" / "root.pem"
    local = parse_chain(read_file(local_path, "certificate")) if local_path.is_file() else []
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in (*public, *added, *local))
    return KnownRoots(Roots(((PUBLIC, public), (ADDED, added), (LOCAL, local))), pem.decode("ascii"))


def _parse(ders: list[bytes]) -> list[x509.Certificate]:
    """OpenSSL takes roots with a serial number of 0, and passes over what it cannot read: so must we."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for der in dict.fromkeys(ders):
            try:
                found.append(x509.load_der_x509_certificate(der))
            except PARSE_ERRORS:
                continue
    return found
