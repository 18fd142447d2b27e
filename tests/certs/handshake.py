"""A TLS handshake in memory between two of Python's own TLS objects: `handshake.py ROOT CHAIN KEY HOST`.

Only the standard library, so that a test can run it under another Python than its own.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import suppress
from pathlib import Path


def handshake(root: Path, chain: Path, key: Path, host: str, *, strict: bool = False) -> None:
    """Let a client that trusts `root` only, and wants `host`, connect to a server with `chain` and `key`.

    `strict` asks for what Python 3.13 and later ask for by themselves.

    Raises ssl.SSLCertVerificationError: the client refused.
    """
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(root)
    # Read from the interpreter's own defaults, so that a newer one is as strict as its users meet it.
    client_context.verify_flags = ssl.create_default_context(cafile=str(root)).verify_flags
    if strict:
        client_context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(chain, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    # Hello there, answer and certificate back, finished there: the verdict falls in the client's second turn.
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.version() == server.version() == "TLSv1.3"
    assert client.getpeercert()


if __name__ == "__main__":
    root, chain, key, host = sys.argv[1:]
    handshake(Path(root), Path(chain), Path(key), host)
    print("accepted")
