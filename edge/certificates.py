"""The certificates that are served: reading them, and seeing when their files change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge.config import CertificateFiles, TlsSettings
from edge_certs.ca import LocalAuthority
from edge_certs.files import edge_home
from edge_certs.x509 import Certificate, read_certificate

DEV_NAMES = ("localhost", "*.localhost", "127.0.0.1", "::1")


def load_certificates(settings: TlsSettings) -> list[Certificate]:
    """Read and check every certificate; with `dev`, make one for localhost.

    Raises CertificateError with the reason.
    """
    now = datetime.now(UTC)
    if settings.dev:
        authority = LocalAuthority.open(edge_home(os.environ), now)
        return [authority.issue(DEV_NAMES, now)]
    return [read_certificate(files.cert, files.key, now) for files in settings.certificates]


class CertificateWatch:
    """Tells when certificate files have changed: by identity, size and time of change, through symbolic links.

    Make it before the files are read, so that no change falls between; `follow()` then says where the keys were found.
    """

    def __init__(self, files: Sequence[CertificateFiles]) -> None:
        self._files = tuple(files)
        self._seen = {path: _identity(path) for file in files for path in (file.cert, file.key) if path is not None}

    def follow(self, certificates: Sequence[Certificate]) -> None:
        """Watch the keys of these certificates, too: nobody named those that were found beside their certificate."""
        for certificate in certificates:
            if certificate.key_path is not None and self._files:
                self._seen.setdefault(certificate.key_path, _identity(certificate.key_path))

    @property
    def is_watching(self) -> bool:
        """False if there is no file to watch."""
        return bool(self._files)

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
