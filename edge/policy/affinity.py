"""The cookie by which a pool knows a client again: chance, of which nobody learns who the client is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

VALUE_SIZE: Final = 16
"""Bytes of chance in a value, which is 22 characters: nobody has the value of another by accident."""

_PAIR: Final = rb"edge-affinity=([A-Za-z0-9_-]{22})"
# RFC 6265 section 4.2.1: after the name of the field line, or after a semicolon.
_SENT: Final = re.compile(rb"(?:\n|;[ \t]*+)" + _PAIR + rb"(?=;|\Z)")
_ONLY: Final = re.compile(_PAIR)
# The path is that of all sites' routes: whichever pools a client comes to, it has one value.
_ATTRIBUTES: Final = b"; Path=/; HttpOnly; SameSite=Lax"
_SET: Final = re.compile(_PAIR + _ATTRIBUTES + rb"(?:; Secure)?+")


def find_value(lines: Iterable[bytes]) -> bytes:
    """Return the value that a request brings, the first that can be one of ours; empty: none. `lines` are its fields.

    That it is ours is not proven: a client may choose its worker, as it may by asking until it has another value.
    """
    for line in lines:
        if line.startswith(b"cookie\n") and (found := _SENT.search(line)) is not None:
            return found[1]
    return b""


def encode_cookie(value: bytes, *, secure: bool) -> bytes:
    """Return what Set-Cookie says; the cookie ends with the browser's session, and a `secure` one needs TLS."""
    return b"edge-affinity=%b%b%b" % (value, _ATTRIBUTES, b"; Secure" if secure else b"")


def is_all(cookie: bytes) -> bool:
    """Tell whether a Cookie field holds nothing but ours."""
    return _ONLY.fullmatch(cookie) is not None


def is_ours(set_cookie: bytes) -> bool:
    """Tell whether a Set-Cookie field sets ours."""
    return _SET.fullmatch(set_cookie) is not None
