"""Every setting with its value and where that comes from, and all of it as an `edge.toml` again."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge.config import SECTIONS, TABLES, ServeSettings
from edge.config_toml import ROUTE, SITE, TARGETS, FileText
from edge.given import Given, options_by_key
from edge.options import Option, options_of

_FILE_FIRST = re.compile(r"(.+:\d+): ")


@dataclass(frozen=True, slots=True)
class Value:
    """One setting: `given` is as `edge.toml` takes it, None for a default; `parsed` what it means."""

    table: str
    key: str
    given: object
    parsed: object
    shown: str  # in words, where it is a default
    source: str  # default, file, environment or flag
    place: str  # file and line, variable or flag; empty for a default, and for the application
    is_secret: bool

    @property
    def told(self) -> object:
        """What it means, for people: of secrets nothing, of the variables of workers their names."""
        if self.is_secret and self.parsed:
            return "***"
        if self.key == "env" and isinstance(self.parsed, tuple):
            return [f"{name}=***" for name, _ in self.parsed]
        return self.parsed

    def encode(self) -> dict[str, object]:
        """Return it as JSON can carry it."""
        return {"value": _plain(self.told), "source": self.source, "place": self.place}


def list_values(settings: ServeSettings, given: Mapping[str, Given]) -> Iterator[Value]:
    """Yield all that is said for the whole server, in the order of the file's tables."""
    parts = [getattr(settings, item.name) for item in dataclasses.fields(settings)]
    for table, options in TABLES.items():
        part = next(part for part in parts if _is_made_from(part, options))
        for item in dataclasses.fields(part):
            for option in options_of(item):
                if option.key in given:
                    yield _given(table, option, given[option.key], is_secret=not item.repr)
                elif option.key in options:
                    yield _default(table, option, part, item)


def list_sites(text: FileText) -> list[tuple[list[Value], list[list[Value]]]]:
    """Return what the file says for each site, and of each of its routes."""

    def values(table: str, options: Mapping[str, Option], given: Mapping[str, Given]) -> list[Value]:
        return [_given(table, option, given[key]) for key, option in options.items() if key in given]

    return [
        (
            values("site", SITE, site.given),
            [values("site.route", {**ROUTE, **TARGETS[route.target]}, route.given) for route in site.routes],
        )
        for site in text.sites
    ]


def as_toml(values: Iterable[Value], sites: Iterable[tuple[list[Value], list[list[Value]]]]) -> list[str]:
    """Return the lines of a file that says the same; defaults and secrets stand in comments."""
    lines: list[str] = []
    table = ""
    for value in values:
        if value.table != table:
            table = value.table
            lines += ["", f"[{table}]"]
        lines.append(_line(value))
    for own, routes in sites:
        lines += ["", "[[site]]", *map(_line, own)]
        for route in routes:
            lines += ["", "[[site.route]]", *map(_line, route)]
    return lines[1:]


def as_text(value: Value, table: str = "") -> tuple[str, str, str]:
    """Return name, value and origin for people; `table` is a better name for the value's, where there are several."""
    is_hidden = value.told is not value.parsed
    shown = value.shown if value.given is None else _toml(value.told if is_hidden else value.given)
    return f"{table or value.table}.{value.key}", shown, value.place or value.source


def _given(table: str, option: Option, given: Given, *, is_secret: bool = False) -> Value:
    parsed = option.kind.parse(given.value)
    # Flags and variables are text: what was meant is a number, or yes or no.
    is_meant = isinstance(parsed, bool) or (isinstance(parsed, int) and str(parsed) == given.value)
    value = parsed if is_meant else given.value
    place = _FILE_FIRST.match(given.origin) if given.source == "file" else None
    return Value(table, option.key, value, parsed, "", given.source, place[1] if place else given.name, is_secret)


def _default(table: str, option: Option, part: object, item: dataclasses.Field[Any]) -> Value:
    value: object = None
    shown = option.shown
    if item.default_factory is not dataclasses.MISSING:
        value = getattr(part, item.name)
        shown = option.kind.show(value)
    elif item.default is not dataclasses.MISSING and option is options_of(item)[0]:
        value = item.default
        shown = _toml(value) if isinstance(value, bool) else shown
    return Value(table, option.key, None, value, shown, "default", "", is_secret=False)


def _is_made_from(part: object, options: Mapping[str, Option]) -> bool:
    """True for the part of the settings that a table stands for."""
    part_type = type(part)
    return part_type in dict(SECTIONS).values() and bool(options_by_key(part_type).keys() & options.keys())


def _line(value: Value) -> str:
    if value.given is None:
        # What stands for a number, such as none for 0, is for people.
        is_value = value.parsed is not None and re.fullmatch(r"true|false|[0-9]+[A-Za-z]*", value.shown)
        literal = value.shown if value.shown in ("true", "false", str(value.parsed)) else _toml(value.shown)
        return f"# {value.key} = {literal}" if is_value else f"# {value.key}: {value.shown}"
    if value.is_secret:
        return f"# {value.key}: a secret, from {value.place}"
    return f"{value.key} = {_toml(value.given)}" + (f"  # {value.place}" if value.place else "")


def _toml(value: object) -> str:
    """Return the value as TOML writes it, in one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml(str(key))} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    # The escapes of JSON are among those of TOML, which has to escape DEL, too.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else str(value)
