"""Where settings come from besides options: `edge.toml`, and variables out of env files. Read again at each reload."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from edge.config import NO_FILE, TABLES, ServeSettings, build_settings, config_file, env_files, find_given, start_folder
from edge.config_sites import AppPlan, SitePlan
from edge.config_tls import KEY_PASSWORD_VARIABLES
from edge.config_toml import FileText, read_text
from edge.errors import ConfigError
from edge.given import Given
from edge.toml_file import read_document

# The file that commands find by themselves.
FILE = "edge.toml"
# What only an authority, or the process that reads keys, is to hear.
_SECRETS = frozenset(("EDGE_ACME_EAB_KEY", *KEY_PASSWORD_VARIABLES))


def read_settings(values: Mapping[str, object], environ: Mapping[str, str]) -> ServeSettings:
    """Return the settings from options, `environ` and the file that they name, in this order of strength.

    What env files say counts where `environ` says nothing.

    Raises ConfigError on whatever is wrong with an option or a file.
    """
    text, files, found = _read_files(values, environ)
    settings = build_settings(values, {**found, **environ}, text)
    sites = tuple(_with_variables(site, files) for site in settings.sites)
    return dataclasses.replace(settings, variables=found, sites=sites)


def read_sources(
    values: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[ServeSettings, Mapping[str, Given], FileText]:
    """Return the settings as `read_settings` does, what was given of them and where, and what the file says.

    Raises ConfigError as that does.
    """
    text, _, found = _read_files(values, environ)
    return read_settings(values, environ), find_given(values, {**found, **environ}, text), text


def _read_files(
    values: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[FileText, Collection[Path], Mapping[str, str]]:
    text = read_file(values, environ)
    files = env_files(values, environ, text)
    return text, files, read_env_files(files)


def read_file(values: Mapping[str, object], environ: Mapping[str, str]) -> FileText:
    """Return what the file says that options or `environ` name; nothing if they name none.

    Raises ConfigError if it cannot be read or is not TOML.
    """
    name = config_file(values, environ)
    return read_text(read_document(name), TABLES) if name else NO_FILE


def _with_variables(site: SitePlan, read: Collection[Path]) -> SitePlan:
    """Give the workers of each application what env files of their own say; all workers have what is in `read`."""
    routes = []
    for route in site.routes:
        target = route.target
        if isinstance(target, AppPlan):
            own = [file for file in target.application.env_files if file not in read]
            target = dataclasses.replace(target, variables={**read_env_files(own), **target.variables})
        routes.append(dataclasses.replace(route, target=target))
    return dataclasses.replace(site, routes=tuple(routes))


def with_file_here(values: Mapping[str, Given], environ: Mapping[str, str]) -> dict[str, Given]:
    """Return the options with the file of the current directory, where there is one and no other is named."""
    if "config" in values or environ.get("EDGE_CONFIG") or not os.path.isfile(FILE):
        return dict(values)
    return {**values, "config": Given(FILE, "--config ")}


def enter_folder(values: Mapping[str, object], environ: Mapping[str, str]) -> None:
    """Make the directory of `--chdir` the current one, if there is one. Before anything else is read, and once.

    Raises ConfigError if that cannot be.
    """
    folder = start_folder(values, environ)
    try:
        if folder:
            os.chdir(folder)
    except OSError as error:
        reason = str(error.strerror).lower()
        raise ConfigError(f"--chdir {folder}: {reason}; use a directory that this user may enter") from None


def read_env_files(files: Iterable[Path]) -> dict[str, str]:
    """Return the variables of the files; of two that set the same, the later wins.

    Raises ConfigError if a file cannot be read, or a line is no assignment.
    """
    found: dict[str, str] = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = str(error.strerror).lower() if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"--env-file {file}: {reason}; use a file of NAME=VALUE lines") from None
        for binding in parse_stream(io.StringIO(text)):
            if binding.error:
                place = f"--env-file {file}:{binding.original.line}"
                raise ConfigError(f"{place}: not an assignment; use NAME=VALUE, and # before a comment")
        values = dotenv_values(stream=io.StringIO(text))
        found |= {name: value for name, value in values.items() if value is not None}
    return found


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the operator's secrets that workers have no use for."""
    return {name: value for name, value in environ.items() if name not in _SECRETS}
