"""What is the matter with a chain: who signed whom, up to which root, and why a client would refuse it (pure).

The path is built as clients do, from the server's certificate by names and signatures, over what came with it and then
over the roots. What each finding says is what a client does, not what a standard would like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from edge_certs.errors import CertificateError
from edge_certs.leaf import check_permitted, permitted_subtrees
from edge_certs.x509 import CURVES, MIN_RSA_BITS, PARSE_ERRORS, is_authority, show_time

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

# Of public authorities: Apple and Chrome have refused longer ones since 2020-09; CA/Browser Forum SC-081 shortens them.
MAX_PUBLIC_LIFETIMES = (
    (datetime(2026, 3, 15, tzinfo=UTC), timedelta(days=200)),
    (datetime(2020, 9, 1, tzinfo=UTC), timedelta(days=398)),
)

# Nobody chains more; a loop of certificates that sign each other would never end.
MAX_PATH = 10


# The words for the roots that browsers everywhere have.
PUBLIC = "a public root"


class Severity(Enum):
    """What a finding means."""

    REFUSED = "refused"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: what it is, and what to do about it."""

    severity: Severity
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One certificate in words; dates are in UTC, `scts` is the number of embedded timestamps (RFC 6962)."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    serial: str
    sha256: str
    key: str
    signature: str
    is_authority: bool
    scts: int
    must_staple: bool
    issuer_urls: tuple[str, ...]


class Roots:
    """The roots that clients here trust, in groups; a group's words say whose they are."""

    def __init__(self, groups: Sequence[tuple[str, Sequence[x509.Certificate]]]) -> None:
        self._words: dict[x509.Certificate, str] = {}
        self._by_subject: dict[bytes, list[x509.Certificate]] = {}
        for words, certificates in groups:
            for certificate in certificates:
                self._words.setdefault(certificate, words)
                self._by_subject.setdefault(certificate.subject.public_bytes(), []).append(certificate)

    def issuer_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Return the root that signed `certificate`."""
        return _signer(certificate, self._by_subject.get(certificate.issuer.public_bytes(), ()))

    def __contains__(self, certificate: x509.Certificate) -> bool:
        return certificate in self._words

    def words_for(self, root: x509.Certificate) -> str:
        """Return whose a root of these is."""
        return self._words[root]


@dataclass(frozen=True, slots=True)
class Presented:
    """What is looked at: certificates in their order, for `host` and with the public key if there are such."""

    certificates: tuple[x509.Certificate, ...] = field(repr=False)
    host: str | None = None
    key: PublicKeyTypes | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: each certificate in its order, the path by subject names up to a root, and the findings."""

    facts: tuple[Facts, ...]
    path: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def is_refused(self) -> bool:
        """True if some client would refuse it."""
        return any(finding.severity is Severity.REFUSED for finding in self.findings)


def inspect_chain(presented: Presented, roots: Roots, now: datetime) -> Inspection:
    """Return what is to be said of `presented`, which has a certificate at least; `now` is in UTC.

    Raises CertificateError: a part of it that decides is damaged, or of a kind that nobody knows.
    """
    certificates = presented.certificates
    try:
        leaf = _server_certificate(certificates)
        path, root = _path(leaf, certificates, roots)
        findings = (
            *_order_findings(certificates, leaf, path),
            *_key_findings(presented, leaf),
            *_leaf_findings(leaf, presented.host),
            *(finding for each in path for finding in _date_findings(each, now)),
            *(finding for each in path for finding in _strength_findings(each)),
            *_path_findings(path, root, roots),
            *(_public_findings(leaf) if root is not None and roots.words_for(root) == PUBLIC else ()),
        )
        facts = tuple(map(describe_facts, certificates))
    except PARSE_ERRORS as error:
        raise CertificateError(f"a part of it cannot be read: {str(error).splitlines()[0]}") from error
    names = [_name(each) for each in path]
    if root is not None and root not in path:
        names.append(_name(root))
    return Inspection(facts, tuple(names), findings)


