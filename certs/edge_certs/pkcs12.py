"""PKCS#12 (RFC 7292): one file with a certificate, its chain and its key."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from edge_certs.errors import CertificateError


def parse_pkcs12(content: bytes, password: str) -> tuple[list[x509.Certificate], PrivateKeyTypes]:
    """Return the chain, the server's certificate first and without its root, and the key.

    Raises CertificateError: `password` does not open it, or it lacks one of them.
    """
    try:
        key, leaf, others = load_key_and_certificates(content, password.encode() or None)
    except ValueError:
        found = "the password does not open it" if password else "PKCS#12 that is encrypted with a password"
        raise CertificateError(found, "give its password with --key-password or EDGE_KEY_PASSWORD") from None
    if key is None or leaf is None:
        raise CertificateError("PKCS#12 without a certificate that has its key", "export both into it")
    return _chain(leaf, others), key


def plain_pem(key: PrivateKeyTypes) -> bytes:
    """Return a key as PEM that is not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _chain(leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Put the issuers in their order: the file has them in any."""
    issuers = {other.subject: other for other in others if other.subject != other.issuer}
    chain = [leaf]
    while issuer := issuers.pop(chain[-1].issuer, None):
        chain.append(issuer)
    return chain
