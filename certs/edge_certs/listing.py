"""What there is in the storage: each certificate with its dates, when it will be renewed, and why then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from edge_certs.errors import CertificateError
from edge_certs.renewal import Lifetime, Renewal, plan_first, plan_renewal
from edge_certs.state import CertificateState
from edge_certs.storage import Lineage, Storage
from edge_certs.x509 import Certificate, parse_chain

NOBODY = "nobody renews it: it was imported; edge serve --acme, or edge cert issue, would"


@dataclass(frozen=True, slots=True)
class Listed:
    """One certificate that is there or wanted; instants are in UTC.

    `authority` is whose it is, or is to be. `certificate` is None when there is none yet, `renew_at` when nobody renews
    it; `reason` says why then, or why not. `problem` is what went wrong last, empty when nothing did.
    """

    name: str
    names: tuple[str, ...]
    authority: str
    certificate: Certificate | None
    path: Path | None
    renew_at: datetime | None
    reason: str
    problem: str

    @property
    def is_staging(self) -> bool:
        """True for a certificate that no client trusts, from an authority for rehearsals."""
        return "staging" in self.authority.lower()


def list_certificates(storage: Storage, now: datetime) -> list[Listed]:
    """Return all certificates in the storage, by name; what is wrong with one is its `problem`. `now` is in UTC.

    Raises CertificateError: the folder cannot be read.
    """
    return [_listed(storage, lineage, now) for lineage in storage.lineages()]


def plan_next(storage: Storage, state: CertificateState, certificate: Certificate | None, now: datetime) -> Renewal:
    """Return when the next attempt is due, and why then, by what is on disk: the authority is not asked.

    Raises CertificateError: the ledger is damaged.
    """
    names = state.issuance.names
    failures = storage.authority(state.issuance.directory).ledger().failures(names, now)
    if certificate is None:
        return plan_first(failures, now=now, jitter=state.jitter)
    advice = state.advice
    is_its = advice is not None and state.fingerprint in ("", certificate.fingerprint)
    lifetime = Lifetime(certificate.not_before, certificate.not_after)
    selected = advice.selected if advice is not None and is_its else None
    return plan_renewal(lifetime, selected=selected, failures=failures, jitter=state.jitter)


def _listed(storage: Storage, lineage: Lineage, now: datetime) -> Listed:
    problem, state, certificate = "", None, None
    renewal: Renewal | None = None
    try:
        state = lineage.state()
        certificate = lineage.current()
        if state is not None:
            renewal = _planned(state, certificate) or plan_next(storage, state, certificate, now)
    except CertificateError as error:
        problem = str(error)
    except OSError as error:
        problem = str(error)
    if state is not None and not problem:
        problem = state.last_error
    names = certificate.names if certificate is not None else state.issuance.names if state is not None else ()
    return Listed(
        name=lineage.name,
        names=names or (lineage.name,),
        authority=_authority(state, certificate),
        certificate=certificate,
        path=lineage.live / "fullchain.pem" if certificate is not None else None,
        renew_at=renewal.at if renewal is not None else None,
        reason=renewal.reason if renewal is not None else NOBODY if state is None and not problem else "",
        problem=problem or (_expired(certificate, now) if certificate is not None else ""),
    )


def _planned(state: CertificateState, certificate: Certificate | None) -> Renewal | None:
    """What whoever keeps it has decided, limits and all, when that was for the certificate that is there."""
    fingerprint = "" if certificate is None else certificate.fingerprint
    if state.next_at is None or state.fingerprint != fingerprint:
        return None
    return Renewal(state.next_at, state.reason)


def _expired(certificate: Certificate, now: datetime) -> str:
    return "expired" if certificate.not_after < now else ""


def _authority(state: CertificateState | None, certificate: Certificate | None) -> str:
    """The issuer's own name; before there is a certificate, the authority's host."""
    if certificate is not None:
        issuer = parse_chain(certificate.chain_pem)[0].issuer
        for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
            for attribute in issuer.get_attributes_for_oid(oid):
                return str(attribute.value)
        return issuer.rfc4514_string()
    return (urlsplit(state.issuance.directory).hostname or "") if state is not None else ""