def describe_facts(certificate: x509.Certificate) -> Facts:
    """Return `certificate` in words."""
    return Facts(
        subject=_name(certificate),
        issuer=certificate.issuer.rfc4514_string(),
        names=_alternative_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(SHA256()).hex(),
        key=describe_key(certificate),
        signature=certificate.signature_algorithm_oid._name,
        is_authority=is_authority(certificate),
        scts=_timestamps(certificate),
        must_staple=_must_staple(certificate),
        issuer_urls=_issuer_urls(certificate),
    )


def describe_key(certificate: x509.Certificate) -> str:
    """Return the kind and the size of a certificate's key."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "of an unknown kind"
    match key:
        case ec.EllipticCurvePublicKey(curve=curve):
            return f"ECDSA {curve.name}"
        case rsa.RSAPublicKey(key_size=bits):
            return f"RSA {bits}"
        case _:
            return type(key).__name__.removesuffix("PublicKey")


def matches_host(certificate: x509.Certificate, host: str) -> bool:
    """Return whether `certificate` is for `host` by its alternative names (RFC 9525 section 6): nothing else counts."""
    names = _alternative_names(certificate)
    try:
        return str(ip_address(host)) in names
    except ValueError:
        wanted = host.lower().removesuffix(".")
    return wanted in names or f"*.{wanted.partition('.')[2]}" in names


def _server_certificate(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    return next((each for each in certificates if not is_authority(each)), certificates[0])


def _path(
    leaf: x509.Certificate, certificates: Sequence[x509.Certificate], roots: Roots
) -> tuple[list[x509.Certificate], x509.Certificate | None]:
    """The certificates from the server's up to the last that is there, and the trusted root above it, if any."""
    path = [leaf]
    while len(path) < MAX_PATH:
        last = path[-1]
        if last in roots:
            return path, last
        if (root := roots.issuer_of(last)) is not None:
            return path, root
        issuer = _signer(last, [each for each in certificates if each not in path])
        if issuer is None:
            return path, None
        path.append(issuer)
    return path, None


def _signer(certificate: x509.Certificate, candidates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    for candidate in candidates:
        try:
            certificate.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return candidate
    return None


def _is_self_signed(certificate: x509.Certificate) -> bool:
    return _signer(certificate, [certificate]) is not None


def _order_findings(
    certificates: Sequence[x509.Certificate], leaf: x509.Certificate, path: Sequence[x509.Certificate]
) -> Iterator[Finding]:
    if certificates[0] != leaf:
        number = certificates.index(leaf) + 1
        yield _refused("order", f"the server's own certificate is number {number} of {len(certificates)}; put it first")
    elif [each for each in dict.fromkeys(certificates) if each in path] != list(path):
        yield _warning("order", "the certificates do not follow each other; put each after the one that it signed")
    if len(set(certificates)) != len(certificates):
        yield _warning("duplicate", "a certificate is in it twice; remove one")
    for number, each in enumerate(certificates, 1):
        if _is_self_signed(each) and len(certificates) > 1:
            yield _note("root", f"number {number} is a root: clients have their own; leave it out")
        elif each not in path:
            yield _warning("stranger", f"number {number} signed nothing in this chain; leave it out")


def _key_findings(presented: Presented, leaf: x509.Certificate) -> Iterator[Finding]:
    if presented.key is not None and presented.key != leaf.public_key():
        yield _refused("key", "the private key does not belong to it; name the key that it was made with by --key")


def _leaf_findings(leaf: x509.Certificate, host: str | None) -> Iterator[Finding]:
    names = _alternative_names(leaf)
    if not names:
        yield _refused("names", "no subject alternative name, and clients look at no other; get another one")
    elif host is not None and not matches_host(leaf, host):
        yield _refused("host", f"not for {host!r} but for {', '.join(names)}; get one for that name")
    if is_authority(leaf):
        yield _warning("authority", "it is an authority's certificate, not a server's; some clients refuse it")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *purposes
    }:
        yield _refused("purpose", "not for servers by its extended key usage; get one for serverAuth")
    if _must_staple(leaf):
        yield _refused("must-staple", "must-staple: Firefox refuses it as nobody staples OCSP here; get one without it")
    if _extension(leaf, x509.AuthorityKeyIdentifier) is None:
        yield _warning("strict", "no authority key identifier: Python 3.13 and later refuse it")


