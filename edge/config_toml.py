"""What `edge.toml` says, as given values: which tables and keys there are, and where each of them stands.

A table for each part of the settings, whose keys are the names of its options in Python; then `[[site]]`, and in each
of them `[[site.route]]`. Nothing is decided here: what values mean is read together with those of flags and
environment, in config.py and config_plans.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge import toml_places
from edge.config_app import ApplicationSettings
from edge.config_pool import PoolSettings
from edge.config_sites import SITE_PARTS, AppPlan, RedirectPlan, RoutePlan, SitePlan, StaticPlan, UpstreamPlan
from edge.given import Given, options_by_key
from edge.options import Option, nearest
from edge.toml_file import Document

# What a route leads to, by the key that says so, with the keys that it may have besides.
TARGETS: Mapping[str, Mapping[str, Option]] = {
    "app": {
        # A file of PasteDeploy stands for the one application of the flags.
        **{key: option for key, option in options_by_key(ApplicationSettings).items() if not key.startswith("paste")},
        # Edges are there once for all pools.
        **{key: option for key, option in options_by_key(PoolSettings).items() if key != "edges"},
        **options_by_key(AppPlan),
    },
    "static": options_by_key(StaticPlan),
    "redirect": options_by_key(RedirectPlan),
    "upstream": options_by_key(UpstreamPlan),
}
ROUTE: Mapping[str, Option] = options_by_key(RoutePlan)
SITE: Mapping[str, Option] = {
    **options_by_key(SitePlan),
    # A site has `hosts` in its place.
    **{k: option for part in SITE_PARTS.values() for k, option in options_by_key(part).items() if k != "server_name"},
}
# An unknown key is answered with all that there are up to so many.
_SHOWN_KEYS = 12
# A key that needs no quotes in TOML. Others may hold anything, line ends and what a terminal obeys among it.
_BARE = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class RouteText:
    """A route as it was given; `target` is one of TARGETS, or empty if it is not said; `place` is where it begins."""

    target: str
    given: Mapping[str, Given]
    place: str


@dataclass(frozen=True, slots=True)
class SiteText:
    """A site as it was given; `place` is where it begins."""

    given: Mapping[str, Given]
    routes: tuple[RouteText, ...]
    place: str


@dataclass(frozen=True, slots=True)
class FileText:
    """All that a file says; `problems` are messages about what is wrong with its tables and keys."""

    given: Mapping[str, Given] = field(default_factory=dict)
    sites: tuple[SiteText, ...] = ()
    problems: tuple[str, ...] = ()


def read_text(document: Document, tables: Mapping[str, Mapping[str, Option]]) -> FileText:
    """Return what the document says; `tables` are those of the whole server, with the keys of each."""
    reader = _Reader(document, tables)
    given: dict[str, Given] = {}
    for name, value in document.values.items():
        if name in reader.tables:
            given |= reader.options((name,), reader.table((name,), value), reader.tables[name])
        elif name != "site":
            reader.unknown((name,), {table: table for table in (*reader.tables, "site")}, reader.belongs())
    sites = tuple(_site(reader, path, table) for path, table in reader.tables_in(("site",), document.values))
    return FileText(given, sites, tuple(reader.problems))


class _Reader:
    """Takes given values out of a document, and notes what is wrong."""

    def __init__(self, document: Document, tables: Mapping[str, Mapping[str, Option]]) -> None:
        self._document = document
        self.tables = tables
        self.problems: list[str] = []

    def options(
        self,
        path: toml_places.Path,
        table: Mapping[str, Any],
        options: Mapping[str, Option],
        *,
        others: Collection[str] = (),
        hints: Mapping[str, str] | None = None,
    ) -> dict[str, Given]:
        """Return what the table gives of the options; `others` are keys that somebody else reads."""
        found: dict[str, Given] = {}
        for key, value in table.items():
            if key in options:
                option = options[key]
                found[option.key] = self._given((*path, key), option.kind.anchored(value, self._document.folder))
            elif key not in others:
                self.unknown((*path, key), _with_aliases(options, others), hints or self.belongs())
        return found

    def belongs(self) -> dict[str, str]:
        """Return for each key of the file's tables where it belongs, as a hint."""
        return {
            alias: f"did you mean {name}.{key}"
            for name, options in self.tables.items()
            for alias, key in _with_aliases(options).items()
        }

    def table(self, path: toml_places.Path, value: object) -> Mapping[str, Any]:
        """Return the value, which has to be a table."""
        if isinstance(value, dict):
            return value
        self.refuse(path, f" = {value!r}: not a table; use [{self.spell(path)}]")
        return {}

    def tables_in(
        self, path: toml_places.Path, table: Mapping[str, Any]
    ) -> Iterable[tuple[toml_places.Path, Mapping[str, Any]]]:
        """Yield the tables in the list that the last key of `path` names, each with its path."""
        value = table.get(str(path[-1]), [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.refuse(path, f": not a list of tables; use [[{self.spell(path)}]]")
            return
        for index, item in enumerate(value):
            yield (*path, index), item

    def unknown(self, path: toml_places.Path, known: Mapping[str, str], hints: Mapping[str, str]) -> None:
        """Note a key that there is not, with what was meant: one of `known`, or what `hints` say of it."""
        key = str(path[-1])
        near = nearest(key, known).removeprefix("; did you mean ")
        meant = [f"did you mean {self.spell((*path[:-1], known[near]))}"] if near else []
        meant += [hints[key]] if key in hints and key not in known else []
        keys = dict.fromkeys(known.values())
        if not meant:
            meant = [f"use {', '.join(keys)}" if len(keys) <= _SHOWN_KEYS else "see edge config for those there are"]
        self.refuse(path, f": unknown key; {', or '.join(meant)}")

    def refuse(self, path: toml_places.Path, reason: str) -> None:
        """Note what is wrong with what stands at `path`."""
        self.problems.append(f"{self.place(path)}: {self.spell(path)}{reason}")

    def place(self, path: toml_places.Path) -> str:
        """Return file and line."""
        return self._document.place(path)

    def spell(self, path: toml_places.Path) -> str:
        """Return the path as it stands in the file."""
        return ".".join(key if _BARE.fullmatch(key) else json.dumps(key) for key in path if isinstance(key, str))

    def _given(self, path: toml_places.Path, value: object) -> Given:
        return Given(value, f"{self.place(path)}: {self.spell(path)} = ", "file")


def _site(reader: _Reader, path: toml_places.Path, table: Mapping[str, Any]) -> SiteText:
    given = reader.options(path, table, SITE, others=("route",))
    routes = tuple(_route(reader, where, route) for where, route in reader.tables_in((*path, "route"), table))
    return SiteText(given, routes, reader.place(path))


def _route(reader: _Reader, path: toml_places.Path, table: Mapping[str, Any]) -> RouteText:
    targets = [key for key in TARGETS if key in table]
    if len(targets) != 1:
        if not targets:
            # The key that says it may be there, in another spelling.
            known = {**ROUTE, **{key: option for options in TARGETS.values() for key, option in options.items()}}
            reader.options(path, table, known, hints=_hints_of_routes())
        found = " and ".join(targets) or "none"
        reader.refuse(path, f": it leads to {found}; give it one of {', '.join(TARGETS)}")
        return RouteText("", {}, reader.place(path))
    (target,) = targets
    options = {**ROUTE, **TARGETS[target]}
    if target in ("static", "redirect"):
        del options["strip"]
    given = reader.options(path, table, options, hints=_hints_of_routes())
    return RouteText(target, given, reader.place(path))


def _hints_of_routes() -> dict[str, str]:
    """Return for each key of some routes which those are, as a hint."""
    hints: dict[str, str] = {}
    for target, options in TARGETS.items():
        for key in _with_aliases(options):
            hints.setdefault(key, f"it is for a route with {target}")
    return {**hints, "strip": "it is for a route with app or upstream"}


def _with_aliases(options: Mapping[str, Option], others: Collection[str] = ()) -> dict[str, str]:
    """Return the keys, each also by the other names of its option in Python."""
    aliases = {alias: key for key, option in options.items() for alias in option.keys}
    return {**aliases, **{key: key for key in others}}
