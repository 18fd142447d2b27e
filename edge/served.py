"""The certificates that serve: when their files change, the new ones take over, if all of them are good."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from edge.acme import KeptCertificates
from edge.certificates import CertificateWatch, load_certificates, watched_files
from edge.config_tls import TlsSettings
from edge.tls.contexts import MemoryCertificate, Sites, TlsServer
from edge_certs.errors import CertificateError
from edge_certs.x509 import Certificate

logger = logging.getLogger("edge.master")

# Certificate files are looked at this often: a new one serves within two seconds.
WATCH = 1.0
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Certificates that were read, and proven by the contexts made of them."""

    loaded: list[Certificate]
    sites: Sites | None
    settings: TlsSettings


class ServedCertificates:
    """What TLS is served with; `tls` is None without any. `loaded` are those that `tls` was made with."""

    def __init__(
        self,
        settings: TlsSettings,
        tls: TlsServer | None,
        watch: CertificateWatch,
        kept: KeptCertificates | None,
        loaded: list[Certificate],
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._watch = watch
        self._kept = kept
        self._loaded = loaded
        self._watch_at = 0.0
        self.order: list[dict[str, object]] = []
        """What an edge is told, beyond what it was forked with: those that came later, as JSON can carry them."""

    @property
    def deadline(self) -> float:
        """When `have_changed` must be asked next."""
        return self._watch_at if self._watch.is_watching else _NEVER

    def have_changed(self, now: float) -> bool:
        """Look at the files if it is time; True once for each change."""
        if now < self.deadline:
            return False
        self._watch_at = now + WATCH
        return self._watch.changed()

    def read(self, settings: TlsSettings | None = None) -> Candidates:
        """Read the files again, or those of other settings; nothing changes by that. `use` is next.

        Raises CertificateError with the reason: one of them is not good.
        """
        settings = settings or self._settings
        self._watch.changed()  # the files are read now: what has changed by then is not news again
        if self._tls is None:
            return Candidates([], None, settings)
        loaded = load_certificates(settings, self._kept)
        try:
            return Candidates(loaded, Sites(loaded, self._tls.sites.protocols) if loaded else None, settings)
        except (OSError, ValueError) as error:
            raise CertificateError(str(error)) from error

    def use(self, candidates: Candidates) -> None:
        """Serve with these from now on, as far as this process can; edges have to get `order`."""
        if self._tls is None or candidates.sites is None:
            return
        self._loaded = candidates.loaded
        if candidates.settings != self._settings:
            self._settings = candidates.settings
            self._watch = CertificateWatch(watched_files(self._settings, self._kept))
        self._watch.follow(candidates.loaded)
        self._tls.sites = candidates.sites
        self.order = [
            MemoryCertificate(item.names, item.chain_pem, item.key_pem).encode() for item in candidates.loaded
        ]
        for item in candidates.loaded:
            names = ", ".join(item.names)
            logger.info(
                "certificate reloaded: %s, SHA-256 %s, valid until %s", names, item.fingerprint, item.not_after.date()
            )

    def reload(self) -> bool:
        """Read the files again; False, and what serves goes on serving, unless all of it is good."""
        try:
            candidates = self.read()
        except (CertificateError, OSError) as error:
            logger.error("certificates not reloaded: %s; the old ones go on serving", error)
            return False
        self.use(candidates)
        return True

    def renewals(self) -> list[dict[str, object]]:
        """What is known of each certificate that is ordered and renewed."""
        return self._kept.status() if self._kept is not None else []

    def status(self) -> list[dict[str, Any]]:
        """What an operator asks of each: names, fingerprint, and until when it is valid."""
        return [
            {"names": list(item.names), "sha256": item.fingerprint, "not_after": item.not_after.isoformat()}
            for item in self._loaded
        ]
