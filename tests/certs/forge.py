"""Certificates and keys with whatever a test wants wrong about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
VALID_NOW = (NOW - DAY, NOW + 30 * DAY)
NOBODY = 65534

AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True)
class Forged:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def forge(
    *names: str,
    issuer: Forged | None = None,
    key: PrivateKey | None = None,
    dates: tuple[datetime, datetime] = VALID_NOW,
    extensions: Sequence[x509.ExtensionType] = (),
    common_name: str = "Shop.Example",
) -> Forged:
    """Return a certificate for `names`, whose subject is `common_name`, signed by `issuer` or else by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject if issuer else subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates[0])
        .not_valid_after(dates[1])
    )
    if names:
        extensions = (*extensions, x509.SubjectAlternativeName([_general_name(name) for name in names]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signing_key = issuer.key if issuer else key
    hashed = not isinstance(signing_key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return Forged(builder.sign(signing_key, SHA256() if hashed else None), key)


def child_environment() -> dict[str, str]:
    """Return the environment of a child that imports what this process does, and knows no other trust settings."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Make the file system say no where it would not say it to root, whom tests in a container run as."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
