"""Variables out of `--env-file`: for the options of the server as for its workers, read again at each reload."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from edge.config import ServeSettings, build_settings, env_files, start_folder
from edge.errors import ConfigError


def read_settings(values: Mapping[str, object], environ: Mapping[str, str]) -> ServeSettings:
    """Return the settings from options and `environ`; what the env files say counts where `environ` says nothing.

    Raises ConfigError on whatever is wrong with an option or a file.
    """
    found = read_env_files(env_files(values, environ))
    settings = build_settings(values, {**found, **environ})
    return dataclasses.replace(settings, variables=found)


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
