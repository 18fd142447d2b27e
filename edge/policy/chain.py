"""The order of the policies: what happens to a request between its head and a worker, on one screen.

1. redirect: a plain listener beside a TLS one sends known hosts there (hosts.py);
2. forwarded: who the client is, what of the forwarding fields is believed (forwarded.py);
3. the fields that the edge sets itself.

Hop-by-hop fields are gone before this: the HTTP core drops them, so `Connection` cannot name what is set here.
"""

from __future__ import annotations

from functools import lru_cache

from edge.dispatch.exchange import Exchange
from edge.http.fields import TRUST, is_trust_sensitive
from edge_backend.wire import encode_fields


class Policy:
    """The policies of one listener."""

    def __init__(self, *, scheme: bytes, port: int | None, address: bytes) -> None:
        self._scheme = scheme
        self._port = b"%d" % port if port is not None else b""
        self._default_port = b"443" if scheme == b"https" else b"80"
        self._address = address

    def apply(self, exchange: Exchange, peer: tuple[bytes, int] | None) -> bytes:
        """Return the request as the worker gets it."""
        head = exchange.head
        fields = head.fields
        if head.flags & TRUST:
            fields = [field for field in fields if not is_trust_sensitive(field[0])]
        client, port = peer if peer is not None else (b"", 0)
        server_host, server_port = _split_host(head.host) if head.host else (self._address, self._port)
        parts = [
            head.method,
            head.target,
            head.version,
            self._scheme,
            client,
            b"%d" % port,
            server_host,
            server_port or self._default_port,
        ]
        fields += (
            (b"x-forwarded-for", client),
            (b"x-forwarded-proto", self._scheme),
            (b"x-forwarded-host", head.host),
            (b"x-forwarded-port", self._port),
            (b"x-request-id", exchange.request_id),
        )
        return encode_fields(parts, fields)


@lru_cache(maxsize=1024)
def _split_host(host: bytes) -> tuple[bytes, bytes]:
    """Return host and port of an authority that has been checked; the port is empty when it names none."""
    name, colon, port = host.rpartition(b":")
    if not colon or host.endswith(b"]"):
        return host, b""
    return name, port
