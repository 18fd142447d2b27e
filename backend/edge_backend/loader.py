"""From `package.module:name` to an application object."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .errors import LoadError

Application = Callable[..., Any]

DEFAULT_ATTRIBUTE = "app"


def load_application(target: str, *, app_dir: str, factory: bool) -> Application:
    """Import the application; `app_dir` goes to the front of `sys.path` just before.

    What the application's own code raises on the way comes through as it is.

    Raises LoadError if the module or the attribute does not exist, or what is there cannot be called.
    """
    sys.path.insert(0, app_dir)
    module_name, _, attribute = target.partition(":")
    value: Any = _import(module_name, target)
    for name in (attribute or DEFAULT_ATTRIBUTE).split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise LoadError(
                f"application {target!r}: module {module_name!r} has no attribute {name!r}; name it as MODULE:ATTRIBUTE"
            ) from None
    if factory and callable(value):
        value = value()
    if not callable(value):
        raise LoadError(f"application {target!r}: {type(value).__name__!r} cannot be called; name an ASGI application")
    return value  # type: ignore[no-any-return]  # what a user's module holds has no type


def _import(module_name: str, target: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the named module itself, or a package above it: a missing import inside the application is the
        # application's failure, and its traceback says more than we could.
        missing = error.name or ""
        if missing and (module_name == missing or module_name.startswith(missing + ".")):
            where = sys.path[0] or "."
            raise LoadError(
                f"application {target!r}: no module named {missing!r} in {where!r}; check the name, or set --app-dir"
            ) from None
        raise
    except ValueError:
        raise LoadError(f"application {target!r}: {module_name!r} is no module's name; use MODULE:ATTRIBUTE") from None


def application_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that belongs to the application: without our frames and importlib's on top.

    None if nothing of it does: a syntax error in its first line happens in importlib.
    """
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        if not name.startswith(("edge_backend", "importlib", "asyncio")):
            break
        traceback = traceback.tb_next
    return traceback
