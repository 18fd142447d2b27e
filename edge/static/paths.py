"""A request target becomes the names on the way to a file, or a refusal: nothing is normalised, nothing decoded twice.

Whatever two readers could take for different paths is refused, so that no rule in front of the edge can be walked
around. That no name leads out of the folder is then up to `root.py`, which opens one at a time.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

# RFC 3986 section 2.1: a percent sign begins two hexadecimal digits, or it is no URI.
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# A slash, a backslash or a NUL that hides in an encoding: to some who read the path it is there, to others it is not.
_HIDDEN = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
# What is left when dots and slashes were encoded twice, for a reader further in.
_TWICE = re.compile(r"%(?:25)*(?:2e|2f|5c|00)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# RFC 8615: what begins with a dot is nobody's business, but for this.
_WELL_KNOWN = ".well-known"


class PathRefused(Exception):
    """A target that names no file here: `status` is 400 when it is malformed, 404 when it is hidden."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class FilePath(NamedTuple):
    """The names below the root; `is_folder` when the target ends with a slash."""

    names: tuple[str, ...]
    is_folder: bool

    @property
    def has_extension(self) -> bool:
        """Tell whether the last name looks like that of a file, and not of a page that an application draws."""
        return bool(self.names) and "." in self.names[-1]


def parse_path(target: bytes, prefix: str = "") -> FilePath:
    """Return what a request target names below the folder that is served at `prefix`; the query is left out.

    `prefix` is decoded; it is empty, or begins and does not end with a slash.

    Raises PathRefused: 400 for what has more than one reading, 404 for names that begin with a dot.
    """
    path = _decode(target.partition(b"?")[0])
    if not path.startswith(prefix) or path[len(prefix) : len(prefix) + 1] not in ("", "/"):
        raise PathRefused(400, f"path is not plain: it is read as one below {prefix!r}")
    path = path[len(prefix) :]
    if not path:
        return FilePath((), False)
    names = path[1:].split("/")
    is_folder = not names[-1]
    if is_folder:
        names.pop()
    if "" in names:
        raise PathRefused(400, "path has an empty name")
    _check_dots(names)
    return FilePath(tuple(names), is_folder)


def _decode(raw: bytes) -> str:
    """Resolve the escapes of a path, once."""
    if b"%" not in raw:
        path = raw.decode("latin-1")
    else:
        if found := _STRAY_PERCENT.search(raw) or _HIDDEN.search(raw):
            raise PathRefused(400, f"path has {raw[found.start() : found.start() + 3]!r}, which is no part of a name")
        try:
            path = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise PathRefused(400, "path is not UTF-8") from None
        if _TWICE.search(path):
            raise PathRefused(400, "path is encoded twice")
    if _CONTROL.search(path):
        raise PathRefused(400, "path has a control character")
    if "\\" in path or not path.startswith("/"):
        raise PathRefused(400, "path has a backslash, or does not begin with a slash")
    return path


def _check_dots(names: list[str]) -> None:
    for number, name in enumerate(names):
        if not name.startswith("."):
            continue
        if name in (".", ".."):
            raise PathRefused(400, f"path has the dot segment {name!r}")
        if number or name != _WELL_KNOWN:
            raise PathRefused(404, f"{name!r} is hidden")
