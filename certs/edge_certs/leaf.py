"""What the local authority signs: server certificates for names that its root permits, and the names themselves (pure).

An issuer is a root or an intermediate; what it may sign for stands in its own critical name constraints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_certs.errors import CertificateError
from edge_certs.x509 import Certificate, describe

# In memory and made anew at each start: short, so that one that leaks is soon worth nothing.
LEAF_LIFETIME = timedelta(days=30)

# Containers and virtual machines run behind their host's clock after a sleep.
CLOCK_SKEW = timedelta(hours=1)

ORGANIZATION = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "edge local authority")

# Labels of letters, digits, hyphens, and the underscore that compose files like; at most 253 octets (RFC 1035 2.3.4).
HOST = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z0-9_-]{1,63}(?<!-)")


def sign_leaf(
    names: Sequence[str],
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta = LEAF_LIFETIME,
) -> Certificate:
    """Return a new certificate with a new key for the hosts and IP addresses `names`; its chain is itself alone.

    It is valid for `lifetime` from `now` (UTC), or as long as its issuer.

    Raises CertificateError: there is no name, or one of them is outside of what the issuer may sign.
    """
    if not names:
        raise CertificateError("no name to make a certificate for", "name at least one, such as 'localhost'")
    subjects = list(dict.fromkeys(general_name(name) for name in names))
    check_permitted(subjects, issuer)
    own = ec.generate_private_key(ec.SECP256R1())
    until = min(now + lifetime, issuer.not_valid_after_utc)
    leaf = _builder(subjects, own.public_key(), issuer).not_valid_before(now - CLOCK_SKEW).not_valid_after(until)
    signed = leaf.sign(key, SHA256())
    return describe([signed], encode_key(own), None, None)


def general_name(name: str) -> x509.GeneralName:
    """Return a host name, `*.` before it for a wildcard, or an IP address as certificates hold them.

    Raises CertificateError: it is neither.
    """
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        host = name.lower()
    if HOST.fullmatch(host):
        return x509.DNSName(host)
    raise CertificateError(
        f"name {name!r}: neither a host name in ASCII nor an IP address", "write it without scheme, port or brackets"
    )


def permitted_subtrees(issuer: x509.Certificate) -> list[x509.GeneralName]:
    """Return what `issuer` may sign for, by its critical name constraints (RFC 5280 4.2.1.10); nothing without them."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return []
    return list(constraints.value.permitted_subtrees or ()) if constraints.critical else []


def check_permitted(names: Sequence[x509.GeneralName], issuer: x509.Certificate) -> None:
    """Accept `names` when `issuer` may sign for all of them.

    Raises CertificateError: it may not.
    """
    permitted = permitted_subtrees(issuer)
    for name in names:
        if not any(_is_within(name, subtree) for subtree in permitted):
            allowed = ", ".join(str(subtree.value) for subtree in permitted)
            raise CertificateError(
                f"name {str(name.value)!r}: the local root may sign only for {allowed} and what is below them",
                "choose such a name, or pass a certificate from a public authority with --cert",
            )


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """Return what the key of an authority, or of a server, is for."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    names: Sequence[x509.GeneralName], public: ec.EllipticCurvePublicKey, issuer: x509.Certificate
) -> x509.CertificateBuilder:
    # No common name: OpenSSL holds one that looks like a host to the root's constraints when there are only addresses.
    # Both key identifiers: Python 3.13 refuses a chain without them.
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]  # EC
    return (
        x509.CertificateBuilder(issuer.subject, x509.Name([ORGANIZATION]), public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_key, critical=False)
    )


def _is_within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    match name, subtree:
        case x509.DNSName(value=host), x509.DNSName(value=parent):
            return f".{host}".endswith(f".{parent}")
        case (
            x509.IPAddress(value=IPv4Address() | IPv6Address() as address),
            x509.IPAddress(value=IPv4Network() | IPv6Network() as network),
        ):
            return address in network
        case _:
            return False
