"""What serves until the first certificate is there: signed by itself, so that no client takes it for more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_certs.csr import is_address
from edge_certs.x509 import Certificate, describe

# An attempt takes seconds, a wrong DNS record days to be mended; nobody trusts it for a minute anyway.
LIFETIME = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)

SUBJECT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge: no certificate yet")])


def make_placeholder(names: Sequence[str], now: datetime) -> Certificate:
    """Return a self-signed certificate for `names`, as `csr.parse_name` gives them, that is in no file."""
    key = ec.generate_private_key(ec.SECP256R1())
    general = [x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name) for name in names]
    leaf = (
        x509.CertificateBuilder(SUBJECT, SUBJECT, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return describe([leaf], key_pem, None, None)
