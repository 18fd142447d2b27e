"""What a client has proven of itself with its certificate, read from its connection."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge.http.client_cert import Identity

# As the protocols number them (RFC 8446 section 4.2.1).
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def identify(connection: ssl.SSLObject, server_name: str | None) -> Identity:
    """Return what a connection has proven, whose handshake is done.

    Raises ValueError: the certificate cannot be read, or has expired since the session began that is resumed.
    """
    version = _VERSIONS.get(connection.version() or "", 0)
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return Identity(server_name, version, _cipher_number(connection))
    certificate = x509.load_der_x509_certificate(leaf)
    # TLS 1.2 resumes by session id without verifying again, and Python cannot turn that off.
    if connection.session_reused and certificate.not_valid_after_utc < datetime.now(UTC):
        raise ValueError("the client's certificate has expired since it was verified")
    chain = _verified_chain(connection, leaf)
    return Identity(server_name, version, _cipher_number(connection), chain, certificate.subject.rfc4514_string())


def _verified_chain(connection: ssl.SSLObject, leaf: bytes) -> tuple[bytes, ...]:
    # Public from Python 3.13 on (python/cpython#109109), and there before under another name; without it, and for a
    # session that is resumed, there is the leaf alone.
    read = getattr(getattr(connection, "_sslobj", None), "get_verified_chain", None)
    found: list[Any] = (read() or []) if read is not None else []
    chain = [x509.load_pem_x509_certificate(item.public_bytes().encode()) for item in found[1:]]
    # A root tells nothing to whoever trusts it.
    return (leaf, *(item.public_bytes(Encoding.DER) for item in chain if item.issuer != item.subject))


def _cipher_number(connection: ssl.SSLObject) -> int:
    name, *_ = connection.cipher() or ("",)
    return next((suite["id"] & 0xFFFF for suite in connection.context.get_ciphers() if suite["name"] == name), 0)
