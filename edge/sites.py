"""From what is said of each site to what the policies and TLS decide by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509

from edge.config_site import SiteSettings
from edge.config_sites import SitePlan
from edge.policy.pages import NO_PAGES, ErrorPages
from edge.policy.rate import Meter, RateLimit
from edge.policy.sites import Site, Sites, nobody
from edge.tls.contexts import TlsServer, build_base_context
from edge.tls.guards import Guard
from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import read_file
from edge_certs.pem import not_pem, parse_blocks


def build_sites(plans: Sequence[SitePlan], tls: TlsServer | None, edges: int = 1) -> Sites:
    """Return the sites; one without names serves those of the certificates, or every host where there are none.

    `edges` is how many processes there are, each of which has its share of a rate.
    """
    return Sites([_build_site(plan, tls, edges) for plan in plans or (SitePlan(()),)])


def _build_site(plan: SitePlan, tls: TlsServer | None, edges: int) -> Site:
    settings = plan.settings.policy
    names = plan.names + settings.server_names
    knows: Callable[[str], bool] = nobody
    if not names and tls is not None:
        names, knows = (settings.canonical_host,) if settings.canonical_host else (), tls.is_known
    elif not names:
        names = ("*",)
    return Site(
        names,
        knows,
        canonical=settings.canonical_host,
        hsts=settings.hsts_value,
        rate=_build_rate(settings, edges),
        pages=ErrorPages(settings.pages) if settings.error_pages else NO_PAGES,
        guard=settings.guard,
    )


def _build_rate(settings: SiteSettings, edges: int) -> RateLimit | None:
    if settings.rate is None:
        return None
    number, period = settings.rate
    burst = max(1, (settings.rate_burst or number) // edges)
    return RateLimit(Meter(period / number * edges, burst), settings.rate_field.encode())


def guard_files(plans: Sequence[SitePlan]) -> list[Path]:
    """Return the files that `load_guards` reads."""
    settings = [plan.settings.policy for plan in plans if plan.settings.policy.guard]
    return [Path(path) for site in settings for path in (site.client_ca, site.client_crl) if path]


def load_guards(plans: Sequence[SitePlan]) -> dict[str, Guard]:
    """Read what sites verify their clients' certificates by, by the names that `SiteSettings.guard` has for it.

    Raises CertificateError: a file is of no use.
    """
    settings = [plan.settings.policy for plan in plans]
    return {site.guard: _load_guard(site) for site in settings if site.guard}


def _load_guard(settings: SiteSettings) -> Guard:
    authorities = _read_blocks(settings.client_ca, "client authority", "CERTIFICATE")
    revoked = _read_blocks(settings.client_crl, "revocation list", "X509 CRL") if settings.client_crl else ""
    guard = Guard(authorities, revoked, settings.client_auth == "require")
    try:
        guard.protect(build_base_context())
    except (OSError, ValueError) as error:
        raise CertificateError(f"client authority {place(settings.client_ca)}: {error}") from error
    return guard


def _read_blocks(path: str, what: str, label: str) -> str:
    """Return the PEM blocks with this label in a file, each of which can be read."""
    content = read_file(Path(path), what)
    with naming(f"{what} {place(path)}"):
        found = [block.pem for block in parse_blocks(content) if block.label == label]
        if not found:
            if b"-----BEGIN" not in content:
                raise not_pem(content, "crl" if label == "X509 CRL" else "x509")
            raise CertificateError(f"no {label} block in it", "name another file")
        for pem in found:
            try:
                x509.load_pem_x509_crl(pem) if label == "X509 CRL" else x509.load_pem_x509_certificate(pem)
            except ValueError as error:
                raise CertificateError(f"a {label} block that cannot be read: {error}", "export it again") from error
    return b"".join(found).decode()
