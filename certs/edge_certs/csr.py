"""The key of a new certificate and the request for it (RFC 2986; pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_certs.errors import CertificateError
from edge_certs.x509 import PARSE_ERRORS, Certificate, describe, has_key, parse_chain, parse_key

# The base labels of public host names (RFC 1123 section 2.1), with `*.` as the only wildcard there is (RFC 8555 7.1.3).
HOST = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)")


# P-256 first: every client of today takes it, and it is the cheapest to sign with. Authorities refuse P-521.
DEFAULT_KEY_TYPE = "p256"
KEY_TYPES = (DEFAULT_KEY_TYPE, "p384", "rsa2048", "rsa3072", "rsa4096")

# Public chains have four at most, and OpenSSL's clients take 100 KiB of certificates.
MAX_CHAIN = 10


def parse_name(text: str) -> str:
    """Return a name to ask a certificate for as authorities compare it: lower case, or an address in its short form.

    Raises CertificateError: it is neither a host name in ASCII, `*.` before it for a wildcard, nor an IP address.
    """
    try:
        return str(ip_address(text))
    except ValueError:
        name = text.lower().removesuffix(".")
    if not HOST.fullmatch(name):
        raise CertificateError(
            f"name {text!r}: not a host name or an IP address",
            "write it as in example.com, *.example.com or 192.0.2.1, and international names in their xn-- form",
        )
    return name


def is_address(name: str) -> bool:
    """Return whether `name`, as `parse_name` gives it, is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_covered(name: str, names: Sequence[str]) -> bool:
    """Return whether a certificate for `names` serves `name`, too, as a wildcard does for one label."""
    _, _, parent = name.partition(".")
    return name in names or (not is_address(name) and not name.startswith("*.") and f"*.{parent}" in names)


def generate_key(kind: str = DEFAULT_KEY_TYPE) -> bytes:
    """Return a new private key of one of `KEY_TYPES` as PEM."""
    key: PrivateKeyTypes
    if kind.startswith("rsa"):
        key = rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))
    else:
        key = ec.generate_private_key(ec.SECP384R1() if kind == "p384" else ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encode_csr(key_pem: bytes, names: Sequence[str]) -> bytes:
    """Return the certificate request for `names` by the key, as DER; the subject is empty, as CAs want it today.

    Raises CertificateError: the key cannot be read.
    """
    key, _ = parse_key(key_pem)
    general = [x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name) for name in names]
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=True)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]  # it says what it refuses


def check_issued(chain_pem: bytes, key_pem: bytes, names: Sequence[str]) -> Certificate:
    """Return what the authority sent, proven to be what was asked for: this key, and every one of `names`.

    Raises CertificateError: it is not, or clients could not follow its chain.
    """
    chain = parse_chain(chain_pem)
    key, _ = parse_key(key_pem)
    if not has_key(chain[0], key.public_key()):
        raise CertificateError("the certificate that the authority sent is for another key", "order it again")
    if len(chain) > MAX_CHAIN:
        raise CertificateError(f"the authority sent a chain of {len(chain)} certificates", f"{MAX_CHAIN} is the most")
    if len(chain) > 1 and not any(_may_have_signed(each, chain[0]) for each in chain[1:]):
        raise CertificateError("no certificate of the chain that the authority sent signed the first", "order it again")
    certificate = describe(chain, key_pem, None, None)
    if missing := [name for name in names if name not in certificate.names]:
        raise CertificateError(
            f"the certificate that the authority sent is not for {missing[0]!r}", "order it again, or without that name"
        )
    return certificate


def _may_have_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Also true where only a client can tell: some sign with what this library does not know."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except (TypeError, *PARSE_ERRORS):
        return certificate.issuer == issuer.subject
    return True
