"""What is passed on of a client that was asked for a certificate: the fields of RFC 9440, and ASGI's TLS extension."""

from __future__ import annotations

import json
from base64 import b64encode
from textwrap import wrap
from typing import NamedTuple


class Identity(NamedTuple):
    """A connection whose client was asked for a certificate. Without one, `chain` and `subject` are empty.

    `chain` holds DER, the client's own first, without the root; `subject` is as in RFC 4514. `version` and `cipher` are
    the protocol's numbers.
    """

    server_name: str | None
    version: int
    cipher: int
    chain: tuple[bytes, ...] = ()
    subject: str = ""


def encode_fields(identity: Identity) -> tuple[tuple[bytes, bytes], ...]:
    """Return Client-Cert and Client-Cert-Chain (RFC 9440 section 2); none without a certificate."""
    if not identity.chain:
        return ()
    # RFC 8941 section 3.3.5: a byte sequence.
    leaf, *others = [b":%b:" % b64encode(certificate) for certificate in identity.chain]
    return ((b"client-cert", leaf), *([(b"client-cert-chain", b", ".join(others))] if others else ()))


def encode_extension(identity: Identity) -> bytes:
    """Return ASGI's TLS extension, version 0.2, as JSON in one line of ASCII."""
    extension = {
        # Which of several certificates a client was shown, Python's ssl does not tell.
        "server_cert": None,
        "client_cert_chain": [_encode_pem(certificate) for certificate in identity.chain],
        "client_cert_name": identity.subject if identity.chain else None,
        "client_cert_error": None,
        "tls_version": identity.version or None,
        "cipher_suite": identity.cipher or None,
    }
    return json.dumps(extension, separators=(",", ":")).encode()


def _encode_pem(certificate: bytes) -> str:
    lines = "\n".join(wrap(b64encode(certificate).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
