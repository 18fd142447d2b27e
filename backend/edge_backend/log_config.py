"""`--log-config`: a file that says where logs go, in the formats of `logging.config`, as it is for uvicorn or gunicorn.

What the server logs goes where the file sends the logger `edge`; if it does not name that one, where it sends
`uvicorn.error`, or else `gunicorn.error`. So files that were written for those servers work as they are.
"""

from __future__ import annotations

import configparser
import contextlib
import copy
import json
import logging
import logging.config
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import LoadError

# Classes in a file that uvicorn would bring.
_THEIRS, _OURS = "uvicorn.logging.", "edge_backend.log_formatters."


def apply_log_config(path: str) -> str:
    """Do what the file says; return the name of the logger that the access log is for.

    By its suffix the file is JSON, YAML or TOML, and a configuration for `logging.config.dictConfig`; others are INI,
    for `fileConfig`.

    Raises LoadError if the file cannot be read, or what it says cannot be done.
    """
    with _explained(path):
        config = _read(Path(path))
        names = _apply_ini(config) if isinstance(config, configparser.RawConfigParser) else _apply_dict(config)
    return _adopt(names)


def check_log_config(path: str) -> None:
    """Read such a file and do nothing of what it says: that could open files and connections.

    Raises LoadError if the file cannot be read, or is not what its suffix says.
    """
    with _explained(path):
        _read(Path(path))


def apply_log_table(table: dict[str, Any]) -> str:
    """Do the same with what is in such a file; the table stays as it is. Raises what `dictConfig` does."""
    return _adopt(_apply_dict(copy.deepcopy(table)))


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Raise LoadError, with the name of the file, for what is wrong with it."""
    try:
        yield
    except OSError as error:
        reason = str(error.strerror).lower()
        raise LoadError(f"--log-config {path}: {reason}; use a file that this user may read") from None
    except Exception as error:  # what parsers, handlers and formatters of the user's choice raise
        raise LoadError(
            f"--log-config {path}: {_reason(error)}; see logging.config in Python's documentation"
        ) from None


def _read(file: Path) -> configparser.RawConfigParser | dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    suffix = file.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml", ".toml"):
        parser = configparser.RawConfigParser()
        parser.read_string(text)
        return parser
    config = _parse(suffix, text)
    if not isinstance(config, dict):
        raise ValueError("not a table of settings")
    return config


def _parse(suffix: str, text: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    if suffix == ".toml":
        return tomllib.loads(text)
    import yaml  # 20 ms, for this alone

    return yaml.safe_load(text)


def _apply_dict(config: dict[str, Any]) -> set[str]:
    config = {"version": 1, **config}
    for formatter in config.get("formatters", {}).values():
        for key in ("()", "class"):
            if str(formatter.get(key, "")).startswith(_THEIRS):
                formatter[key] = formatter[key].replace(_THEIRS, _OURS)
    logging.config.dictConfig(config)
    return set(config.get("loggers", ()))


def _apply_ini(parser: configparser.RawConfigParser) -> set[str]:
    for section in parser.sections():
        if parser.get(section, "class", fallback="").startswith(_THEIRS):
            parser.set(section, "class", parser.get(section, "class").replace(_THEIRS, _OURS))
    logging.config.fileConfig(parser, disable_existing_loggers=False)
    return {parser.get(section, "qualname", fallback="") for section in parser.sections()}


def _adopt(names: set[str]) -> str:
    """Let the server's loggers follow what may never have heard of them; return the logger of the access log."""
    access = "gunicorn.access" if "gunicorn.access" in names and "uvicorn.access" not in names else "uvicorn.access"
    # By its default a file disables the loggers that are there and that it does not name.
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "edge" and isinstance(logger, logging.Logger):
            logger.disabled = False
    if "edge" in names:
        return access
    own = logging.getLogger("edge")
    own.handlers.clear()
    own.setLevel(logging.NOTSET)
    own.propagate = True
    if not names.isdisjoint(("uvicorn", "uvicorn.error")):
        own.parent = logging.getLogger("uvicorn.error")
    elif "gunicorn.error" in names:
        own.parent = logging.getLogger("gunicorn.error")
    else:
        own.parent = logging.root
    return access


def _reason(error: BaseException) -> str:
    """Return what is wrong in one line; `dictConfig` hides the reason in the cause of what it raises."""
    texts = [f"{error} is missing" if isinstance(error, KeyError) else str(error)]
    if error.__cause__ is not None:
        texts.append(str(error.__cause__))
    return ": ".join(" ".join(text.split()) for text in texts if text) or type(error).__name__