def _date_findings(certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        yield _refused("early", f"{_name(certificate)}: not valid before {show_time(start)}; check the clock, or wait")
    if now > end:
        yield _refused("expired", f"{_name(certificate)}: expired at {show_time(end)}; renew it")


def _strength_findings(certificate: x509.Certificate) -> Iterator[Finding]:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        yield _refused("weak-key", f"{_name(certificate)}: its RSA key has {key.key_size} bits, {MIN_RSA_BITS} needed")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        yield _refused("curve", f"{_name(certificate)}: its curve {key.curve.name} is none of TLS 1.3's")
    # A root's own signature proves nothing, and nobody looks at it.
    if isinstance(certificate.signature_hash_algorithm, SHA1 | MD5) and not _is_self_signed(certificate):
        hashed = certificate.signature_hash_algorithm.name.upper()
        yield _refused("weak-signature", f"{_name(certificate)}: signed by way of {hashed}; get another one")


def _path_findings(path: Sequence[x509.Certificate], root: x509.Certificate | None, roots: Roots) -> Iterator[Finding]:
    last = path[-1]
    if root is not None:
        yield from _constraint_findings([*path, root])
        yield _note("trusted", f"leads to {_name(root)}, {roots.words_for(root)}")
    elif _is_self_signed(last):
        what = "self-signed" if len(path) == 1 else f"ends in the root {_name(last)}"
        yield _refused("root", f"{what}, which is not trusted here; edge trust add FILE trusts a root")
    else:
        urls = _issuer_urls(last)
        where = f"it is at {urls[0]}" if urls else "ask the authority for the full chain"
        issuer = last.issuer.rfc4514_string()
        yield _refused("missing", f"the certificate of {issuer}, which signed it, is missing; append it: {where}")


def _constraint_findings(path: Sequence[x509.Certificate]) -> Iterator[Finding]:
    names = _extension(path[0], x509.SubjectAlternativeName) or ()
    for issuer in path[1:]:
        if not permitted_subtrees(issuer):
            continue
        for name in names:
            try:
                check_permitted([name], issuer)
            except CertificateError:
                yield _refused("constraints", f"{_name(issuer)} may not sign for {str(name.value)!r}; use another name")


def _public_findings(leaf: x509.Certificate) -> Iterator[Finding]:
    if not _timestamps(leaf):
        yield _refused(
            "transparency", "no timestamps of certificate transparency (SCT) in it: Chrome and Safari refuse it"
        )
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    longest = next((most for since, most in MAX_PUBLIC_LIFETIMES if leaf.not_valid_before_utc >= since), None)
    # A day more: authorities count the first second and the last one.
    if longest is not None and lifetime > longest + timedelta(days=1):
        yield _refused(
            "lifetime", f"it lives for {lifetime.days} days, at most {longest.days} allowed; get a shorter one"
        )


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        return ()
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return (*hosts, *(str(address) for address in names.get_values_for_type(x509.IPAddress)))


def _timestamps(certificate: x509.Certificate) -> int:
    found = _extension(certificate, x509.PrecertificateSignedCertificateTimestamps)
    return 0 if found is None else len(list(found))


def _must_staple(certificate: x509.Certificate) -> bool:
    features = _extension(certificate, x509.TLSFeature)
    return features is not None and x509.TLSFeatureType.status_request in features


def _issuer_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    access = _extension(certificate, x509.AuthorityInformationAccess)
    wanted = AuthorityInformationAccessOID.CA_ISSUERS
    return tuple(str(item.access_location.value) for item in access or () if item.access_method == wanted)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or ", ".join(_alternative_names(certificate)) or "(no name)"


def _finding(severity: Severity) -> Callable[[str, str], Finding]:
    return lambda code, text: Finding(severity, code, text)


_refused, _warning, _note = map(_finding, Severity)
