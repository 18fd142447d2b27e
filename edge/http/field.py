"""A field as HTTP/2 carries it, checked once (RFC 9113 section 8.2), and the memory that all connections share.

A field that is wrong is kept all the same, with what is wrong with it: it may lie in a connection's table, and only a
request that names it is refused for it.
"""

from __future__ import annotations

from edge.http import fields as names
from edge.http.fields import FIELD_NAMES, classify, is_field_value, is_token
from edge.http.hpack_table import ENTRY_OVERHEAD, STATIC_TABLE
from edge.http.huffman import Huffman

# Beside the flags of edge.http.fields.
PSEUDO = 1 << 16
"""Its name begins with a colon (RFC 9113 section 8.3)."""
COOKIE = 1 << 17
"""A crumb of the cookie, to be joined with the others (RFC 9113 section 8.2.3)."""

# RFC 9113 section 8.2.2: they are of a connection's, and a request with one is malformed.
_CONNECTION_NAMES = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))

# What is remembered: literal fields as they came. The same bounds as for lines of HTTP/1.1 (head.py).
MAX_FIELDS = 2048
MAX_FIELD = 1024


class Field:
    """One field line. `line` is name, LF and value, as the wire to the workers has it."""

    __slots__ = ("flags", "line", "name", "size", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.line = b"%b\n%b" % (name, value)
        self.size = len(name) + len(value) + ENTRY_OVERHEAD
        self.flags = _check(name, value)

    @property
    def fault(self) -> str:
        """What is wrong with a field that is INVALID."""
        if self.name in _CONNECTION_NAMES:
            return f"field {self.name.decode()} of a connection (RFC 9113 section 8.2.2)"
        if self.name == b"te":
            return f"TE {self.value[:40]!r}, only trailers is allowed (RFC 9113 section 8.2.2)"
        if not is_token(self.name.removeprefix(b":")) or self.name != self.name.lower():
            return f"field name {self.name[:40]!r} is not a token in lower case (RFC 9113 section 8.2.1)"
        return f"field {self.name[:40].decode()}: value {self.value[:40]!r} is not allowed (RFC 9113 section 8.2.1)"


def _check(name: bytes, value: bytes) -> int:
    if name[:1] == b":":
        flags = PSEUDO if is_token(name[1:]) and name == name.lower() else names.INVALID
    elif name in _CONNECTION_NAMES or name != name.lower():
        return names.INVALID
    else:
        known = FIELD_NAMES.get(name)
        flags = known[1] if known is not None else classify(name)
        if name == b"cookie":
            flags |= COOKIE
        elif name == b"te" and value != b"trailers":
            return names.INVALID
    # RFC 9113 section 8.2.1: no control byte, and no white space around it. HTTP/1.1's parser has stripped that.
    if not is_field_value(value) or value.strip(b" \t") != value:
        return names.INVALID
    return flags


class FieldMemory:
    """The literal fields that clients sent of late, and the static table. One for each process."""

    __slots__ = ("_huffman", "_known", "static")

    def __init__(self, huffman: Huffman) -> None:
        self.static = tuple(Field(name, value) for name, value in STATIC_TABLE)
        self._huffman = huffman
        self._known: dict[tuple[bytes, bytes, bool], Field] = {}

    def forget(self) -> None:
        """Drop what is remembered: it bounds how long a credential that was sent once stays."""
        self._known.clear()

    def field(self, name: bytes, value: bytes, coded: bool) -> Field:
        """Return the field of a literal; `coded`: the value is in Huffman code.

        Raises ValueError if it is not.
        """
        key = (name, value, coded)
        field = self._known.get(key)
        if field is None:
            field = Field(name, self._huffman.decode(value) if coded else value)
            if field.size <= MAX_FIELD:
                if len(self._known) >= MAX_FIELDS:
                    self._known.clear()
                self._known[key] = field
        return field

    def name(self, text: bytes, coded: bool) -> bytes:
        """Return a literal's name. Raises ValueError if it is not in Huffman code though `coded`."""
        return self._huffman.decode(text) if coded else text

    def encode(self, text: bytes) -> bytes:
        """Return a string in Huffman code."""
        return self._huffman.encode(text)
