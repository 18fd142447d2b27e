"""A certificate of the local root as two files, for programs that want files: written once, then left until it ages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from edge_certs.ca import LocalAuthority
from edge_certs.errors import CertificateError
from edge_certs.file_names import file_name
from edge_certs.files import read_file, write_private, write_public
from edge_certs.renewal import FRACTION_LEFT, Lifetime
from edge_certs.x509 import Certificate, parse_chain, read_certificate

# Nobody renews files but whoever runs the command again: longer than what is kept in memory.
FILE_LIFETIME = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class DevFiles:
    """The two files and what is in them; `is_new` is False when they were there and good for long enough."""

    cert: Path
    key: Path
    certificate: Certificate
    is_new: bool


def write_dev_files(
    authority: LocalAuthority, names: Sequence[str], folder: Path, now: datetime, *, dry_run: bool
) -> DevFiles:
    """Write `NAME.pem` and `NAME.key` for `names` into `folder`, unless those that are there will do; `now` is in UTC.

    Raises CertificateError: a name is not for the local root to sign, or the folder cannot be written.
    """
    base = file_name(names[0].lower()) if names else "localhost"
    cert, key = folder / f"{base}.pem", folder / f"{base}.key"
    # First of all: a name that cannot be is refused whatever lies there.
    issued = authority.issue(names, now, FILE_LIFETIME)
    present = _present(authority, cert, key, now)
    if present is not None and set(present.names) == set(issued.names):
        return DevFiles(cert, key, present, is_new=False)
    if not dry_run:
        # The key first: a certificate without its key serves nobody, a key alone is no certificate.
        write_private(key, issued.key_pem)
        write_public(cert, issued.chain_pem)
    return DevFiles(cert, key, issued, is_new=True)


def _present(authority: LocalAuthority, cert: Path, key: Path, now: datetime) -> Certificate | None:
    """The certificate that lies there when it is the local root's, belongs to its key, and is not to be renewed yet."""
    if not (os.path.lexists(cert) and os.path.lexists(key)):
        return None
    try:
        found = read_certificate(cert, key, now)
        [root] = parse_chain(read_file(authority.root_path, "certificate"))
        parse_chain(found.chain_pem)[0].verify_directly_issued_by(root)
    except (CertificateError, InvalidSignature, ValueError, TypeError):
        return None
    return found if now < Lifetime(found.not_before, found.not_after).left(FRACTION_LEFT) else None
