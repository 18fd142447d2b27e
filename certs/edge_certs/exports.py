"""A certificate with its key in the forms that other programs read (pure)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from edge_certs.errors import CertificateError
from edge_certs.x509 import Certificate, parse_chain, parse_key

FORMATS = ("pem", "pkcs12", "kubernetes", "secret")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file to write; a secret one is for its owner alone."""

    name: str
    content: bytes = field(repr=False)
    is_secret: bool


def export_pem(certificate: Certificate) -> list[ExportedFile]:
    """Return the four files of certbot's `live/NAME`, which nginx, Postgres and most others are documented with."""
    chain = [each.public_bytes(Encoding.PEM) for each in parse_chain(certificate.chain_pem)]
    return [
        ExportedFile("cert.pem", chain[0], is_secret=False),
        ExportedFile("chain.pem", b"".join(chain[1:]), is_secret=False),
        ExportedFile("fullchain.pem", certificate.chain_pem, is_secret=False),
        ExportedFile("privkey.pem", certificate.key_pem, is_secret=True),
    ]


def export_pkcs12(certificate: Certificate, password: str) -> list[ExportedFile]:
    """Return one PKCS#12 file (RFC 7292) with key and chain, as Java, Windows and macOS read it.

    It is encrypted with AES-256, which Java has read since 8u301 and Windows since 2019.

    Raises CertificateError: the password is empty.
    """
    if not password:
        raise CertificateError("no password for the PKCS#12 file", "give one: programs refuse a file without it")
    leaf, *others = parse_chain(certificate.chain_pem)
    key, _ = parse_key(certificate.key_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise CertificateError("the key is of a kind that PKCS#12 does not hold", "export it as PEM")
    name = _first_name(certificate)
    content = serialize_key_and_certificates(
        name.encode(), key, leaf, others, BestAvailableEncryption(password.encode())
    )
    return [ExportedFile(f"{name.replace('*', 'wildcard_')}.p12", content, is_secret=True)]


def export_kubernetes(certificate: Certificate) -> list[ExportedFile]:
    """Return the files of a mounted Secret of the type kubernetes.io/tls."""
    return [
        ExportedFile("tls.crt", certificate.chain_pem, is_secret=False),
        ExportedFile("tls.key", certificate.key_pem, is_secret=True),
    ]


def export_secret(certificate: Certificate, name: str) -> list[ExportedFile]:
    """Return the manifest of a Secret of the type kubernetes.io/tls called `name`, for `kubectl apply -f`."""
    lines = ["apiVersion: v1", "kind: Secret", "metadata:", f"  name: {name}", "type: kubernetes.io/tls", "data:"]
    data: Mapping[str, bytes] = {item.name: item.content for item in export_kubernetes(certificate)}
    lines += [f"  {key}: {base64.b64encode(content).decode('ascii')}" for key, content in data.items()]
    return [ExportedFile(f"{name}.yaml", "\n".join(lines).encode() + b"\n", is_secret=True)]


def secret_name(certificate: Certificate) -> str:
    """Return a name for a Secret that Kubernetes takes (RFC 1123 label), made of the certificate's first name."""
    text = _first_name(certificate).replace("*", "wildcard").replace(":", "-").replace("_", "-").replace(".", "-")
    return f"{text[:59].strip('-')}-tls"


def _first_name(certificate: Certificate) -> str:
    return certificate.names[0] if certificate.names else "certificate"
