"""The settings of one application: which one it is, and how it is called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.options import application, choice, directory, files, prefix, required, setting, switch


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """Which application is served and how it is called. An empty `app_dir` is the current directory."""

    target: str = required(application(), "app", help="the ASGI application; MODULE alone means MODULE:app")
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
