"""One file with every root: the system's, certifi's, the operator's own and those that were added.

Libraries *replace* their roots by what a variable names. So the file that all variables name has to hold all of them:
then no order of the variables, and no library that reads another one, can lose a public site or the corporate one.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from edge_certs.errors import CertificateError, naming, place, reason
from edge_certs.files import read_file
from edge_certs.pem import parse_blocks
from edge_certs.trust.anchors import TRUSTED_LABEL, certificate_der
from edge_certs.x509 import CERTIFICATE_LABELS

# All roots of the world are a few hundred KiB; what is larger is no bundle, and not ours to read into memory.
MAX_BUNDLE_SIZE = 16 * 1024 * 1024

BASES = ("system", "certifi", "both", "none")

# Debian, Alpine and Arch; Fedora and RHEL, new and old; openSUSE; Alpine without ca-certificates, FreeBSD, macOS.
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


# In a folder, OpenSSL looks for the hash of a subject and a number (openssl-rehash(1)).
HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """Certificates (DER) and, in `name`, where they are from."""

    name: str
    certificates: tuple[bytes, ...] = field(repr=False)


def encode_bundle(sources: Sequence[Source]) -> bytes:
    """Return the certificates of all `sources` as PEM: each once, in the order of their SHA-256, under a header.

    It is ASCII. The same sources in the same order give the same bytes.
    """
    unique = {sha256(der).digest(): der for source in sources for der in source.certificates}
    lines = [
        f"# Made by edge trust: {len(unique)} certificates. It is written anew; add to it with: edge trust add FILE"
    ]
    lines += [f"# {len(set(source.certificates))} from {source.name}" for source in sources]
    text = "\n".join([*lines, *(encode_pem(unique[digest]) for digest in sorted(unique)), ""])
    # Names of files may be in any script, and certifi's own users read its bundle as ASCII.
    return text.encode("ascii", "backslashreplace")


def find_unusable(certificates: Iterable[bytes]) -> set[bytes]:
    """Return those that OpenSSL cannot read: with one of them in a bundle, clients could load none of it."""
    return {der for der in certificates if not _is_usable(der)}


def encode_pem(der: bytes) -> str:
    """Return a certificate as PEM, without a line end behind it."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"])


def read_base(base: str) -> list[Source]:
    """Return the public roots: of "system", "certifi", "both" (what there is of them) or "none".

    Raises CertificateError: "system" is asked for and this system has no file with its roots, or one is unreadable.
    """
    sources = []
    if base in ("system", "both"):
        path = _system_bundle()
        if path is not None:
            sources.append(read_source(f"the system's {place(path)}", path))
        elif base == "system":
            raise CertificateError(
                f"no file with this system's roots, looked for {' and '.join(SYSTEM_BUNDLES)}", "use --base certifi"
            )
    if base in ("certifi", "both"):
        # Imported here: a worker's own certifi may answer with our bundle, and the command line need not load it.
        from certifi import where

        # Not contents(), which fails when somebody wrote a comment that is not ASCII into the file.
        sources.append(read_source("certifi", Path(where())))
    return sources


def read_source(name: str, path: Path) -> Source:
    """Return the certificates in the PEM file or in all PEM files of the folder `path`.

    Raises CertificateError: it cannot be read, or is a file without a certificate.
    """
    if os.path.isdir(path):
        return _read_folder(name, path, re.compile(".*", re.DOTALL))
    content = read_file(path, "bundle", MAX_BUNDLE_SIZE)
    with naming(f"bundle {place(path)}"):
        certificates = _certificates(content)
        if not certificates:
            raise CertificateError("no certificate in it", "name a PEM file with certificates")
    return Source(name, certificates)


def read_named_source(name: str, path: Path) -> Source:
    """Return what a variable that names `path` makes OpenSSL trust: a PEM file's, or a folder's files named by a hash.

    Whatever else lies in such a folder, nobody trusted. Raises as `read_source`.
    """
    return _read_folder(name, path, HASHED_NAME) if os.path.isdir(path) else read_source(name, path)


def _system_bundle() -> Path | None:
    # `openssl_cafile`, not `cafile`: that one follows SSL_CERT_FILE, which is the operator's.
    candidates = (*SYSTEM_BUNDLES, ssl.get_default_verify_paths().openssl_cafile)
    return next((Path(path) for path in candidates if os.path.isfile(path)), None)


def _is_usable(der: bytes) -> bool:
    try:
        # As PEM, as in a file: of DER, it takes some rubbish for the end of the data.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=encode_pem(der))
    except ssl.SSLError:
        return False
    return True


def _certificates(content: bytes) -> tuple[bytes, ...]:
    """Without a look inside: what the system trusts is not ours to judge."""
    labels = (*CERTIFICATE_LABELS, TRUSTED_LABEL)
    return tuple(certificate_der(block) for block in parse_blocks(content) if block.label in labels)


def _read_folder(name: str, folder: Path, wanted: re.Pattern[str]) -> Source:
    """OpenSSL passes over what is no certificate there, and so must we."""
    found: list[bytes] = []
    try:
        files = sorted(file for file in folder.iterdir() if wanted.fullmatch(file.name) and os.path.isfile(file))
    except OSError as error:
        raise CertificateError(f"folder {place(folder)}: {reason(error)}", "let this user read it") from error
    for file in files:
        with suppress(CertificateError):
            found += _certificates(read_file(file, "certificate", MAX_BUNDLE_SIZE))
    return Source(name, tuple(found))
