"""The opening handshake of a WebSocket, checked (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

from edge.http.events import ProtocolError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = b"13"
# RFC 6455 section 4.2.2 asks for the first in a 426, RFC 9110 section 15.5.22 for the others.
_VERSION_FIELDS = ((b"sec-websocket-version", VERSION), (b"upgrade", b"websocket"), (b"connection", b"upgrade"))


def check_handshake(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the client's Sec-WebSocket-Key.

    Raises ProtocolError: 426 for a version other than 13, 400 for a key that is not 16 bytes in base64.
    """
    check_version(fields, _VERSION_FIELDS)
    keys = [value for name, value in fields if name == b"sec-websocket-key"]
    if len(keys) != 1 or not _is_key(keys[0]):
        raise ProtocolError(400, f"Sec-WebSocket-Key {keys!r} is not one value of 16 bytes (RFC 6455 section 4.1)")
    return keys[0]


def check_version(fields: Sequence[tuple[bytes, bytes]], answer: tuple[tuple[bytes, bytes], ...]) -> None:
    """Raise ProtocolError (426, with the fields of `answer`) for a version other than 13."""
    versions = [value for name, value in fields if name == b"sec-websocket-version"]
    if versions != [VERSION]:
        found = b", ".join(versions)
        raise ProtocolError(
            426, f"WebSocket version {found!r}, only {VERSION!r} is spoken (RFC 6455 section 4.4)", answer
        )


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers `key` (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
