"""HPACK, field compression for HTTP/2 (RFC 7541): a connection's decoder and its encoder.

Theory of operation
-------------------
A client sends most fields of a request as one byte each: the number of an entry in a table that it filled before. An
entry here is a `Field` that was checked when it came into the table, so a head of known fields costs one look-up each:
no string is made, compared or checked again. That, and refusing each malformed byte in our own words, is why the table
is ours and only the Huffman code of strings is a library's (huffman.py).

The decoder's bounds: the table has TABLE_SIZE bytes; a head that is larger than its limits is decoded to its end, since
the table must be kept right, but nothing of it is kept.

The encoder puts a field into its table when the connection sends it for the second time, so values that are different
in each answer do not drive out those that stay. What is known to be different, or secret, never goes into the table.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from edge.http.field import Field, FieldMemory
from edge.http.hpack_table import ENTRY_OVERHEAD, STATIC_TABLE, TABLE_SIZE
from edge.http.huffman import encode_integer

# Bytes that are a whole field each: indexes of 1 to 126 (RFC 7541 section 6.1).
_INDEXES = re.compile(rb"[\x81-\xfe]+")
# In the list of entries an entry's place is the byte that indexes it; the static table begins at 0x81.
_FIRST_STATIC = 0x81
_FIRST_DYNAMIC = _FIRST_STATIC + len(STATIC_TABLE)
# A longer integer is larger than anything that may be announced (RFC 7541 section 5.1).
_MAX_INTEGER_SIZE = 5

# Different in each answer, or nearly: a literal that touches no table.
_VOLATILE = frozenset(
    (b"content-length", b"content-range", b"etag", b"last-modified", b"expires", b"age", b"location", b"x-request-id")
)
# RFC 7541 section 7.1.3: nobody on the way is to index what is secret.
_SECRET = frozenset((b"set-cookie", b"authorization", b"www-authenticate", b"proxy-authenticate"))
_MAX_INDEXED_VALUE = 512
_MAX_SEEN = 64
_MAX_BLOCKS = 64

_STATIC_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(STATIC_TABLE, 1)))}
_STATIC_FIELDS = {pair: bytes((0x80 | index,)) for index, pair in enumerate(STATIC_TABLE, 1) if pair[1]}


class CompressionError(Exception):
    """The block cannot be decoded: the connection is lost with it (RFC 9113 section 4.3)."""


class HeadDecoder:
    """The decoder of one connection. `memory` serves all connections of the process."""

    __slots__ = ("_entries", "_largest", "_limit", "_max_fields", "_max_size", "_memory", "_size", "changes")

    def __init__(self, memory: FieldMemory, *, max_fields: int, max_size: int) -> None:
        """`max_fields` and `max_size` (bytes, with ENTRY_OVERHEAD for each field) bound what a head decodes to."""
        self._memory = memory
        self._max_fields = max_fields
        self._max_size = max_size
        self._entries: list[Field] = [*([memory.static[0]] * _FIRST_STATIC), *memory.static]
        self._size = 0  # of the dynamic table
        self._largest = max(field.size for field in memory.static)  # no field was ever larger
        self._limit = TABLE_SIZE
        self.changes = 0  # how often the table has changed

    def decode(self, block: bytes) -> list[Field] | None:
        """Return the fields of a head; None if there are more, or larger ones, than allowed.

        Raises CompressionError.
        """
        fields: list[Field] = []
        position, end = 0, len(block)
        try:
            if end and block[0] & 0xE0 == 0x20:
                position = self._follow_sizes(block)
            while position < end:
                first = block[position]
                if 0x80 < first < 0xFF:
                    start = position
                    position = _INDEXES.match(block, position).end()  # type: ignore[union-attr]  # it begins with one
                    if position - start <= self._max_fields:
                        fields += [self._entries[byte] for byte in block[start:position]]
                        continue
                    # Nothing of this changes the table, and nothing of it will be kept. Each entry is to be there.
                    self._entries[max(block[start:position])]
                    fields += [self._entries[first]] * (self._max_fields + 1)
                else:
                    field, position = self._read_field(block, position, first)
                    fields.append(field)
                del fields[self._max_fields + 1 :]
        except IndexError:
            raise CompressionError("a block that ends within a field, or names an entry that is not there") from None
        except ValueError as error:
            raise CompressionError(str(error)) from None
        return fields if self._is_within_limits(fields) else None

    def estimate(self, fields: list[Field]) -> int:
        """Return the size of a head in bytes, or more than it; the true size where it is large."""
        most = len(fields) * self._largest
        return most if most < self._max_size // 4 else sum([field.size for field in fields])

    def _is_within_limits(self, fields: list[Field]) -> bool:
        count = len(fields)
        if count > self._max_fields:
            return False
        return count * self._largest <= self._max_size or sum([field.size for field in fields]) <= self._max_size

    def _follow_sizes(self, block: bytes) -> int:
        """Follow changes of the table's size; they stand before the fields (RFC 7541 section 4.2)."""
        position = 0
        while position < len(block) and block[position] & 0xE0 == 0x20:
            size, position = _read_integer(block, position, 5)
            if size > TABLE_SIZE:
                raise ValueError(f"a table of {size} bytes, at most {TABLE_SIZE} allowed")
            self._limit = size
            self._evict(size)
            self.changes += 1
        return position

    def _read_field(self, block: bytes, position: int, first: int) -> tuple[Field, int]:
        """Read a field that is not one byte: a literal (RFC 7541 section 6.2), or an index of 127 and more."""
        if first >= 0x80:
            index, position = _read_integer(block, position, 7)
            return self._entry(index), position
        if first & 0xE0 == 0x20:
            raise ValueError("a change of the table's size behind a field")
        is_indexed = first & 0x40 != 0
        index, position = _read_integer(block, position, 6 if is_indexed else 4)
        if index:
            name = self._entry(index).name
        else:
            text, coded, position = _read_string(block, position)
            name = self._memory.name(text, coded)
        text, coded, position = _read_string(block, position)
        field = self._memory.field(name, text, coded)
        if is_indexed:
            self.changes += 1
            self._evict(self._limit - field.size)
            if field.size <= self._limit:
                self._entries.insert(_FIRST_DYNAMIC, field)
                self._size += field.size
        if field.size > self._largest:
            self._largest = field.size
        return field, position

    def _entry(self, index: int) -> Field:
        place = index + 0x80
        if not index or place >= len(self._entries):
            raise ValueError(f"index {index}, the tables have {len(self._entries) - _FIRST_STATIC} entries")
        return self._entries[place]

    def _evict(self, size: int) -> None:
        """Drop the oldest entries until the table has at most `size` bytes."""
        while self._size > max(size, 0):
            self._size -= self._entries.pop().size


