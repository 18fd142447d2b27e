"""By which interface an application is called."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest

from edge_backend.errors import LoadError
from edge_backend.interface import detect_interface, serve_interface
from tests.ends import in_loop


async def asgi3(scope: Any, receive: Any, send: Any) -> None: ...


async def asgi3_extended(scope: Any, receive: Any, send: Any, name: str = "") -> None: ...


async def asgi3_of_anything(*arguments: Any) -> None: ...


def returns_asgi3(scope: Any, receive: Any, send: Any) -> Any:
    return asgi3(scope, receive, send)


def returns_anything(*arguments: Any, **keywords: Any) -> Any:
    return asgi3(*arguments, **keywords)


@functools.wraps(asgi3)
def decorated(*arguments: Any) -> Any:
    return asgi3(*arguments)


class Asgi3:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


class Awaited:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


class Asgi2:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


def asgi2(scope: Any) -> Any:
    async def instance(receive: Any, send: Any) -> None:
        await send((scope["asgi"], await receive()))

    return instance


def wsgi(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return []


def wsgi_extended(environ: Any, start_response: Any, option: int = 1) -> Any: ...


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class WsgiIterable:
    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Any: ...


def marked() -> Any:
    """What asgiref's markcoroutinefunction() makes before Python 3.12."""

    def call(scope: Any, receive: Any, send: Any) -> Any: ...

    vars(call)["_is_coroutine"] = object()
    return call


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi3, "asgi3"),
        (asgi3_extended, "asgi3"),
        (asgi3_of_anything, "asgi3"),
        (returns_asgi3, "asgi3"),
        (returns_anything, "asgi3"),
        (decorated, "asgi3"),
        (Asgi3(), "asgi3"),
        (Asgi3().method, "asgi3"),
        (functools.partial(asgi3_extended, name="x"), "asgi3"),
        (Awaited, "asgi3"),
        (marked(), "asgi3"),
        (dict, "asgi3"),  # without a signature
        (asgi2, "asgi2"),
        (Asgi2, "asgi2"),
        (wsgi, "wsgi"),
        (wsgi_extended, "wsgi"),
        (Wsgi(), "wsgi"),
        (Wsgi().__call__, "wsgi"),
        (WsgiIterable, "wsgi"),
        (functools.partial(wsgi_extended, option=2), "wsgi"),
    ],
)
def test_interface_is_told_by_the_arguments(app: Any, interface: str) -> None:
    assert detect_interface(app) == interface


async def two(environ: Any, start_response: Any) -> None: ...


async def none() -> None: ...


def four(a: Any, b: Any, c: Any, d: Any) -> None: ...


def keywords(**options: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (two, "an asynchronous callable"),
        (none, "an asynchronous callable"),
        (four, "a callable"),
        (keywords, "a callable"),
    ],
)
def test_what_has_no_interface_is_refused(app: Any, kind: str) -> None:
    with pytest.raises(LoadError) as refusal:
        serve_interface(app, "auto", 1)
    assert str(refusal.value) == (
        f"application: {kind} of {inspect.signature(app)} is neither ASGI (scope, receive, send) "
        "nor WSGI (environ, start_response); name another, or say which with --interface"
    )


def test_asgi3_is_served_as_it_is() -> None:
    served = serve_interface(asgi3, "auto", 1)
    assert (served.app, served.interface) == (asgi3, "asgi3")
    served.close()


@in_loop
async def test_asgi2_is_called_in_two_steps() -> None:
    sent: list[Any] = []

    async def receive() -> str:
        return "received"

    async def send(message: Any) -> None:
        sent.append(message)

    served = serve_interface(asgi2, "auto", 1)
    assert served.interface == "asgi2"
    await served.app({"asgi": {"version": "3.0", "spec_version": "2.5"}}, receive, send)
    assert sent == [({"version": "2.0", "spec_version": "2.5"}, "received")]


@pytest.mark.parametrize("said", ["auto", "wsgi"])
def test_wsgi_is_adapted(said: str) -> None:
    served = serve_interface(wsgi, said, 1)
    assert served.app is not wsgi
    assert served.interface == "wsgi"
    served.close()


def test_what_is_said_is_stronger_than_what_it_looks_like() -> None:
    served = serve_interface(wsgi, "asgi3", 1)
    assert served.app is wsgi
