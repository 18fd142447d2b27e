"""A request as an upstream gets it: HTTP/1.1 (RFC 9112), made of what a worker would have got."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote_from_bytes

from edge.dispatch.router import plain_path
from edge.http.events import UNKNOWN_LENGTH, RequestHead
from edge_backend import wire

# Where the target stands in a request's head: see edge_backend.wire.REQUEST_PARTS.
_TARGET: Final = 1
# By their number: one formatting call for all of them.
_FIELD_LINES: Final = [b"%b: %b\r\n" * count for count in range(65)]
# RFC 3986 section 3.3: what may stand in a path as it is.
_PATH_SAFE: Final = "/!$&'()*+,;=:@~"
# A segment `..`, as `plain_path` reads it.
_CLIMBS: Final = re.compile(rb"(?:/|\\|%2f|%5c)(?:\.|%2e){2}(?=/|\\|%2f|%5c|\Z)", re.IGNORECASE)


def encode_request(head: RequestHead, request: bytes, *, host: bytes, prefix: bytes, key: bytes) -> bytes:
    """Return the head of a request, and the content that came with it.

    `request` is what the policies made of it, `host` stands in place of the client's Host unless it is empty, `prefix`
    is left out of the target, and `key` is the Sec-WebSocket-Key of a handshake.
    """
    parts = wire.split_request(request)
    fields = parts[wire.REQUEST_PARTS :]
    target = strip_prefix(parts[_TARGET], prefix) if prefix else parts[_TARGET]
    if host or head.upgrade or head.trailers or not head.host:
        fields = _with_own(head, fields, host, key)
    framing, body = b"", head.body
    if head.length == UNKNOWN_LENGTH and not head.upgrade:
        if head.complete:
            framing = b"content-length: %d\r\n" % len(body)  # all of it is here
        else:
            framing, body = b"transfer-encoding: chunked\r\n", encode_chunk(body, end=False)
    count = len(fields) // 2
    lines = _FIELD_LINES[count] if count < len(_FIELD_LINES) else _FIELD_LINES[1] * count
    return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (head.method, target, lines % tuple(fields), framing, body)


def _with_own(head: RequestHead, fields: list[bytes], host: bytes, key: bytes) -> list[bytes]:
    """Return the fields with those of this connection.

    A Host, `host` in place of the client's unless it is empty; those of a handshake; and whether trailer fields are
    taken, which each hop says for itself (RFC 9110 section 10.1.4).
    """
    kept: list[bytes] = []
    own = host
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"host":
            own = host or value
        elif name != b"sec-websocket-key" or not head.upgrade:
            kept += (name, value)
    if head.upgrade:
        kept += (b"connection", b"upgrade", b"upgrade", b"websocket", b"sec-websocket-key", key)
    elif head.trailers:
        kept += (b"connection", b"te", b"te", b"trailers")
    return [b"host", own, *kept]


def is_chunked(head: RequestHead) -> bool:
    """Tell whether the content goes out in chunks: nobody knows how long it will be."""
    return head.length == UNKNOWN_LENGTH and not head.complete


def encode_chunk(content: bytes, *, end: bool) -> bytes:
    """Return content as a chunk, and the last one if that was all (RFC 9112 section 7.1)."""
    chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return chunk + b"0\r\n\r\n" if end else chunk


def strip_prefix(target: bytes, prefix: bytes) -> bytes:
    """Return a request target without the path of its route; what is left begins with a slash."""
    if not prefix or target[:1] != b"/":
        return target
    path, mark, query = target.partition(b"?")
    if not (path + b"/").startswith(prefix + b"/") or _CLIMBS.search(path):
        # The route was found by the path as it reads, which is spelled another way: with escapes, or `//`. And what
        # `..` takes back must not be more than what is left: /api/../api/x would be /../api/x.
        path = quote_from_bytes(plain_path(target), safe=_PATH_SAFE).encode()
    return b"/" + path[len(prefix) :].lstrip(b"/") + mark + query
