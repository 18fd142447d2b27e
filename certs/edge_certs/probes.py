"""Whether an answer to a challenge can be seen at an address: asked as an authority asks, with a nonce of our own."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from dataclasses import dataclass

from cryptography import x509

from edge_certs.acme_client import utc_now
from edge_certs.challenges import (
    ACME_IDENTIFIER,
    HTTP_01,
    OCTET_STRING_32,
    TLS_ALPN_01,
    Challenge,
    ChallengeStore,
    server_name,
)
from edge_certs.errors import system_reason

TIMEOUT = 10.0
MAX_ANSWER = 4096


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks as an authority does; the nonces lie in `store` while it asks, at most `timeout` seconds each."""

    store: ChallengeStore
    timeout: float = TIMEOUT

    async def http(self, address: str, port: int, name: str) -> str:
        """Return why an authority would not see an answer to HTTP-01 for `name` at `address`; empty: it would.

        Raises CertificateError: the nonce cannot be written.
        """
        return await self._ask(HTTP_01, address, port, name)

    async def alpn(self, address: str, port: int, name: str) -> str:
        """Return why an authority would not see an answer to TLS-ALPN-01 for `name`; as `http`."""
        return await self._ask(TLS_ALPN_01, address, port, name)

    async def _ask(self, kind: str, address: str, port: int, name: str) -> str:
        nonce = Challenge(kind, name, secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        self.store.put(nonce, utc_now())
        ask = _ask_http if kind == HTTP_01 else _ask_alpn
        try:
            async with asyncio.timeout(self.timeout):
                return await ask(address, port, nonce)
        except TimeoutError:
            return f"no answer within {self.timeout:g} s"
        except ssl.SSLError as error:
            return f"the handshake ended with {(error.reason or 'an error').lower().replace('_', ' ')}"
        except OSError as error:
            return system_reason(error)
        finally:
            self.store.remove(nonce)


async def _ask_http(address: str, port: int, nonce: Challenge) -> str:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        host = nonce.name if port == 80 else f"{nonce.name}:{port}"
        target = f"/.well-known/acme-challenge/{nonce.token}"
        writer.write(f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode("ascii"))
        await writer.drain()
        answer = await reader.read(MAX_ANSWER)
        while len(answer) < MAX_ANSWER and (more := await reader.read(MAX_ANSWER)):
            answer += more
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].decode("latin-1")
    if content.strip() == nonce.answer.encode("ascii") and " 200" in status:
        return ""
    return f"somebody else answers there: {status!r}" if status else "closed without an answer"


async def _ask_alpn(address: str, port: int, nonce: Challenge) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=server_name(nonce.name))
    try:
        stream: ssl.SSLObject = writer.get_extra_info("ssl_object")
        protocol, shown = stream.selected_alpn_protocol(), stream.getpeercert(binary_form=True)
    finally:
        writer.close()
    if protocol != "acme-tls/1" or shown is None:
        return "somebody else answers there, who does not speak acme-tls/1"
    extensions = x509.load_der_x509_certificate(shown).extensions
    found = [each.value for each in extensions if each.oid == ACME_IDENTIFIER]
    proofs = [each.value for each in found if isinstance(each, x509.UnrecognizedExtension)]
    return "" if OCTET_STRING_32 + nonce.digest in proofs else "another server answers for acme-tls/1 there"
