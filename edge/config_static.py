"""The settings of files that are served without an application."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge.errors import ConfigError
from edge.options import Kind, count, directory, items_of, setting, switch

# RFC 9111 section 5.2.2.1 sets no limit; a year is what everybody takes for ever.
_YEAR = 31_536_000


class Mount(NamedTuple):
    """A folder and the path that it stands at: empty for `/`, else with a slash before and none after it."""

    prefix: str
    folder: str


def mounts() -> Kind:
    """Paths and the folders that stand there: PATH=DIR. The folders have to exist."""

    def parse(value: object) -> tuple[Mount, ...]:
        items = [value] if isinstance(value, Mount) else items_of(value)
        found = tuple(item if isinstance(item, Mount) else _parse_mount(item) for item in items)
        for mount in found:
            if [other.prefix for other in found].count(mount.prefix) > 1:
                raise ConfigError(f"{mount.prefix or '/'!r}: given twice; leave out one")
        return found

    def anchor(folder: str, text: str) -> str:
        prefix, equals, path = text.partition("=")
        return f"{prefix}={os.path.join(folder, path)}" if equals and path else text

    return Kind("PATH=DIR", parse, repeat=True, has_commas=True, anchor=anchor)


def _parse_mount(value: object) -> Mount:
    match = re.fullmatch(r"(/[!-~]*?)=(.+)", value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"{value!r}: not a path with its folder; use one such as /static=./public")
    prefix, folder = match[1].rstrip("/"), match[2]
    if re.search(r"//|/\.|[%\\?#]", match[1]):
        raise ConfigError(f"{value!r}: the path is not plain; use names with one slash before each")
    if not os.path.isdir(folder):
        raise ConfigError(f"{folder!r}: no such directory; use one that exists")
    return Mount(prefix, os.path.abspath(folder))


def file_name() -> Kind:
    """The name of a file, without a path."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[^/\0.][^/\0]*", value):
            raise ConfigError(f"{value!r}: not the name of a file; use one such as index.html")
        return value

    return Kind("NAME", parse)


def max_age() -> Kind:
    """Seconds that a cache may use a file without asking."""
    return count(0, _YEAR)


@dataclass(frozen=True, slots=True)
class StaticSettings:
    """Which folders are served, and how. `max_age` is in seconds; an empty `sendfile_root` is none."""

    mounts: tuple[Mount, ...] = setting(
        (),
        mounts(),
        "--static",
        shown="none",
        help="serve the files of a folder below a path; repeatable",
    )
    spa: bool = setting(
        False, switch(), "--spa", help="answer pages that are no files of --static with the index of its folder"
    )
    index: str = setting("index.html", file_name(), "--index", help="the file that stands for a folder of --static")
    max_age: int | None = setting(
        None,
        max_age(),
        "--static-max-age",
        shown="asked for each time",
        help="seconds that files of --static may be kept without asking; pages never, hashed names a year",
    )
    immutable: bool = setting(
        True, switch(), "--static-immutable", help="let files with a hash in their name be kept for a year"
    )
    precompressed: bool = setting(
        True, switch(), "--static-precompressed", help="send NAME.br, NAME.zst or NAME.gz beside a file to who takes it"
    )
    sendfile_root: str = setting(
        "",
        directory(),
        "--sendfile-root",
        shown="none",
        help="folder whose files the application may have sent: X-Sendfile, X-Accel-Redirect, pathsend",
    )


def refuse_static_contradictions(given: Mapping[str, str], parsed: Mapping[str, Any]) -> None:
    """Refuse what only --static gives a meaning; `given` has what each option was called.

    Raises ConfigError.
    """
    for key in ("spa", "index", "static_max_age"):
        if key in given and parsed.get(key) is not False and not parsed.get("static"):
            raise ConfigError(f"{given[key]}: without --static it is for nothing; add --static /=DIR")
