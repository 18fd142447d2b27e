"""Where gunicorn's settings come from: its arguments, GUNICORN_CMD_ARGS, and a configuration file that is a program."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from edge.cli_compat.gunicorn import FLAGS
from edge.cli_compat.rules import parse
from edge.errors import ConfigError

_DEFAULT_FILE = "gunicorn.conf.py"


def read_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings by their names in files: those of the file, of GUNICORN_CMD_ARGS, of the arguments; what
    comes later is stronger. `app` is the list of applications.

    The file is run, as gunicorn does it.

    Raises ConfigError for what gunicorn does not know, and if the file raises.
    """
    variable = _parse(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))
    given = _parse(arguments)
    app = given.pop("app", [])
    settings = {**variable, **given}
    settings.pop("app", None)
    file = settings.get("config") or (_DEFAULT_FILE if os.path.isfile(_DEFAULT_FILE) else "")
    return {**(_run(str(file)) if file else {}), **settings, "app": app}


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    flags = [flag for flag in FLAGS.values() if flag.names]
    names = {flag.key: name for name, flag in FLAGS.items() if flag.names}
    found = parse("gunicorn", flags, arguments, abbreviated=True)
    return {names.get(key, key): value for key, value in found.items()}


def _run(file: str) -> dict[str, Any]:
    try:
        module = _import(file.removeprefix("python:")) if file.startswith("python:") else _load(file)
    except ConfigError:
        raise
    except Exception as error:
        traceback.print_exception(type(error), error, _of_the_file(error.__traceback__))
        raise ConfigError(f"gunicorn -c {file}: {type(error).__name__}: {error}; mend the file") from None
    settings = {name.lower(): value for name, value in module.items() if name.lower() in FLAGS}
    return {name: value for name, value in settings.items() if value is not None}


def _of_the_file(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that belongs to the file: without our frames and importlib's on top."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(("edge.", "importlib")):
        trace = trace.tb_next
    return trace


def _load(file: str) -> dict[str, Any]:
    path = file.removeprefix("file:")
    if not os.path.isfile(path):
        raise ConfigError(f"gunicorn -c {file}: no such file; use one that exists")
    loader = importlib.machinery.SourceFileLoader("__config__", path)
    specification = importlib.util.spec_from_file_location("__config__", path, loader=loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["__config__"] = module
    loader.exec_module(module)
    return vars(module)


def _import(name: str) -> dict[str, Any]:
    sys.path.insert(0, os.getcwd())
    try:
        return vars(importlib.import_module(name))
    finally:
        sys.path.remove(os.getcwd())
