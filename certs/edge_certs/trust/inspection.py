"""Looks at a server as a client does: its chain, whether it is intercepted, and where its root can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError
from edge_certs.trust.bundle import Source, read_base, read_source
from edge_certs.trust.handshake import Route, Verified, fetch_chain, verify
from edge_certs.trust.store import TrustStore
from edge_certs.trust.variables import merged_sources, own_sources
from edge_certs.trust.verdict import Root, Verdict, find_root, judge, order_chain
from edge_certs.x509 import PARSE_ERRORS

# Where administrators put roots of their own: Debian and Alpine, RHEL and Fedora, Arch, openSUSE.
LOCAL_ANCHOR_FOLDERS = (
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/ca-certificates/trust-source/anchors",
    "/etc/pki/trust/anchors",
)
ADDED = "edge trust add"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen. `presented` is in the server's order, `chain` from its own certificate upwards.

    `trusted` is what edge's own roots say, by today's rules; `strict` the same by those of Python 3.13.
    """

    route: Route
    presented: tuple[x509.Certificate, ...]
    chain: tuple[x509.Certificate, ...]
    verdict: Verdict
    root: Root
    public: Verified
    trusted: Verified
    strict: Verified


def inspect(route: Route, home: Path, environ: Mapping[str, str]) -> Inspection:
    """Return what the server at the end of `route` presents, and what the public roots and edge's make of it.

    Raises CertificateError: it cannot be reached, it presents nothing that can be read, or the roots are unreadable.
    """
    roots = {der for source in merged_sources(home, environ, "both") for der in source.certificates}
    presented = _parsed(route, fetch_chain(route, roots))
    known = list(known_roots(home, environ))
    public = verify(route, public_roots(known), roots, strict=False)
    trusted = verify(route, roots, roots, strict=False)
    strict = verify(route, roots, roots, strict=True) if trusted.code == 0 else trusted
    chain = order_chain(presented)
    verdict = judge(public, is_public_name=route.target.is_public)
    return Inspection(route, presented, tuple(chain), verdict, find_root(chain, known), public, trusted, strict)


def known_roots(home: Path, environ: Mapping[str, str]) -> Iterator[Source]:
    """Yield what this machine knows, what people put there first: added, named by variables, local, system, certifi.

    Raises CertificateError: the added roots or the system's cannot be read.
    """
    store = TrustStore(home)
    yield Source(ADDED, tuple(anchor.certificate.public_bytes(Encoding.DER) for anchor in store.anchors()))
    yield from own_sources(home, environ)
    for folder in LOCAL_ANCHOR_FOLDERS:
        if Path(folder).is_dir():
            yield read_source(folder, Path(folder))
    yield from read_base("both")


def public_roots(known: list[Source]) -> set[bytes]:
    """Return Mozilla's list, as certifi has it, without what an administrator or `edge trust add` put on this machine.

    Some distributions' certifi is the system's store: a company's root in it does not make an interception public.
    """
    local = {der for source in known if source.name in (ADDED, *LOCAL_ANCHOR_FOLDERS) for der in source.certificates}
    return {der for source in known if source.name == "certifi" for der in source.certificates} - local


def _parsed(route: Route, ders: list[bytes]) -> tuple[x509.Certificate, ...]:
    try:
        presented = tuple(map(x509.load_der_x509_certificate, ders))
    except PARSE_ERRORS:
        presented = ()
    if not presented:
        raise CertificateError(f"{route.target}: presents no certificate that can be read", "look at it with openssl")
    return presented
