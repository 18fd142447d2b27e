"""Huffman code: the native codec and Python's against each other, what is malformed, and what stands in."""

from __future__ import annotations

import random
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.http import huffman
from edge.http.huffman import Huffman, NativeHuffman, PythonHuffman, best_huffman, encode_integer

PYTHON = PythonHuffman()
NATIVE = NativeHuffman()
both = pytest.mark.parametrize("codec", [NATIVE, PYTHON], ids=["native", "python"])


def decoded(codec: Huffman, data: bytes) -> bytes | None:
    """Return the string, or None; nothing but ValueError may be raised, and a panic of Rust is no Exception."""
    try:
        return codec.decode(data)
    except ValueError:
        return None


# RFC 7541 appendix C.4 and C.6.
@both
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
        (b"no-cache", "a8eb10649cbf"),
        (b"custom-key", "25a849e95ba97d7f"),
        (b"custom-value", "25a849e95bb8e8b4bf"),
        (b"302", "6402"),
        (b"Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
        (b"https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
        (b"", ""),
    ],
)
def test_examples_of_the_rfc(codec: Huffman, text: bytes, code: str) -> None:
    assert codec.encode(text) == bytes.fromhex(code)
    assert codec.decode(bytes.fromhex(code)) == text


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_in_both(byte: int) -> None:
    for text in (bytes((byte,)), bytes((byte,)) * 7, bytes((byte, 0x61))):
        code = PYTHON.encode(text)
        assert NATIVE.encode(text) == code
        assert NATIVE.decode(code) == PYTHON.decode(code) == text


@given(st.binary(max_size=200))
def test_strings_in_both(text: bytes) -> None:
    code = PYTHON.encode(text)
    assert NATIVE.encode(text) == code
    assert NATIVE.decode(code) == PYTHON.decode(code) == text


@both
@pytest.mark.parametrize("size", [124, 125, 126, 127, 128, 129, 253, 254, 255, 256, 16_510, 16_511])
def test_strings_of_sizes_where_the_length_grows(codec: Huffman, size: int) -> None:
    for text in (b"0" * size, b"\xff" * size):
        code = codec.encode(text)
        assert codec.decode(code) == text


@pytest.mark.parametrize("size", [65_503, 65_504, 70_000, 300_000])
def test_strings_beyond_the_native_librarys_own_limit(size: int) -> None:
    assert NATIVE.decode(NATIVE.encode(b"0" * size)) == b"0" * size


@both
@pytest.mark.parametrize(
    "code",
    [
        "00",  # `0` (00000) and three bits that are no padding
        "1f00",  # a whole byte of zeros behind `a`
        "1fff",  # `a`, and more than seven bits of padding
        "ff",  # eight bits of padding, and nothing else
        "ffff",
        "1e",  # `a` padded with 110
        "fffffffc",  # EOS
        "fffffffcff",
        "1fffffffff",  # EOS behind `a`
        "fffffff0",  # the beginning of a code that does not end
    ],
)
def test_code_that_is_malformed(codec: Huffman, code: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the words are the library's
        codec.decode(bytes.fromhex(code))


@given(st.binary(max_size=60))
@example(b"\xff\xff\xff\xff")
def test_any_bytes_in_both(data: bytes) -> None:
    assert decoded(NATIVE, data) == decoded(PYTHON, data)


def test_code_that_was_damaged_in_both(capfd: pytest.CaptureFixture[str]) -> None:
    """Truncated, with bits turned, with bytes behind: the native decoder panics on no string, and prints nothing."""
    source = random.Random(7541)
    for _ in range(20_000):
        code = bytearray(PYTHON.encode(source.randbytes(source.randrange(1, 40))))
        for _ in range(source.randrange(3)):
            code[source.randrange(len(code))] ^= 1 << source.randrange(8)
        data = bytes(code[: source.randrange(len(code) + 1)]) + source.choice((b"", b"\xff", b"\0", b"\xff" * 4))
        assert decoded(NATIVE, data) == decoded(PYTHON, data), data.hex()
    assert capfd.readouterr().err == ""


def test_the_native_codec_is_the_best() -> None:
    assert isinstance(best_huffman(), NativeHuffman)


class _Broken:
    """What a private name may be in another version."""

    def __init__(self, *arguments: object) -> None: ...

    def encode(self, *arguments: object) -> bytes:
        return b"\x10\x81\x1f\x83abc"

    def decode(self, *arguments: object) -> list[tuple[bytes, bytes, bool]]:
        return [(b"a", b"something else", True)]


class _Raising(_Broken):
    def encode(self, *arguments: object) -> bytes:
        raise TypeError("another signature")


@pytest.mark.parametrize(
    "names",
    [None, {}, {"Decoder": _Broken, "Encoder": _Broken}, {"Decoder": _Broken, "Encoder": _Raising}],
    ids=["no-module", "no-names", "other-results", "other-signatures"],
)
def test_python_stands_in(monkeypatch: pytest.MonkeyPatch, names: dict[str, Any] | None) -> None:
    module = None
    if names is not None:
        module = ModuleType("jh2._hazmat")
        vars(module).update(names)
    monkeypatch.setitem(sys.modules, "jh2._hazmat", module)
    codec = best_huffman()
    assert isinstance(codec, PythonHuffman)
    assert codec.decode(codec.encode(b"www.example.com")) == b"www.example.com"


def test_python_stands_in_where_jh2_is_not_installed() -> None:
    code = "import sys; sys.modules['jh2'] = None; from edge.http.huffman import best_huffman; print(best_huffman())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_root())
    assert "PythonHuffman" in shown.stdout


def _root() -> str:
    return str(huffman.__file__).rsplit("/", 3)[0]


# RFC 7541 appendix C.1.
@pytest.mark.parametrize(
    ("bits", "value", "code"),
    [(5, 10, "0a"), (5, 1337, "1f9a0a"), (8, 42, "2a"), (7, 126, "7e"), (7, 127, "7f00"), (7, 255, "7f8001")],
)
def test_integers(bits: int, value: int, code: str) -> None:
    assert encode_integer(0, bits, value) == bytes.fromhex(code)
