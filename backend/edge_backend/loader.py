"""From the name of an application, or from what a program hands over, to the application object."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from .errors import LoadError
from .target import DEFAULT_ATTRIBUTES, Call, Target, TargetError, parse_target

Application = Callable[..., Any]

# Whose frames stand on top of the application's own in a traceback.
_OURS = ("edge_backend", "importlib", "asyncio", "concurrent")


@dataclass(frozen=True, slots=True)
class Loaded:
    """An application. `remark` is for the operator: how it was found, where that was a guess; else empty."""

    app: Application
    remark: str = ""


def load_application(target: str, *, app_dir: str, factory: bool) -> Loaded:
    """Import the application; `app_dir`, unless it is empty, goes to the front of `sys.path` just before.

    What the application's own code raises on the way comes through as it is.

    Raises LoadError if the name leads nowhere, what is there cannot be called, or it is a factory that cannot be
    called in this way.
    """
    try:
        parsed = parse_target(target)
    except TargetError as error:
        raise LoadError(f"application {target!r}: {error}") from None
    if app_dir and app_dir not in sys.path[:1]:
        sys.path.insert(0, app_dir)
    module = _import(parsed.module, target)
    value = _find(module, parsed, f"application {target!r}", app_dir)
    return make_application(value, f"application {target!r}", factory=factory, call=parsed.call)


def make_application(value: Any, name: str, *, factory: bool, call: Call | None = None) -> Loaded:
    """Return the application that `value` is, or makes: it is called if it is a factory, with the call's arguments.

    `name` begins the messages. A callable that takes nothing cannot be an application: it is taken for a factory.

    Raises LoadError if it cannot be called, or not in this way.
    """
    remark = ""
    if not callable(value):
        raise LoadError(f"{name}: {type(value).__name__!r} cannot be called; name an ASGI or WSGI application")
    if call is None and not factory and _takes_nothing(value):
        remark = f"{name}: it takes no arguments, so it is called to get the application; say so with --factory"
    if call is not None or factory or remark:
        value = _call(value, name, call or Call())
    if inspect.iscoroutine(value):
        value.close()
        raise LoadError(f"{name}: the factory is asynchronous; use one that returns the application")
    if not callable(value):
        raise LoadError(f"{name}: the factory returned {type(value).__name__!r}, which cannot be called")
    return Loaded(value, remark)


def cause_of(error: BaseException) -> str:
    """Return in one line what an application has raised while it was imported or started, and what helps."""
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{what}; install it for {sys.executable}, or say where it is with --pythonpath"
    return what


def application_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that belongs to the application: without our frames and importlib's on top.

    None if nothing of it does: a syntax error in its first line happens in importlib.
    """
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        if not name.startswith(_OURS):
            break
        traceback = traceback.tb_next
    return traceback


def _import(module_name: str, target: str) -> ModuleType:
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


def _find(module: ModuleType, target: Target, name: str, app_dir: str) -> Any:
    if not target.names:
        found = [getattr(module, attribute, None) for attribute in DEFAULT_ATTRIBUTES]
        value = next((item for item in found if callable(item)), None)
        if value is None:
            tried = ", ".join(DEFAULT_ATTRIBUTES)
            raise LoadError(f"{name}: none of {tried} can be called there{_hidden(module, app_dir)}; use MODULE:ATTR")
        return value
    value = module
    for attribute in target.names:
        if not hasattr(value, attribute):
            near = difflib.get_close_matches(attribute, [item for item in dir(value) if item[0] != "_"], n=1)
            hint = f"did you mean {near[0]!r}" if near else "name it as MODULE:ATTRIBUTE"
            where = f"module {target.module!r} has no attribute {attribute!r}"
            raise LoadError(f"{name}: {where}{_hidden(module, app_dir)}; {hint}")
        value = getattr(value, attribute)
    return value


def _hidden(module: ModuleType, app_dir: str) -> str:
    """Say so if a module of the standard library was there first: the user's file of that name is hidden by it."""
    own = os.path.join(app_dir, f"{module.__name__}.py")
    file = getattr(module, "__file__", None) or "the interpreter"
    if not os.path.exists(own) or os.path.abspath(file) == os.path.abspath(own):
        return ""
    return f" (it came from {file}: {own} is hidden by it, rename that)"


def _call(factory: Application, name: str, call: Call) -> Any:
    signature = _signature(factory)
    if signature is not None:
        try:
            signature.bind(*call.arguments, **call.keywords)
        except TypeError as error:
            raise LoadError(f"{name}: the factory cannot be called so: {error}; use MODULE:create_app(...)") from None
    return factory(*call.arguments, **call.keywords)


def _takes_nothing(value: Application) -> bool:
    """True for what cannot take a request, and can be called without one."""
    signature = _signature(value)
    if signature is None or inspect.iscoroutinefunction(value):
        return False
    kinds = [(item.kind, item.default) for item in signature.parameters.values()]
    return not any(
        kind is inspect.Parameter.VAR_POSITIONAL
        or (default is inspect.Parameter.empty and kind is not inspect.Parameter.VAR_KEYWORD)
        for kind, default in kinds
    )


def _signature(value: Application) -> inspect.Signature | None:
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return None  # built in, or written in C
