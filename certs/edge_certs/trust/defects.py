"""What is wrong with a root, before an application finds out: by RFC 5280 and by what OpenSSL does with it (pure).

A defect *refuses* when every TLS client refuses, is *strict* when Python 3.13 and later do (VERIFY_X509_STRICT is on
there), and a *remark* when none does. tests/certs/trust/test_defects.py holds each to real handshakes under both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_certs.x509 import MIN_RSA_BITS, PARSE_ERRORS, show_time

# OpenSSL's security level 2, Python's default since 3.10: 112 bits (NIST SP 800-57 part 1 table 2).
MIN_CURVE_BITS = 224

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


class Severity(Enum):
    """How much a defect matters."""

    REFUSES = "refuses"
    STRICT = "strict"
    REMARK = "remark"


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong: `code` for programs, `text` for people, one line."""

    code: str
    severity: Severity
    text: str


def find_defects(certificate: x509.Certificate, now: datetime) -> list[Defect]:
    """Return what is wrong with `certificate` as a root at `now` (UTC), the worst first."""
    found = [*_date_defects(certificate, now), *_key_defects(certificate), *_signature_defects(certificate)]
    try:
        extensions = certificate.extensions
    except PARSE_ERRORS:
        found.append(Defect("damaged-extension", Severity.REFUSES, "an extension cannot be read"))
    else:
        found += _extension_defects(certificate, extensions)
    return sorted(found, key=lambda defect: list(Severity).index(defect.severity))


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Return whether `certificate` names itself as its issuer, as roots do."""
    return certificate.issuer == certificate.subject


def _date_defects(certificate: x509.Certificate, now: datetime) -> Iterator[Defect]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        yield Defect("not-yet-valid", Severity.REFUSES, f"not valid before {show_time(start)}, now is {show_time(now)}")
    if now > end:
        yield Defect("expired", Severity.REFUSES, f"expired at {show_time(end)}, now is {show_time(now)}")


def _key_defects(certificate: x509.Certificate) -> Iterator[Defect]:
    try:
        key = certificate.public_key()
    except PARSE_ERRORS:
        return  # a kind that `cryptography` does not know: OpenSSL may
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < MIN_RSA_BITS:
        yield Defect("short-key", Severity.REFUSES, f"its key has {key.key_size} bits, at least {MIN_RSA_BITS} allowed")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < MIN_CURVE_BITS:
        yield Defect(
            "short-key", Severity.REFUSES, f"its curve has {key.key_size} bits, at least {MIN_CURVE_BITS} allowed"
        )


def _signature_defects(certificate: x509.Certificate) -> Iterator[Defect]:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return
    if isinstance(algorithm, SHA1 | MD5):
        # Whoever trusts a certificate does not look at its signature; below it, OpenSSL refuses these.
        name = "SHA-1" if isinstance(algorithm, SHA1) else "MD5"
        yield Defect("weak-signature", Severity.REMARK, f"signed with {name}, harmless on a root and refused below it")


def _extension_defects(certificate: x509.Certificate, extensions: x509.Extensions) -> Iterator[Defect]:
    refusal = _authority_refusal(certificate, extensions)
    if refusal is not None:
        yield refusal
    else:
        yield from _strict_defects(certificate, extensions)
    constraints = _get(extensions, x509.NameConstraints)
    if constraints is not None and constraints.value.permitted_subtrees:
        names = ", ".join(str(name.value) for name in constraints.value.permitted_subtrees)
        yield Defect("name-constraints", Severity.REMARK, f"good only for {names} and what is below them")
    if not is_self_issued(certificate):
        yield Defect(
            "not-a-root",
            Severity.REMARK,
            "signed by another authority: Python before 3.13 wants that one, the root, too",
        )


def _authority_refusal(certificate: x509.Certificate, extensions: x509.Extensions) -> Defect | None:
    constraints = _get(extensions, x509.BasicConstraints)
    usage = _get(extensions, x509.KeyUsage)
    purposes = _get(extensions, x509.ExtendedKeyUsage)
    if constraints is not None and not constraints.value.ca:
        return Defect("not-an-authority", Severity.REFUSES, "not an authority's certificate (CA:FALSE), but a server's")
    if constraints is None and usage is None and certificate.version is x509.Version.v3:
        text = "not an authority's certificate: it has neither basic constraints nor key usage"
        return Defect("not-an-authority", Severity.REFUSES, text)
    if usage is not None and not usage.value.key_cert_sign:
        return Defect("cannot-sign", Severity.REFUSES, "its key usage does not allow it to sign certificates")
    # OpenSSL does not take anyExtendedKeyUsage for it in an authority.
    if purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes.value:
        return Defect("wrong-purpose", Severity.REFUSES, "its extended key usage does not allow servers")
    return None


def _strict_defects(certificate: x509.Certificate, extensions: x509.Extensions) -> Iterator[Defect]:
    constraints = _get(extensions, x509.BasicConstraints)
    if constraints is None:
        yield _strict("no-basic-constraints", "no basic constraints")
    elif not constraints.critical:
        yield _strict("basic-constraints-not-critical", "basic constraints not marked critical")
    if _get(extensions, x509.KeyUsage) is None:
        yield _strict("no-key-usage", "no key usage")
    if _get(extensions, x509.SubjectKeyIdentifier) is None:
        yield _strict("no-subject-key-identifier", "no subject key identifier")
    if not is_self_issued(certificate) and _get(extensions, x509.AuthorityKeyIdentifier) is None:
        yield _strict("no-authority-key-identifier", "no authority key identifier")


def _strict(code: str, what: str) -> Defect:
    return Defect(code, Severity.STRICT, f"{what}: Python 3.13 and later refuse what it signed")


def _get(extensions: x509.Extensions, kind: type[_Kind]) -> x509.Extension[_Kind] | None:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
