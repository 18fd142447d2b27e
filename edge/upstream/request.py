"""A request as an upstream gets it: HTTP/1.1 (RFC 9112), made of what a worker would have got."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_from_bytes

from edge.dispatch.router import plain_path
from edge.http.events import UNKNOWN_LENGTH, RequestHead
from edge_backend import wire

# Where the fields begin in a request's head, and where its target stands: see edge_backend.wire.split_request.
_FIELDS: Final = 8
_TARGET: Final = 1
# RFC 3986 section 3.3: what may stand in a path as it is.
_PATH_SAFE: Final = "/!$&'()*+,;=:@~"


def encode_request(head: RequestHead, request: bytes, *, host: bytes, prefix: bytes, key: bytes) -> bytes:
    """Return the head of a request, and the content that came with it.

    `request` is what the policies made of it, `host` stands in place of the client's Host unless it is empty, `prefix`
    is left out of the target, and `key` is the Sec-WebSocket-Key of a handshake.
    """
    parts = wire.split_request(request)
    fields = parts[_FIELDS:]
    lines = [b"%b %b HTTP/1.1" % (head.method, strip_prefix(parts[_TARGET], prefix))]
    has_host = False
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"host":
            value, has_host = host or value, True
        elif name == b"sec-websocket-key":
            continue
        lines.append(b"%b: %b" % (name, value))
    if not has_host:
        lines.append(b"host: %b" % host)
    if head.upgrade:
        lines += (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-key: " + key)
        return b"%b\r\n\r\n" % b"\r\n".join(lines)
    if not is_chunked(head):
        if head.length == UNKNOWN_LENGTH:
            lines.append(b"content-length: %d" % len(head.body))  # all of it is here
        return b"%b\r\n\r\n%b" % (b"\r\n".join(lines), head.body)
    lines.append(b"transfer-encoding: chunked")
    return b"%b\r\n\r\n%b" % (b"\r\n".join(lines), encode_chunk(head.body, end=False))


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
    if not (path + b"/").startswith(prefix + b"/"):
        # The route was found by the path as it reads, which is spelled another way: with escapes, or `//`.
        path = quote_from_bytes(plain_path(target), safe=_PATH_SAFE).encode()
    return b"/" + path[len(prefix) :].lstrip(b"/") + mark + query
