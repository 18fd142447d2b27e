"""Is a connection intercepted? From the chain that was presented, and what the public roots say of it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from edge_certs.trust.anchors import without_warnings
from edge_certs.trust.bundle import Source
from edge_certs.trust.defects import is_self_issued
from edge_certs.trust.handshake import Verified
from edge_certs.x509 import PARSE_ERRORS

# X509_V_ERR_*: no issuer's certificate (2, 20), self-signed (18), self-signed above (19), not verifiable (21), not
# trusted (27). OpenSSL looks for the root before it looks at dates and names.
NO_ROOT = frozenset({2, 18, 19, 20, 21, 27})


class Verdict(Enum):
    """What the chain says about who speaks there."""

    PUBLIC = "public"
    INTERCEPTED = "intercepted"
    PRIVATE = "private"
    DEFECTIVE = "defective"


@dataclass(frozen=True, slots=True)
class Root:
    """Where the chain leads: `name` is the root's subject, `certificate` it when somebody has it, `found_in` who.

    `issuer_urls` are where the last certificate that was presented says that its issuer's is.
    """

    name: str
    certificate: x509.Certificate | None
    found_in: str
    issuer_urls: tuple[str, ...]


def order_chain(presented: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the certificates from the server's own to the last one that signed; what does not belong is left out."""
    chain = list(presented[:1])
    rest = list(presented[1:])
    while chain and not is_self_issued(chain[-1]):
        issuer = next((item for item in rest if item.subject == chain[-1].issuer), None)
        if issuer is None:
            break
        rest.remove(issuer)
        chain.append(issuer)
    return chain


def judge(public: Verified, *, is_public_name: bool) -> Verdict:
    """Return the verdict for what the public roots say (`public`) of a server with a public name or a private one."""
    if public.code == 0:
        return Verdict.PUBLIC
    if public.code not in NO_ROOT:
        return Verdict.DEFECTIVE
    return Verdict.INTERCEPTED if is_public_name else Verdict.PRIVATE


def find_root(chain: Sequence[x509.Certificate], known: Iterable[Source]) -> Root:
    """Return where `chain` (not empty, in order) leads: the root it ends in, or else one of that name in `known`."""
    last = chain[-1]
    if is_self_issued(last):
        der = last.public_bytes(Encoding.DER)
        place = next((source.name for source in known if der in source.certificates), "what the server presents")
        return Root(last.subject.rfc4514_string(), last, place, ())
    name, subject = last.issuer.rfc4514_string(), last.issuer.public_bytes()
    for source in known:
        # Only what can be it is parsed: others' oddities are not ours to meet.
        for certificate in (_parsed(der) for der in source.certificates if subject in der):
            if certificate is not None and certificate.subject == last.issuer and _signed(certificate, last):
                return Root(name, certificate, source.name, _issuer_urls(last))
    return Root(name, None, "", _issuer_urls(last))


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        with without_warnings():
            return x509.load_der_x509_certificate(der)
    except PARSE_ERRORS:
        return None


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Names are anybody's: two companies may both have a 'Corp Root CA'."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*PARSE_ERRORS, TypeError, InvalidSignature):
        return False
    return True


def _issuer_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (*PARSE_ERRORS, x509.ExtensionNotFound):
        return ()
    return tuple(
        str(item.access_location.value)
        for item in access
        if item.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    )
