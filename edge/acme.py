"""Certificates from an authority, as `edge serve` wants them: what to keep, and what serves meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from edge.account import let_in
from edge.config_acme import AcmeSettings
from edge.config_tls import CertificateFiles
from edge.errors import ConfigError
from edge_backend.identity import Identity
from edge_certs.challenges import ChallengeStore
from edge_certs.csr import is_covered, parse_name
from edge_certs.errors import CertificateError, naming, place
from edge_certs.file_names import authority_name
from edge_certs.files import edge_home, read_file
from edge_certs.imports import adopt
from edge_certs.jws import parse_base64url
from edge_certs.ledger import staging_of
from edge_certs.placeholder import make_placeholder
from edge_certs.settings import AuthoritySettings, KeeperSettings
from edge_certs.state import Issuance, encode_instant
from edge_certs.storage import Lineage, Storage
from edge_certs.x509 import Certificate, parse_chain

logger = logging.getLogger("edge.master")


class KeptCertificates:
    """The certificates that are ordered and renewed: those that are there, and placeholders for those that are not."""

    def __init__(self, keeper: KeeperSettings) -> None:
        self.keeper = keeper
        storage = Storage(keeper.home)
        self._lineages = [(storage.lineage(each.names[0]), each.names) for each in keeper.certificates]

    @classmethod
    def open(cls, settings: AcmeSettings, environ: Mapping[str, str], log_level: str) -> KeptCertificates:
        """Return what `settings` want kept; the folder for it is there then.

        Raises CertificateError: a name cannot be in a certificate, or the folder cannot be used; ConfigError: a name is
        given twice, or what the authority gave its customer is not base64url.
        """
        keeper = keeper_settings(settings, edge_home(environ), log_level)
        storage = Storage(keeper.home)
        storage.check()
        for each in keeper.certificates:
            adopt(storage, each.names)
        return cls(keeper)

    @property
    def remark(self) -> str:
        """What the operator is told at the start: which names have no certificate yet. Empty when all have."""
        missing = [name for lineage, names in self._lineages if not lineage.live.exists() for name in names]
        if not missing:
            return ""
        return (
            f"no certificate yet for {', '.join(missing)}: it is ordered now, and a self-signed one serves until then"
        )

    def share(self, identity: Identity) -> None:
        """Let edges that are this user read the answers to challenges, and nothing else.

        Raises CertificateError: the folder cannot be changed; ConfigError: it is closed to that user.
        """
        self.answers.share(identity.gid)
        let_in(identity, self.keeper.home, self.keeper.home)

    def without(self, kind: str) -> KeptCertificates:
        """Return the same with no challenge of this `kind`: nothing here could answer it.

        Raises ConfigError: it is the only one.
        """
        left = tuple(
            replace(each, kinds=tuple(other for other in each.kinds if other != kind))
            for each in self.keeper.certificates
        )
        if not all(each.kinds for each in left):
            raise ConfigError(f"--acme-challenge {kind}: no listener for plain HTTP; add --http-bind :80")
        return KeptCertificates(replace(self.keeper, certificates=left))

    @property
    def answers(self) -> ChallengeStore:
        """The answers to challenges that are under way."""
        return Storage(self.keeper.home).challenges

    @property
    def files(self) -> list[CertificateFiles]:
        """The files that say by their change that there is something new."""
        return [CertificateFiles(lineage.live / "fullchain.pem") for lineage, _ in self._lineages]

    def load(self, now: datetime, *, is_start: bool = False) -> list[Certificate]:
        """Return what serves now: for a name without a certificate, a placeholder.

        At the start, one that is damaged is as good as none. Later it is an error: what serves is better.

        Raises CertificateError: it is damaged.
        """
        loaded = []
        for lineage, names in self._lineages:
            certificate = self._read(lineage, is_start)
            if certificate is not None:
                # Files of a version that will be pruned: the link is what is watched.
                loaded.append(replace(certificate, cert_path=None, key_path=None))
            missing = [name for name in names if certificate is None or not is_covered(name, certificate.names)]
            if missing:
                loaded.append(make_placeholder(missing, now))
        return loaded

    def status(self) -> list[dict[str, object]]:
        """Return what is known of each certificate, as JSON can carry it."""
        return [{"name": lineage.name, **self._state(lineage)} for lineage, _ in self._lineages]

    def _state(self, lineage: Lineage) -> dict[str, object]:
        try:
            state = lineage.state()
        except CertificateError as error:
            return {"status": "failed", "last_error": str(error)}
        if state is None:
            return {"status": "missing", "last_error": ""}
        return {
            "status": state.status.value,
            "names": state.issuance.names,
            "not_after": encode_instant(state.not_after),
            "next_at": encode_instant(state.next_at),
            "reason": state.reason,
            "last_error": state.last_error,
        }

    def _read(self, lineage: Lineage, is_start: bool) -> Certificate | None:
        try:
            return lineage.current()
        except CertificateError as error:
            if not is_start:
                raise
            logger.warning("%s: certificate not used: %s", lineage.name, error)
            return None


def keeper_settings(settings: AcmeSettings, home: Path, log_level: str) -> KeeperSettings:
    """Return what the process that keeps certificates has to know. Raises as `KeptCertificates.open`."""
    authority_name(settings.directory)
    if settings.ca_root:
        content = read_file(Path(settings.ca_root), "CA root")
        with naming(f"CA root {place(settings.ca_root)}"):
            parse_chain(content)
    try:
        parse_base64url(settings.eab_key)
    except CertificateError as error:
        raise ConfigError(f"--acme-eab-key: {error}") from None
    authority = AuthoritySettings(
        directory=settings.directory,
        staging=settings.staging or staging_of(settings.directory) or "",
        contacts=(settings.email,) if settings.email else (),
        kid=settings.eab_kid,
        mac_key=settings.eab_key,
        ca_root=str(Path(settings.ca_root).absolute()) if settings.ca_root else "",
    )
    wanted = tuple(
        Issuance(
            names=tuple(parse_name(name) for name in names),
            directory=settings.directory,
            kinds=settings.kinds,
            key_type=settings.key_type,
            profile=settings.profile or None,
            root=settings.chain or None,
            dns_hook=settings.dns_hook,
        )
        for names in settings.certificates
    )
    names = [name for each in wanted for name in each.names]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--acme: {twice[0]!r} is given twice; leave out one")
    return KeeperSettings(home, authority, wanted, log_level)
