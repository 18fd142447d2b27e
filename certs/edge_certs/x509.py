"""Certificates with their keys: read from files, checked, and handed on as one value.

What is checked is what a server can know alone: the certificate is the first of its chain, the key belongs to it and is
usable, now is within its dates. Whether a client trusts the chain, only a client can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import find_key, read_file
from edge_certs.pem import PKCS12, Block, not_pem, parse_blocks
from edge_certs.pkcs12 import parse_pkcs12, plain_pem

CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")
KEY_LABELS = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY")

# OpenSSL's default security level on Debian and Fedora (2) refuses to load less: 112 bits (NIST SP 800-57 part 1).
MIN_RSA_BITS = 2048

# The curves that TLS 1.3 clients sign with (RFC 8446 section 4.2.3); a handshake with others finds no common algorithm.
CURVES = ("secp256r1", "secp384r1", "secp521r1")

USABLE_KEYS = f"use ECDSA on P-256, P-384 or P-521, RSA from {MIN_RSA_BITS} bits, or Ed25519"

# What `cryptography` raises for what breaks RFC 5280: its own classes have no common base.
PARSE_ERRORS = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain and its private key, proven to belong together and to be usable.

    `chain_pem` has the server's certificate first, `key_pem` is not encrypted. `names` are the DNS names (lower case,
    `*.` for a wildcard) and then the IP addresses. `key_type` is "ecdsa", "rsa" or "ed25519". Dates are in UTC.
    `fingerprint` is the SHA-256 of the server's certificate in hexadecimal. Paths are None when there is no file.
    """

    cert_path: Path | None
    key_path: Path | None
    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    names: tuple[str, ...]
    key_type: str
    not_before: datetime
    not_after: datetime
    fingerprint: str


def read_certificate(cert: Path, key: Path | None, now: datetime, password: str = "") -> Certificate:
    """Return the certificate chain in the file `cert` with its key, from the file `key` or where `find_key` finds it.

    `cert` may be PKCS#12, which holds both. `password` opens what is encrypted. `now` is in UTC. The files are read
    once: a later change needs another call.

    Raises CertificateError: a file cannot be read, holds something else, the two do not belong together, the server's
    certificate is not the first, its key is unusable, or `now` is outside of its dates.
    """
    content = read_file(cert, "certificate")
    if key is None and PKCS12.match(content):
        key_path = cert
        with naming(f"certificate {place(cert)}"):
            chain, private = parse_pkcs12(content, password)
            key_pem = plain_pem(private)
    else:
        with naming(f"certificate {place(cert)}"):
            chain = parse_chain(content)
        key_path = find_key(cert) if key is None else key
        key_content = read_file(key_path, "key")
        with naming(f"key {place(key_path)}"):
            private, key_pem = parse_key(key_content, password)
    with naming(f"certificate {place(cert)}"):
        _check_pair(chain, private.public_key(), place(key_path))
        check_dates(chain[0], now)
        return describe(chain, key_pem, cert, key_path)


def parse_chain(content: bytes) -> list[x509.Certificate]:
    """Return the certificates in the PEM text `content`, at least one, in the order in which they stand there.

    Raises CertificateError: it is not PEM, is cut off, has no certificate, or a damaged one.
    """
    blocks = parse_blocks(content)
    if not blocks:
        raise not_pem(content, "x509")
    chain = [_load_certificate(block) for block in blocks if block.label in CERTIFICATE_LABELS]
    if chain:
        return chain
    found = f"no certificate in it, but {_labels(blocks)}"
    if any(block.label.endswith("PRIVATE KEY") for block in blocks):
        raise CertificateError(found, "name the certificate with --cert and the key with --key")
    raise CertificateError(found, "name the file with the certificate that the authority sent")


def parse_key(content: bytes, password: str = "") -> tuple[PrivateKeyTypes, bytes]:
    """Return the first private key in the PEM text `content`, parsed and as PEM that is not encrypted.

    Raises CertificateError: it is not PEM, is cut off, has no key, or one that `password` does not open or is damaged.
    """
    blocks = parse_blocks(content)
    if not blocks:
        raise not_pem(content, "pkey")
    for block in blocks:
        if block.label in KEY_LABELS:
            return _load_key(block, password)
    raise CertificateError(f"no private key in it, but {_labels(blocks)}", "name the key file with --key")


