"""A TOML file as it was read: its values, and where each of them stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import toml_places
from edge.errors import ConfigError
from edge.toml_places import find_places

# What tomllib says of the place; from Python 3.14 on, the error has it as numbers, too.
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a file, and the line of each; `name` is the file as the user named it."""

    name: str
    values: Mapping[str, Any]
    lines: Mapping[toml_places.Path, int]

    @property
    def folder(self) -> str:
        """What relative paths in it are relative to; empty is the current directory."""
        return os.path.dirname(self.name)

    def place(self, path: toml_places.Path) -> str:
        """Return file and line of what stands at `path`."""
        return f"{self.name}:{self.lines[path]}"


def read_document(name: str) -> Document:
    """Read the file.

    Raises ConfigError if it cannot be read or is not TOML, with the line.
    """
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: {str(error.strerror).lower()}; use a file like edge.toml") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8; save it as UTF-8") from None
    return parse_document(name, text)


def parse_document(name: str, text: str) -> Document:
    """Return what `text` says; `name` is for messages.

    Raises ConfigError if it is not TOML, with the line.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_refusal(name, text, str(error))) from None
    except RecursionError:
        raise ConfigError(f"{name}: lists and tables within one another too deep; use fewer levels") from None
    # As tomllib does: a line may end with CR LF.
    return Document(name, values, find_places(text.replace("\r\n", "\n")))


def _refusal(name: str, text: str, message: str) -> str:
    place = _PLACE.search(message)
    line = int(place[1]) if place and place[1] else len(text.splitlines()) or 1
    reason = message.removesuffix(place[0]) if place else message
    return f"{name}:{line}: not TOML: {reason[:1].lower()}{reason[1:]}; see https://toml.io"
