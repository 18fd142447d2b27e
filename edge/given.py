"""Values as they were given, before anything has read them: text or Python values, each with the place it stood at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge.errors import ConfigError
from edge.options import Option, options_of


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and how the user spelled what it was given to, up to the value."""

    value: object
    origin: str
    source: Literal["flag", "environment", "file"] = "flag"

    @property
    def name(self) -> str:
        """The spelling without what joins it to the value."""
        return self.origin.rstrip(" =")


def read_given(options: Iterable[Option], given: Mapping[str, Given], problems: list[str]) -> dict[str, Any]:
    """Return what the options were given, by key, as their fields hold it; what is wrong is put into `problems`."""
    found: dict[str, Any] = {}
    for option in options:
        if option.key in given:
            item = given[option.key]
            try:
                found[option.key] = option.kind.parse(item.value)
            except ConfigError as error:
                problems.append(f"{item.origin}{error}")
    return found


def own_values(part: type[Any], parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given of the fields' own options, by field."""
    own = {item.name: options_of(item)[0].key for item in dataclasses.fields(part) if options_of(item)}
    return {name: parsed[key] for name, key in own.items() if key in parsed}


def options_by_key(part: type[Any]) -> dict[str, Option]:
    """Return the options of a part by their name in Python, which is their key in `edge.toml`, too."""
    return {option.key: option for item in dataclasses.fields(part) for option in options_of(item)}