def describe(
    chain: Sequence[x509.Certificate], key_pem: bytes, cert_path: Path | None, key_path: Path | None
) -> Certificate:
    """Return `chain`, the server's certificate first, and its key as one value.

    Raises CertificateError: the key is of a kind that clients refuse, or an extension is damaged.
    """
    leaf = chain[0]
    return Certificate(
        cert_path=cert_path,
        key_path=key_path,
        chain_pem=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        key_pem=key_pem,
        names=_names(leaf),
        key_type=_key_type(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        fingerprint=leaf.fingerprint(SHA256()).hex(),
    )


def check_dates(certificate: x509.Certificate, now: datetime) -> None:
    """Accept `certificate` when `now`, in UTC, is within its dates, both ends included.

    Raises CertificateError: it is not valid yet, or expired.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        raise CertificateError(
            f"not valid before {show_time(start)}, now is {show_time(now)}", "check the clock, or wait until then"
        )
    if now > end:
        raise CertificateError(f"expired at {show_time(end)}, now is {show_time(now)}", "renew it")


def has_key(certificate: x509.Certificate, public: PublicKeyTypes) -> bool:
    """Return whether `certificate` is for the key whose public part is `public`; a key of an unknown kind is none."""
    try:
        return certificate.public_key() == public
    except PARSE_ERRORS:
        return False


def is_authority(certificate: x509.Certificate) -> bool:
    """Return whether `certificate` may sign others (RFC 5280 section 4.2.1.9).

    Raises CertificateError: an extension is damaged.
    """
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except PARSE_ERRORS as error:
        raise _damaged_extension(error) from error


def show_time(moment: datetime) -> str:
    """Return `moment`, in UTC, as our messages show it."""
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def _load_certificate(block: Block) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block.pem)
    except PARSE_ERRORS as error:
        raise CertificateError(
            f"line {block.line}: the certificate that begins here is damaged", "copy the file again, all of it"
        ) from error


def _load_key(block: Block, password: str) -> tuple[PrivateKeyTypes, bytes]:
    is_encrypted = b"ENCRYPTED" in block.pem
    if is_encrypted and not password:
        raise CertificateError(
            "the private key is encrypted with a password, which edge cannot ask for",
            "give it with --key-password or EDGE_KEY_PASSWORD, or write it without one, readable by this user only: "
            "openssl pkey -in FILE -out FILE.key",
        )
    try:
        key = load_pem_private_key(block.pem, password.encode() if is_encrypted else None)
        return key, plain_pem(key) if is_encrypted else block.pem
    except PARSE_ERRORS:
        if is_encrypted:
            raise CertificateError("the password does not open the private key", "check --key-password") from None
        # The cause could quote parts of the key: it ends here.
        raise CertificateError(
            f"line {block.line}: the private key that begins here is damaged or of an unknown kind", USABLE_KEYS
        ) from None


def _labels(blocks: Sequence[Block]) -> str:
    return " and ".join(dict.fromkeys(repr(block.label) for block in blocks))


def _check_pair(chain: Sequence[x509.Certificate], public: PublicKeyTypes, key_place: str) -> None:
    if has_key(chain[0], public):
        return
    own = [number for number, certificate in enumerate(chain, 1) if has_key(certificate, public)]
    if not own and is_authority(chain[0]):
        own = [number for number, certificate in enumerate(chain, 1) if not is_authority(certificate)]
    if own:
        raise CertificateError(
            f"the chain is in the wrong order: the server's own certificate is number {own[0]} of {len(chain)}",
            "put it first, then the one that signed it, and so on",
        )
    raise CertificateError(f"the key in {key_place} does not belong to it", "name the key it was made with by --key")


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        # Clients have not looked at it since RFC 6125; it still says which site a file from long ago is for.
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(attribute.value).lower() for attribute in common[-1:])
    except PARSE_ERRORS as error:
        raise _damaged_extension(error) from error
    hosts = (name.lower() for name in names.get_values_for_type(x509.DNSName))
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return tuple(dict.fromkeys((*hosts, *addresses)))


def _key_type(leaf: x509.Certificate) -> str:
    match leaf.public_key():
        case ec.EllipticCurvePublicKey(curve=curve) if curve.name in CURVES:
            return "ecdsa"
        case rsa.RSAPublicKey(key_size=bits) if bits >= MIN_RSA_BITS:
            return "rsa"
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case ec.EllipticCurvePublicKey(curve=curve):
            found = f"its key is on the curve {curve.name}"
        case rsa.RSAPublicKey(key_size=bits):
            found = f"its RSA key has {bits} bits"
        case other:
            found = f"its key is of the kind {type(other).__name__}"
    raise CertificateError(f"{found}, which clients or TLS libraries refuse", USABLE_KEYS)


def _damaged_extension(error: Exception) -> CertificateError:
    return CertificateError(f"an extension is damaged: {str(error).splitlines()[0]}", "ask its authority for another")
