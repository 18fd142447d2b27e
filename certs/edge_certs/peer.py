"""What a server shows: its chain as it is sent, and what OpenSSL, trusting this machine's roots, says to it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

from cryptography import x509

from edge_certs.errors import CertificateError, reason
from edge_certs.x509 import PARSE_ERRORS

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A server's chain in the order in which it came; `verdict` is why OpenSSL refuses it, empty if it does not."""

    certificates: tuple[x509.Certificate, ...] = field(repr=False)
    version: str
    cipher: str
    verdict: str


def look_at(host: str, port: int, server_name: str, bundle_pem: str, timeout: float = TIMEOUT) -> Peer:
    """Return what the server at `host` and `port` shows to a client that asks for `server_name`.

    `bundle_pem` are the roots that the verdict trusts.

    Raises CertificateError: no connection, or no TLS there.
    """
    certificates, version, cipher = _shown(host, port, server_name, timeout)
    context = ssl.create_default_context(cadata=bundle_pem)
    try:
        _handshake(context, host, port, server_name, timeout).close()
        verdict = ""
    except ssl.SSLCertVerificationError as error:
        verdict = error.verify_message or str(error)
    return Peer(certificates, version, cipher, verdict)


def _shown(host: str, port: int, server_name: str, timeout: float) -> tuple[tuple[x509.Certificate, ...], str, str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # What is wrong with a weak key is to be said, so it has to be seen.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with _handshake(context, host, port, server_name, timeout) as stream:
        chain = _unverified_chain(stream)
        cipher = stream.cipher()
        try:
            certificates = tuple(x509.load_der_x509_certificate(der) for der in chain)
        except PARSE_ERRORS as error:
            raise CertificateError(f"{host}:{port}: sends a damaged certificate", "look at its files") from error
        return certificates, stream.version() or "", cipher[0] if cipher else ""


def _unverified_chain(stream: ssl.SSLSocket) -> list[bytes]:
    if hasattr(stream, "get_unverified_chain"):
        return list(stream.get_unverified_chain())
    # Python 3.13 made it public (python/cpython#109109); 3.11 and 3.12 have it here. Drop with 3.12.
    inner = stream._sslobj  # type: ignore[attr-defined]
    return [bytes(ssl.PEM_cert_to_DER_cert(item.public_bytes())) for item in inner.get_unverified_chain() or ()]


def _handshake(context: ssl.SSLContext, host: str, port: int, server_name: str, timeout: float) -> ssl.SSLSocket:
    """Connect; raises ssl.SSLCertVerificationError: the certificate is refused, CertificateError: all else."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        plain = socket.create_connection((host, port), timeout=timeout)
    except TimeoutError:
        raise CertificateError(f"{where}: no connection within {timeout:g} s", "check host and port") from None
    except OSError as error:
        raise CertificateError(f"{where}: no connection: {reason(error)}", "check host and port") from error
    try:
        return context.wrap_socket(plain, server_hostname=server_name)
    except ssl.SSLCertVerificationError:
        raise
    except TimeoutError:
        raise CertificateError(f"{where}: no TLS handshake within {timeout:g} s", "is it TLS?") from None
    except (ssl.SSLError, OSError) as error:
        words = error.reason if isinstance(error, ssl.SSLError) and error.reason else reason(error)
        raise CertificateError(f"{where}: no TLS handshake: {words.lower().replace('_', ' ')}", "is it TLS?") from error
    finally:
        plain.close()
