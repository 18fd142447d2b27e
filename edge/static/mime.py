"""What kind of content a file is, by its name: the same on every machine and with every Python."""

from __future__ import annotations

from collections.abc import Mapping
from mimetypes import MimeTypes

# What Python's table lacks, or has changed its mind about between 3.11 and 3.14.
_OWN = {
    ".js": "text/javascript",  # RFC 9239
    ".mjs": "text/javascript",
    ".cjs": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".jsonld": "application/ld+json",
    ".geojson": "application/geo+json",
    ".webmanifest": "application/manifest+json",
    ".xml": "application/xml",
    ".wasm": "application/wasm",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".svg": "image/svg+xml",
    ".svgz": "image/svg+xml",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".jxl": "image/jxl",
    ".heic": "image/heic",
    ".ico": "image/vnd.microsoft.icon",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".eot": "application/vnd.ms-fontobject",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".epub": "application/epub+zip",
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".br": "application/octet-stream",
    ".zst": "application/zstd",
    ".7z": "application/x-7z-compressed",
    ".whl": "application/zip",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_UNKNOWN = b"application/octet-stream"


def _build_types() -> dict[str, bytes]:
    # `MimeTypes(())` reads none of the machine's files, which differ.
    table = MimeTypes(()).types_map[True] | _OWN
    return {suffix: _with_charset(kind).encode() for suffix, kind in table.items()}


def _with_charset(kind: str) -> str:
    """Text is UTF-8 here; JSON, XML and SVG say themselves what they are."""
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


# What is compressed when a site is built; pictures, films and archives are already.
_COMPRESSIBLE = frozenset(
    b"""
    application/json application/ld+json application/geo+json application/manifest+json application/xml
    application/wasm application/yaml application/toml application/xhtml+xml application/rss+xml application/atom+xml
    application/vnd.ms-fontobject image/svg+xml image/vnd.microsoft.icon image/bmp font/ttf
    font/otf
    """.split()
)
# Never written to after import.
_TYPES: Mapping[str, bytes] = _build_types()


def media_type(name: str) -> bytes:
    """Return the value of Content-Type for a file of this name.

    A coding in the name (`.tar.gz`) is the file's type, not a Content-Encoding: who downloads it wants it as it is.
    """
    dot = name.rfind(".")
    return _TYPES.get(name[dot:].lower(), _UNKNOWN) if dot > 0 else _UNKNOWN


def is_page(kind: bytes) -> bool:
    """Tell whether a Content-Type is that of a page, which names the files that belong to it."""
    return kind.startswith(b"text/html")


def is_compressible(kind: bytes) -> bool:
    """Tell whether files of this Content-Type may have compressed forms beside them."""
    return kind.startswith(b"text/") or kind in _COMPRESSIBLE
