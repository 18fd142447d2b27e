"""The settings of one application: which one it is, and how it is called."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.errors import ConfigError
from edge.options import (
    Kind,
    Option,
    application,
    choice,
    count,
    directory,
    file,
    files,
    prefix,
    required,
    setting,
    switch,
)

_LOOPS = ("auto", "asyncio", "uvloop")
# What uvicorn's --loop takes, or took, besides.
_OTHER_LOOPS = {
    "iocp": "uvicorn has dropped it; use asyncio",
    "none": "a worker needs one; use auto",
    "zuvloop": "use zuvloop:new_event_loop, if it is installed",
    "trio": "a worker runs asyncio; use auto",
}


def assignments() -> Kind:
    """Variables with their values: a list of assignments, or a table."""

    def parse(value: object) -> tuple[tuple[str, str], ...]:
        items = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            items = [f"{name}={text}" if isinstance(text, str) else name for name, text in value.items()]
        for item in items:
            # No value in the message: it may be a secret.
            if not isinstance(item, str) or not re.match("[A-Za-z_][A-Za-z0-9_]*=", item) or "\0" in item:
                raise ConfigError(f"{str(item).partition('=')[0]!r}: not an assignment; use NAME=VALUE")
        pairs = (str(item).partition("=") for item in items)
        return tuple({name: text for name, _, text in pairs}.items())

    return Kind("NAME=VALUE", parse, repeat=True, has_commas=True)


def folders() -> Kind:
    """Directories that exist; each item may be a comma list."""
    one = directory()

    def parse(value: object) -> tuple[str, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        words = [word for item in items for word in (item.split(",") if isinstance(item, str) else [item])]
        return tuple(dict.fromkeys(os.path.abspath(one.parse(word)) for word in words))

    def anchor(folder: str, text: str) -> str:
        return ",".join(os.path.join(folder, word) for word in text.split(","))

    return Kind("DIR", parse, repeat=True, anchor=anchor)


def event_loop() -> Kind:
    """The name of an event loop, or the import path of what makes one."""

    def parse(value: object) -> str:
        text = value if isinstance(value, str) else ""
        if text in _OTHER_LOOPS:
            raise ConfigError(f"{value!r}: {_OTHER_LOOPS[text]}")
        path = text.replace(":", ".", 1) if text.count(":") == 1 else ""
        if text not in _LOOPS and not all(part.isidentifier() for part in path.split(".")):
            raise ConfigError(f"{value!r}: unknown; use auto, asyncio, uvloop or MODULE:ATTR")
        return text

    return Kind("auto|asyncio|uvloop|MODULE:ATTR", parse)


_INTERFACES = ("auto", "asgi3", "asgi2", "wsgi")
# What granian calls them: `asgi`, and `asginl` for one that has no lifespan.
_OTHER_NAMES = {"asgi": "asgi3", "asginl": "asginl"}


def _interface() -> Kind:
    known = choice(*_INTERFACES)

    def parse(value: object) -> str:
        word = value.lower() if isinstance(value, str) else ""
        if word == "rsgi":
            raise ConfigError(f"{value!r}: only granian speaks it; serve the application's ASGI form with asgi3")
        return _OTHER_NAMES.get(word) or str(known.parse(value))

    return Kind(known.metavar, parse)


_PASTE = Option(
    ("--paste",),
    file("FILE[#NAME]"),
    "PasteDeploy file in place of MODULE:ATTR; pip install 'edge-serve[paste]'",
    "none",
)
_PASTE_GLOBAL = Option(("--paste-global",), assignments(), "variable for that file; repeatable", "none")


def with_paste(names: Mapping[str, str], parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parsed values of the options with the application that `--paste` names in its place.

    `names` is how the user spelled each option that was given.

    Raises ConfigError if MODULE:ATTR is given as well.
    """
    if "paste" not in parsed:
        if "paste_global" in parsed:
            raise ConfigError(f"{names['paste_global']}: without --paste it is for nothing; add --paste")
        return dict(parsed)
    if "app" in parsed:
        raise ConfigError(f"{names['paste']}: {parsed['app']} is given too; use one of them")
    path, _, name = parsed["paste"].partition("#")
    words = [repr(os.path.abspath(path)), repr(name)]
    words += [f"{key}={value!r}" for key, value in parsed.get("paste_global", ())]
    return {**parsed, "app": f"edge_backend.paste:load({', '.join(words)})"}


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """Which application is served and how it is called. An empty `app_dir` is the current directory."""

    target: str = required(
        application(),
        "app",
        help="the application; MODULE alone: its app, application, asgi or wsgi",
        beside=(_PASTE, _PASTE_GLOBAL),
    )
    app_dir: str = setting(
        "",
        directory(),
        "--app-dir",
        "--working-dir",
        shown="current directory",
        help="where the application is imported from",
    )
    factory: bool = setting(
        False, switch(), "--factory", help="ATTR is called without arguments to get the application"
    )
    root_path: str = setting(
        "",
        prefix(),
        "--root-path",
        "--url-path-prefix",
        shown="none",
        help="path under which the application is mounted",
    )
    lifespan: Literal["auto", "on", "off"] = setting(
        "auto", choice("auto", "on", "off"), "--lifespan", help="send startup and shutdown to the application"
    )
    trust_strict: Literal["auto", "off"] = setting(
        "auto",
        choice("auto", "off"),
        "--trust-strict",
        help="off = when it calls out, do without what Python 3.13 added to verification (VERIFY_X509_STRICT)",
    )
    env_files: tuple[Path, ...] = setting(
        (),
        files(),
        "--env-file",
        "--env-files",
        shown="none",
        help="NAME=VALUE lines for options and workers; repeatable",
    )
    variables: tuple[tuple[str, str], ...] = setting(
        (), assignments(), "--env", "-e", shown="none", help="variable of the workers; repeatable"
    )
    python_path: tuple[str, ...] = setting(
        (), folders(), "--pythonpath", shown="none", help="where modules are looked for besides --app-dir; repeatable"
    )
    loop: str = setting(
        "auto",
        event_loop(),
        "--loop",
        help="event loop of the workers: auto = uvloop if it is installed; MODULE:ATTR is called to make one",
    )
    interface: str = setting(
        "auto",
        _interface(),
        "--interface",
        help="how the application is called: auto = as its arguments say; asginl = asgi3 without lifespan",
    )
    threads: int = setting(
        10,
        count(1, 1000),
        "--threads",
        "--wsgi-threads",
        help="calls of a WSGI application that run at a time in one worker",
    )

    @property
    def spoken(self) -> str:
        """The interface as a worker is told: auto, asgi3, asgi2 or wsgi."""
        return "asgi3" if self.interface == "asginl" else self.interface

    @property
    def wanted_lifespan(self) -> str:
        """The lifespan as a worker is told: auto, on or off."""
        return "off" if self.interface == "asginl" else self.lifespan