def _read_integer(block: bytes, position: int, bits: int) -> tuple[int, int]:
    """Return an integer with a prefix of `bits` bits, and where it ends (RFC 7541 section 5.1)."""
    limit = (1 << bits) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    for place in range(_MAX_INTEGER_SIZE):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position
    raise ValueError("an integer of more than 32 bits")


def _read_string(block: bytes, position: int) -> tuple[bytes, bool, int]:
    """Return a string as it is in the block, whether it is in Huffman code, and where it ends (RFC 7541 5.2)."""
    first = block[position]
    size = first & 0x7F
    if size < 0x7F:
        position += 1
    else:
        size, position = _read_integer(block, position, 7)
    end = position + size
    if end > len(block):
        raise ValueError("a string that is longer than its block")
    return block[position:end], first >= 0x80, end


class HeadEncoder:
    """The encoder of one connection."""

    __slots__ = ("_blocks", "_count", "_entries", "_known", "_least", "_limit", "_memory", "_seen", "_size", "_sizes")

    def __init__(self, memory: FieldMemory) -> None:
        self._memory = memory
        self._known: dict[tuple[bytes, bytes], int] = {}  # field -> its number, counted from the first insertion
        self._entries: deque[tuple[tuple[bytes, bytes], int]] = deque()  # fields and sizes, the oldest first
        self._blocks: dict[bytes, bytes] = {}  # fields that are all in the tables -> their block, while those stay
        self._seen: set[tuple[bytes, bytes]] = set()
        self._count = 0
        self._size = 0
        self._limit = TABLE_SIZE
        self._least = TABLE_SIZE  # of the sizes since the last block
        self._sizes = b""  # changes of the table's size that the next block has to begin with

    def resize(self, size: int) -> None:
        """Follow the peer's SETTINGS_HEADER_TABLE_SIZE, in bytes; more than TABLE_SIZE is not used."""
        size = min(size, TABLE_SIZE)
        if size != self._limit:
            self._limit = size
            self._blocks.clear()
            self._evict(size)
            # RFC 7541 section 4.2: the smallest in between and the last are to be told. Others may be more than is
            # allowed by then.
            self._least = min(self._least, size) if self._sizes else size
            least = encode_integer(0x20, 5, self._least) if self._least < size else b""
            self._sizes = least + encode_integer(0x20, 5, size)

    def encode(self, fields: Sequence[bytes]) -> bytes:
        """Return the block of a head, or a part of it; `fields` are names in lower case and values in turn."""
        key = b"\n".join(fields)
        block = self._blocks.get(key)
        if block is not None and not self._sizes:
            return block
        sizes, self._sizes = self._sizes, b""
        pieces, is_stable = [sizes], not sizes
        for pair in zip(fields[::2], fields[1::2], strict=True):
            number = self._known.get(pair)
            if number is not None:
                pieces.append(encode_integer(0x80, 7, _FIRST_DYNAMIC - 0x80 + self._count - number))
            elif pair in _STATIC_FIELDS:
                pieces.append(_STATIC_FIELDS[pair])
            else:
                pieces.append(self._encode_literal(pair))
                is_stable = False
        block = b"".join(pieces)
        if is_stable:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[key] = block
        return block

    def _encode_literal(self, pair: tuple[bytes, bytes]) -> bytes:
        name, value = pair
        if name in _VOLATILE or len(value) > _MAX_INDEXED_VALUE:
            return self._literal(0x00, 4, name, plain_string(value))
        if name in _SECRET:
            return self._literal(0x10, 4, name, plain_string(value))
        size = len(name) + len(value) + ENTRY_OVERHEAD
        if pair not in self._seen or size > self._limit:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(pair)
            return self._literal(0x00, 4, name, plain_string(value))
        self._seen.discard(pair)
        coded = self._memory.encode(value)
        string = encode_integer(0x80, 7, len(coded)) + coded if len(coded) < len(value) else plain_string(value)
        literal = self._literal(0x40, 6, name, string)
        self._evict(self._limit - size)
        self._blocks.clear()
        self._count += 1
        self._size += size
        self._known[pair] = self._count
        self._entries.append((pair, size))
        return literal

    def _literal(self, first: int, bits: int, name: bytes, value: bytes) -> bytes:
        index = _STATIC_NAMES.get(name)
        if index is None:
            return b"%c%b%b" % (first, plain_string(name), value)
        return encode_integer(first, bits, index) + value

    def _evict(self, size: int) -> None:
        while self._size > max(size, 0):
            pair, freed = self._entries.popleft()
            del self._known[pair]
            self._size -= freed


def plain_string(text: bytes) -> bytes:
    """Return a string that is not in Huffman code (RFC 7541 section 5.2)."""
    size = len(text)
    return b"%c%b" % (size, text) if size < 0x7F else encode_integer(0x00, 7, size) + text
