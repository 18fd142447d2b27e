"""Certificates that other programs keep: where they lie in certbot's, Caddy's, mkcert's and cert-manager's folders.

What is found is copied into the storage, proven first: key and chain belong together and are valid now. Keys of other
programs' *roots* are never taken: mkcert's and Caddy's may sign for the whole internet, ours may not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from edge_certs.csr import is_covered, parse_name
from edge_certs.errors import CertificateError, place
from edge_certs.files import LockHeld
from edge_certs.storage import Lineage, Storage
from edge_certs.x509 import Certificate, read_certificate

# A folder of certificates has at most some thousand; whoever names / has made a mistake.
MAX_FOUND = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate with its key, as `program` keeps them."""

    program: str
    cert: Path
    key: Path | None


class Result(Enum):
    """What became of one that was found."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Import:
    """One that was found, under which name it is kept, and what became of it; `problem` says why it was refused."""

    found: Found
    name: str
    result: Result
    certificate: Certificate | None = None
    problem: str = ""


def find_certificates(path: Path, key: Path | None = None) -> list[Found]:
    """Return the certificates in the file or folder `path`, sorted; a file's key is `key`, or looked for beside it.

    Raises CertificateError: there is nothing, or nothing that one of the programs keeps.
    """
    try:
        if not path.is_dir():
            return [Found("file", path, key)]
        found = sorted(_in_folder(path), key=lambda each: each.cert)[:MAX_FOUND]
    except PermissionError as error:
        raise CertificateError(
            f"{place(error.filename)}: permission denied", "run this as a user who may read it"
        ) from None
    if not found:
        raise CertificateError(
            f"folder {place(path)}: no certificate of certbot, Caddy, mkcert or cert-manager in it",
            "name such a folder, as /etc/letsencrypt, or the certificate file itself",
        )
    return found


def find_mkcert_root(path: Path) -> Path | None:
    """Return the root certificate when `path` is mkcert's CAROOT; None when it is not."""
    root = path / "rootCA.pem"
    return root if root.is_file() else None


def import_certificate(found: Found, storage: Storage, now: datetime, *, dry_run: bool) -> Import:
    """Copy what was found into the storage unless it is there, and return what was done, or would be; `now` is in UTC.

    What cannot be used is refused, and says so in the result: others go on.
    """
    try:
        certificate = read_certificate(found.cert, found.key, now)
        name = _lineage_name(certificate, found.cert.parent.name)
        lineage = storage.lineage(name)
        current = lineage.current()
        if current is not None and current.fingerprint == certificate.fingerprint:
            return Import(found, name, Result.UNCHANGED, certificate)
        if current is not None and current.not_after > certificate.not_after:
            raise CertificateError(
                f"certificate {place(found.cert)}: the one for {name!r} that is there is valid for longer",
                "nothing is to be done",
            )
        if not dry_run:
            with storage.locked_names([name]):
                lineage.install(certificate.chain_pem, certificate.key_pem)
    except CertificateError as error:
        return Import(found, "", Result.REFUSED, problem=str(error))
    return Import(found, name, Result.IMPORTED, certificate)


def adopt(storage: Storage, names: Sequence[str]) -> None:
    """Let a certificate for all of `names` that was imported under another one of them be that of the first.

    An authority sorts the names; whoever serves them gives them in an order of his own, and the first names the folder.
    What somebody keeps under that other name, or orders just now, is left alone.

    Raises CertificateError: the folder cannot be written.
    """
    wanted = storage.lineage(names[0])
    if os.path.lexists(wanted.live):
        return
    for other in map(storage.lineage, names[1:]):
        with suppress(LockHeld), storage.locked_names(names):
            certificate = _imported(other)
            if certificate is not None and all(is_covered(name, certificate.names) for name in names):
                wanted.install(certificate.chain_pem, certificate.key_pem)
                other.remove()
                return


def _imported(lineage: Lineage) -> Certificate | None:
    """The certificate that nobody keeps; None for one that is damaged, too."""
    try:
        return None if lineage.state() is not None else lineage.current()
    except CertificateError:
        return None


def _lineage_name(certificate: Certificate, folder: str) -> str:
    """The name of the folder when it is one of the certificate's, as certbot's is: the first that was asked for."""
    if not certificate.names:
        raise CertificateError("certificate without a name", "get one with subject alternative names")
    return parse_name(folder if folder in certificate.names else certificate.names[0])


def _in_folder(path: Path) -> Iterator[Found]:
    yield from _certbot(path)
    yield from _caddy(path)
    yield from _pairs(path)


def _certbot(path: Path) -> Iterator[Found]:
    """`/etc/letsencrypt`, its `live`, or one folder of that."""
    folders = [path, *_folders(path), *_folders(path / "live")]
    for folder in folders:
        if (folder / "fullchain.pem").is_file():
            yield Found("certbot", folder / "fullchain.pem", folder / "privkey.pem")


def _caddy(path: Path) -> Iterator[Found]:
    """Caddy's data folder, or its `certificates`: below it one folder an authority, below that one a name."""
    for base in (path, path / "certificates"):
        for authority in _folders(base):
            for folder in _folders(authority):
                cert = folder / f"{folder.name}.crt"
                if cert.is_file() and (folder / f"{folder.name}.json").is_file():
                    yield Found("caddy", cert, cert.with_suffix(".key"))


def _pairs(path: Path) -> Iterator[Found]:
    """Mkcert's `NAME.pem` with `NAME-key.pem`, and the `tls.crt` with `tls.key` of Kubernetes."""
    for key in sorted(path.glob("*-key.pem")):
        cert = key.with_name(key.name.removesuffix("-key.pem") + ".pem")
        if cert.is_file() and cert.name != "rootCA.pem":
            yield Found("mkcert", cert, key)
    if (path / "tls.crt").is_file():
        yield Found("cert-manager", path / "tls.crt", path / "tls.key")


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
