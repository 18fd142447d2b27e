"""Which interface an application has, and how each is served as the one that workers speak: ASGI 3."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import LoadError
from .loader import Application
from .wsgi import WsgiAdapter

ASGI3, ASGI2, WSGI = "asgi3", "asgi2", "wsgi"


@dataclass(frozen=True, slots=True)
class Served:
    """An application as ASGI 3. `close` ends what serves it besides; nothing may be called after it."""

    app: Application
    interface: str
    close: Callable[[], None]


def serve_interface(app: Application, interface: str, threads: int) -> Served:
    """Return the application as ASGI 3; `interface` is one of asgi3, asgi2 and wsgi, or auto.

    `threads` are how many calls of a WSGI application run at a time.

    Raises LoadError if it shall be found out, and cannot be.
    """
    if interface == "auto":
        interface = detect_interface(app)
    if interface == WSGI:
        adapter = WsgiAdapter(app, threads)
        return Served(adapter, WSGI, adapter.close)
    if interface == ASGI2:
        return Served(_single_callable(app), ASGI2, _nothing)
    return Served(app, ASGI3, _nothing)


def detect_interface(app: Application) -> str:
    """Return asgi3, asgi2 or wsgi, by how the application can be called.

    ASGI 3 takes `scope, receive, send` or is asynchronous; WSGI takes `environ, start_response`, ASGI 2 `scope` alone.
    What takes anything is taken for ASGI 3.

    Raises LoadError if it can be none of them.
    """
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return ASGI3  # built in, or written in C
    positional = [
        item
        for item in signature.parameters.values()
        if item.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    required = sum(item.default is inspect.Parameter.empty for item in positional)
    takes_more = any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in signature.parameters.values())
    takes_three = required <= 3 and (takes_more or len(positional) >= 3)
    if _is_asynchronous(app):
        found = ASGI3 if takes_three else None
    elif required == 3 or (takes_three and not required):
        found = ASGI3
    elif required == 2:
        found = WSGI
    else:
        found = ASGI2 if required == 1 else None
    if found is None:
        kind = "an asynchronous callable" if _is_asynchronous(app) else "a callable"
        raise LoadError(
            f"application: {kind} of {signature} is neither ASGI (scope, receive, send) "
            "nor WSGI (environ, start_response); name another, or say which with --interface"
        )
    return found


def _is_asynchronous(app: Application) -> bool:
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    call = app if inspect.isroutine(app) else getattr(app, "__call__", app)  # noqa: B004 # what it is, not whether
    # asgiref's markcoroutinefunction() has this mark for what only returns a coroutine, before Python 3.12.
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call) or hasattr(app, "_is_coroutine")


def _single_callable(app: Application) -> Application:
    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope["asgi"] = {**scope["asgi"], "version": "2.0"}
        await app(scope)(receive, send)

    return call


def _nothing() -> None:
    pass
