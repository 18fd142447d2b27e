"""The answers to TLS-ALPN-01 (RFC 8737): who offers acme-tls/1, and nothing else, sees the proof and is sent away.

The proof must be shown to nobody else, so it is chosen by the ClientHello: in the server-name callback, what the client
offers would not be known. It is read from its file each time, as any process on any host that shares the folder may
have put it there a moment ago.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from edge.tls.clienthello import NO_APPLICATION_PROTOCOL, ClientHello, ClientHelloError

PROTOCOL = "acme-tls/1"
# As the hello has it, with its length: what is not in a hello's bytes is not offered.
OFFER = b"\x0aacme-tls/1"


class AnswerStore(Protocol):
    """Where the answers are; `edge_certs.challenges.ChallengeStore` is one."""

    def find_http(self, token: str) -> bytes | None: ...
    def find_alpn(self, host: str) -> Path | None: ...


def challenge_context(hello: ClientHello, answers: AnswerStore) -> ssl.SSLContext | None:
    """Return the context that answers a challenge; None: the client wants something else.

    Raises ClientHelloError: it wants the answer to a challenge that is not there.
    """
    if hello.alpn != (PROTOCOL.encode(),):
        return None
    path = answers.find_alpn(hello.server_name or "")
    if path is None:
        message = f"client hello: acme-tls/1 for {hello.server_name!r}, for which no challenge is under way"
        raise ClientHelloError(NO_APPLICATION_PROTOCOL, message)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    context.num_tickets = 0
    try:
        context.load_cert_chain(path)
    except (OSError, ssl.SSLError):
        # It was taken away between the two: the authority has seen enough.
        raise ClientHelloError(NO_APPLICATION_PROTOCOL, "client hello: the challenge is over") from None
    return context
