"""The content codings that answers are compressed with, each as an encoder that never holds anything back.

The parameters keep an encoder below half a megabyte (zlib's defaults are that small; those of zstd and brotli have
windows of megabytes), and cost little time for what they save: docs/design/decisions/0025 has the figures.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What is compressed with, the one preferred first: zstd takes a third of the time for the same size.
CODINGS: Final = (b"zstd", b"br", b"gzip")

_GZIP_LEVEL: Final = 4
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # 16: with the header and trailer of gzip (RFC 1952)
_BROTLI_LEVEL: Final = 4
_WINDOW: Final = 17  # its logarithm to base 2: two frames of the wire
_ZSTD: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.window_log: _WINDOW,
    zstd.CompressionParameter.hash_log: 15,
    zstd.CompressionParameter.chain_log: 15,
}


class Encoder(Protocol):
    """Compresses the content of one answer."""

    def piece(self, data: bytes) -> bytes:
        """Return content that has been compressed: with it, the client can read all that came so far."""

    def last(self, data: bytes) -> bytes:
        """Return the last of it, and what ends it."""


class _Gzip:
    __slots__ = ("__weakref__", "_object")

    def __init__(self) -> None:
        self._object = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def piece(self, data: bytes) -> bytes:
        return self._object.compress(data) + self._object.flush(zlib.Z_SYNC_FLUSH)

    def last(self, data: bytes) -> bytes:
        return self._object.compress(data) + self._object.flush()


class _Brotli:
    __slots__ = ("__weakref__", "_object")

    def __init__(self) -> None:
        self._object = brotli.Compressor(quality=_BROTLI_LEVEL, lgwin=_WINDOW)

    def piece(self, data: bytes) -> bytes:
        return bytes(self._object.process(data) + self._object.flush())

    def last(self, data: bytes) -> bytes:
        return bytes(self._object.process(data) + self._object.finish())


class _Zstd:
    __slots__ = ("__weakref__", "_object")

    def __init__(self) -> None:
        self._object = zstd.ZstdCompressor(options=_ZSTD)

    def piece(self, data: bytes) -> bytes:
        return self._object.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)

    def last(self, data: bytes) -> bytes:
        return self._object.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


_ENCODERS: Final[dict[bytes, Callable[[], Encoder]]] = {b"zstd": _Zstd, b"br": _Brotli, b"gzip": _Gzip}


def open_encoder(coding: bytes) -> Encoder:
    """Return an encoder of one of `CODINGS`."""
    return _ENCODERS[coding]()
