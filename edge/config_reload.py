"""The options of development: when code changes, workers are replaced by ones that run the new code."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from edge.options import Kind, Option, directory, files, seconds, setting, switch

INCLUDED = ("*.py",)
# Hidden files and folders, what Python, editors and package managers write, and environments with their packages.
EXCLUDED = (".*", "*.py[cod]", "*~", "~*", "__pycache__", "node_modules", "site-packages")


def _several(kind: Kind, metavar: str) -> Kind:
    """The same sort of value, of which there may be several."""

    def parse(value: object) -> tuple[Any, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(dict.fromkeys(kind.parse(item) for item in items))

    return Kind(metavar, parse, repeat=True, anchor=kind.anchor)


def _pattern() -> Kind:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{value!r}: not a pattern; use one such as '*.html' or 'templates/*'")
        return value

    return Kind("PATTERN", parse)


_EXTRA_FILES = Option(
    ("--reload-extra-file",), files(), "file that is watched as well, wherever it is; repeatable", "none"
)


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """Whether code is watched, where, and which files of it. Empty `dirs` are where the application is."""

    on: bool = setting(False, switch(), "--reload", help="replace the workers when a file of the application changes")
    dirs: tuple[str, ...] = setting(
        (),
        _several(directory(), "DIR"),
        "--reload-dir",
        "--reload-paths",
        shown="--app-dir",
        help="directory that is watched, with those in it; repeatable",
        beside=(_EXTRA_FILES,),
    )
    includes: tuple[str, ...] = setting(
        (),
        _several(_pattern(), "PATTERN"),
        "--reload-include",
        shown=" ".join(INCLUDED),
        help="files that are watched besides; repeatable",
    )
    excludes: tuple[str, ...] = setting(
        (),
        _several(_pattern(), "PATTERN"),
        "--reload-exclude",
        shown=" ".join(EXCLUDED),
        help="files and directories that are not; repeatable",
    )
    delay: float = setting(0.05, seconds(0.001), "--reload-delay", help="without a change until all count as one")

    def folders(self, app_dir: str) -> list[Path]:
        """Return the directories that are watched, absolute."""
        return [Path(path).resolve() for path in self.dirs or (app_dir or ".",)]


def with_extra_files(parsed: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parsed values of the options with what `--reload-extra-file` says in the place of others."""
    paths = [Path(os.path.abspath(path)) for path in parsed.get("reload_extra_file", ())]
    if not paths:
        return parsed
    folders = parsed.get("reload_dir") or (parsed.get("app_dir") or os.getcwd(),)
    return {
        **parsed,
        "reload_dir": tuple(dict.fromkeys((*folders, *(str(path.parent) for path in paths)))),
        "reload_include": (*parsed.get("reload_include", ()), *dict.fromkeys(path.name for path in paths)),
    }
