"""The certificates that are served: reading them, and seeing when their files change."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config_tls import CertificateFiles, TlsSettings
from edge.key_files import look_at_key
from edge.tls.sni import SiteNames
from edge_certs.ca import LocalAuthority
from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import edge_home, read_file
from edge_certs.intermediate import Intermediate
from edge_certs.leaf import HOST
from edge_certs.x509 import Certificate, read_certificate, show_time

if TYPE_CHECKING:
    from edge.acme import KeptCertificates

DEV_NAMES = ("localhost", "*.localhost", "127.0.0.1", "::1")

# What edges sign with has its key in their memory only, and they cannot be given another one while they run.
SERVING_LIFETIME = timedelta(days=398)

logger = logging.getLogger("edge.master")


def load_certificates(
    settings: TlsSettings, kept: KeptCertificates | None = None, *, is_start: bool = False, is_strict: bool = False
) -> list[Certificate]:
    """Read and check every certificate that has a file, and those that are kept (see `KeptCertificates.load`).

    A key that others may read is a line in the log. Those that are kept are in files made here, for their owner alone.

    Raises CertificateError with the reason; with `is_strict`, such a key is one.
    """
    now = datetime.now(UTC)
    named = [_load(files, settings, now, is_strict=is_strict) for files in settings.certificates]
    return named if kept is None else [*named, *kept.load(now, is_start=is_start)]


def _load(files: CertificateFiles, settings: TlsSettings, now: datetime, *, is_strict: bool) -> Certificate:
    found = read_certificate(files.cert, files.key, now, settings.key_password)
    exposure = look_at_key(found.key_path or files.cert).exposure
    if exposure and is_strict:
        raise CertificateError(f"--strict: {exposure}")
    if exposure:
        logger.warning("%s", exposure)
    return found


def watched_files(settings: TlsSettings, kept: KeptCertificates | None) -> list[CertificateFiles]:
    """Return the files whose change is a reason to load the certificates again."""
    return [*settings.certificates, *(kept.files if kept is not None else ())]


@dataclass(frozen=True, slots=True)
class DevMaker:
    """Makes the certificates of `--dev`: one for all `names`, and one for each name below those with a wildcard.

    It holds the key of an intermediate, never the root's: edges inherit it, and each makes what its clients ask for.
    """

    authority: Intermediate = field(repr=False)
    names: tuple[str, ...]
    _exact: SiteNames
    _parents: tuple[str, ...]
    remark: str

    @classmethod
    def open(cls, settings: TlsSettings) -> DevMaker:
        """Return the maker for these settings; the root of this user is made when there is none yet.

        Raises CertificateError: a name is not for the local root to sign, or what signs is of no use.
        """
        now = datetime.now(UTC)
        names = tuple(dict.fromkeys((*DEV_NAMES, *settings.dev_names)))
        if not settings.dev_authority:
            home = edge_home(os.environ)
            authority = LocalAuthority.open(home, now).delegate(now, SERVING_LIFETIME)
            remark = f"certificate for localhost signed by {home / 'dev' / 'root.pem'}; trust that"
        else:
            authority = _read_intermediate(Path(settings.dev_authority), now)
            until = show_time(authority.certificate.not_valid_after_utc)
            remark = f"certificate for localhost signed by {place(settings.dev_authority)}, valid until {until}"
        parents = tuple(name[1:].lower() for name in names if name.startswith("*."))
        return cls(authority, names, SiteNames([[n for n in names if not n.startswith("*.")]]), parents, remark)

    def choose(self, server_name: str | None) -> str:
        """Return `server_name` when it needs a certificate of its own; "" is the certificate for all names."""
        name = (server_name or "").lower().removesuffix(".")
        if self._exact.known(name) or not name.endswith(self._parents) or "*" in name or not HOST.fullmatch(name):
            return ""
        return name

    def make(self, name: str) -> Certificate:
        """Return a new certificate for `name`, or for all names.

        Raises CertificateError: what signs it has expired, or may not sign for a name.
        """
        return self.authority.issue([name] if name else self.names, datetime.now(UTC))

    def is_known(self, host: str) -> bool:
        """True if there can be a certificate for `host`: a name or an address, no port."""
        return self._exact.known(host) or self.choose(host) != ""


def _read_intermediate(path: Path, now: datetime) -> Intermediate:
    content = read_file(path, "dev authority")
    with naming(f"dev authority {place(path)}"):
        return Intermediate.parse(content, now)


class CertificateWatch:
    """Tells when certificate files have changed: by identity, size and time of change, through symbolic links.

    Make it before the files are read, so that no change falls between; `follow()` then says where the keys were found.
    """

    def __init__(self, files: Sequence[CertificateFiles], others: Sequence[Path] = ()) -> None:
        """`others` are what clients' certificates are verified by."""
        self._files = tuple(files)
        paths = [path for file in files for path in (file.cert, file.key) if path is not None]
        self._seen = {path: _identity(path) for path in (*paths, *others)}

    def follow(self, certificates: Sequence[Certificate]) -> None:
        """Watch the keys of these certificates, too: nobody named those that were found beside their certificate."""
        for certificate in certificates:
            if certificate.key_path is not None and self._files:
                self._seen.setdefault(certificate.key_path, _identity(certificate.key_path))

    @property
    def is_watching(self) -> bool:
        """False if there is no file to watch."""
        return bool(self._seen)

    def changed(self) -> bool:
        """True once for each change."""
        before, self._seen = self._seen, {path: _identity(path) for path in self._seen}
        return before != self._seen


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
