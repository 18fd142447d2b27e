"""How long a file may be kept by who has it: for ever when its name changes with its content."""

from __future__ import annotations

import re

IMMUTABLE = b"public, max-age=31536000, immutable"
REVALIDATE = b"no-cache"

# One or two extensions: `.js`, `.js.map`.
_EXTENSIONS = r"((?:\.[A-Za-z][A-Za-z0-9]{0,11}){1,2})"
# webpack, Django, Hugo and others: hexadecimal digits of a hash before the extension.
_HEX = re.compile(r".*[.\-_]([0-9a-f]{8,64})" + _EXTENSIONS)
# Vite, Rollup and esbuild: eight characters of base64url or base32, behind a hyphen.
_SHORT = re.compile(r".*-([A-Za-z0-9_-]{8})" + _EXTENSIONS)
# Words and their numbers, as people name files: `Summary2`, `DatePick`, `RELEASE1`, `version2`.
_WORDS = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+)+[0-9]*|(?:[A-Za-z]*[_-])+[A-Za-z0-9]*")
# What bundlers write; a document that somebody named is none of that.
_BUNDLED = re.compile(
    r"\.(?:[cm]?js|css|map|json|wasm|woff2?|[ot]tf|eot|svg|png|jpe?g|gif|webp|avif|ico|mp[34]|webm|ogg|txt)",
    re.IGNORECASE,
)


def cache_control(name: str, *, is_page: bool, max_age: int | None, immutable: bool) -> bytes:
    """Return the value of Cache-Control for a file of this name.

    `max_age` is in seconds, None to have it asked for each time, which costs a 304. A page is always asked for: it
    names the files that belong to it. `immutable` is whether names with a hash in them are believed.
    """
    if is_page:
        return REVALIDATE
    if immutable and is_hashed(name):
        return IMMUTABLE
    return REVALIDATE if max_age is None else b"public, max-age=%d" % max_age


def is_hashed(name: str) -> bool:
    """Tell whether a file's name holds a hash of its content.

    In doubt it does not: a hash that is not seen costs a 304, a word that is taken for one is kept for a year. So dates
    (`20261121`) are none, and some hashes are taken for words.
    """
    if (match := _HEX.fullmatch(name)) is not None:
        digits = match[1]
        return not digits.isdigit() and not digits.isalpha()
    match = _SHORT.fullmatch(name)
    if match is None or not _BUNDLED.fullmatch("." + match[2].rpartition(".")[2]):
        return False
    digest = match[1]
    has_all = any(c.isdigit() for c in digest) and any(c.isupper() for c in digest)
    return has_all and _WORDS.fullmatch(digest) is None
