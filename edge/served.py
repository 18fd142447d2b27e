"""The certificates that serve: when their files change, the new ones take over, if all of them are good."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.certificates import CertificateWatch, load_certificates, watched_files
from edge.config_sites import SitePlan
from edge.config_tls import TlsSettings
from edge.sites import guard_files, load_guards
from edge.tls.contexts import MemoryCertificate, Sites, TlsServer
from edge.tls.guards import Guard
from edge_certs.errors import CertificateError
from edge_certs.x509 import Certificate

if TYPE_CHECKING:
    from edge.acme import KeptCertificates

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
    plans: Sequence[SitePlan]
    guards: dict[str, Guard]
    is_strict: bool


class ServedCertificates:
    """What TLS is served with; `tls` is None without any. `loaded` are those that `tls` was made with."""

    def __init__(
        self,
        settings: TlsSettings,
        tls: TlsServer | None,
        watch: CertificateWatch,
        kept: KeptCertificates | None,
        loaded: list[Certificate],
        plans: Sequence[SitePlan] = (),
        *,
        is_strict: bool = False,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._watch = watch
        self._kept = kept
        self._loaded = loaded
        self._plans = plans
        self._is_strict = is_strict
        self._watch_at = 0.0
        self.orders: dict[str, object] = {}
        """What an edge is told, beyond what it was forked with: what came later, as JSON can carry it."""

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

    def read(
        self,
        settings: TlsSettings | None = None,
        plans: Sequence[SitePlan] | None = None,
        *,
        is_strict: bool | None = None,
    ) -> Candidates:
        """Read the files again, or those of other settings and sites; nothing changes by that. `use` is next.

        Raises CertificateError with the reason: one of them is not good.
        """
        settings = settings or self._settings
        self._watch.changed()  # the files are read now: what has changed by then is not news again
        plans = self._plans if plans is None else plans
        is_strict = self._is_strict if is_strict is None else is_strict
        if self._tls is None:
            return Candidates([], None, settings, plans, {}, is_strict)
        loaded = load_certificates(settings, self._kept, is_strict=is_strict)
        guards = load_guards(plans)
        try:
            sites = Sites(loaded, self._tls.sites.offer) if loaded else None
            return Candidates(loaded, sites, settings, plans, guards, is_strict)
        except (OSError, ValueError) as error:
            raise CertificateError(str(error)) from error

    def use(self, candidates: Candidates) -> None:
        """Serve with these from now on, as far as this process can; edges have to get `orders`."""
        if self._tls is None:
            return
        self._guard(self._tls, candidates.guards)
        self._is_strict = candidates.is_strict
        if (candidates.settings, candidates.plans) != (self._settings, self._plans):
            self._settings, self._plans = candidates.settings, candidates.plans
            self._watch = CertificateWatch(watched_files(self._settings, self._kept), guard_files(self._plans))
        if candidates.sites is None:
            return
        self._loaded = candidates.loaded
        self._watch.follow(candidates.loaded)
        self._tls.sites = candidates.sites
        self.orders["certificates"] = [
            MemoryCertificate(item.names, item.chain_pem, item.key_pem).encode() for item in candidates.loaded
        ]
        for item in candidates.loaded:
            names = ", ".join(item.names)
            logger.info(
                "certificate reloaded: %s, SHA-256 %s, valid until %s", names, item.fingerprint, item.not_after.date()
            )

    def _guard(self, tls: TlsServer, guards: dict[str, Guard]) -> None:
        if any(tls.guards.get(name) != guard for name, guard in guards.items()):
            # Those of before stay: edges of before are still there for sites of before.
            tls.guards = {**tls.guards, **guards}
            self.orders["guards"] = {name: guard.encode() for name, guard in guards.items()}
            logger.info("authorities of clients reloaded")

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
