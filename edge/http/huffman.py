"""The Huffman code of HPACK's strings (RFC 7541 section 5.2), in machine code where it can be had.

This is the seam to other people's code, two methods wide. `jh2` brings a codec in Rust whose strings are ten times as
fast as Python's; it is reached through `jh2._hazmat`, a private name, so its version is pinned, and `hpack` stands in
where it is missing or has changed. Only strings go through it, never whole header blocks: why is told in
docs/design/decisions.
"""

from __future__ import annotations

from typing import Protocol

from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman

# A literal field that is never indexed (RFC 7541 section 6.2.3) with a name of one letter: it touches no table.
_LITERAL = b"\x10\x01a"
# Of a decoded head, in bytes: who asks has bounded it. The library's own limit is 65,536.
_NO_LIMIT = 2**31 - 1


class Huffman(Protocol):
    """Turns strings into Huffman code and back."""

    def decode(self, data: bytes) -> bytes:
        """Return the string. Raises ValueError if `data` is not Huffman code, or not padded as it must be."""

    def encode(self, text: bytes) -> bytes:
        """Return the code of `text`."""


class PythonHuffman:
    """`hpack`'s Huffman code: pure Python, always there."""

    def __init__(self) -> None:
        self._encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

    def decode(self, data: bytes) -> bytes:
        """Return the string. Raises ValueError if `data` is not Huffman code, or not padded as it must be."""
        try:
            return bytes(decode_huffman(data))
        except HPACKDecodingError as error:
            raise ValueError(str(error)) from None

    def encode(self, text: bytes) -> bytes:
        """Return the code of `text`."""
        return bytes(self._encoder.encode(text))


class NativeHuffman:
    """`jh2`'s Huffman code, which only whole literal fields reach. Raises ImportError where there is none."""

    def __init__(self) -> None:
        from jh2._hazmat import Decoder, Encoder

        self._decoder = Decoder(_NO_LIMIT)
        self._encoder = Encoder()

    def decode(self, data: bytes) -> bytes:
        """Return the string. Raises ValueError if `data` is not Huffman code, or not padded as it must be."""
        if not data:
            return b""
        try:
            ((_, text, _),) = self._decoder.decode(_LITERAL + encode_integer(0x80, 7, len(data)) + data, True)
        except Exception as error:
            raise ValueError(str(error)) from None
        # It takes padding of zeros too (RFC 7541 section 5.2 has ones, and less than a byte of them). Code has one
        # form only: what is encoded again must be the same.
        if self.encode(text) != data:
            raise ValueError("Huffman code that is not padded with the most significant bits of EOS")
        return bytes(text)

    def encode(self, text: bytes) -> bytes:
        """Return the code of `text`."""
        block: bytes = self._encoder.encode([(b"a", text, True)], True)
        size = block[3] & 0x7F
        return block[4:] if size < 0x7F else block[_integer_end(block, 4) :]


def best_huffman() -> Huffman:
    """Return the fastest Huffman code of this installation."""
    try:
        native = NativeHuffman()
        works = native.decode(native.encode(b"www.example.com")) == b"www.example.com"
    except Exception:  # whatever a private name does in another version
        return PythonHuffman()
    return native if works else PythonHuffman()


def encode_integer(first: int, bits: int, value: int) -> bytes:
    """Return `value` with a prefix of `bits` bits, the rest of whose byte is `first` (RFC 7541 section 5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer_end(data: bytes, position: int) -> int:
    while data[position] & 0x80:
        position += 1
    return position + 1
