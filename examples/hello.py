# edge serve --dev --app-dir examples hello:app
"""The smallest ASGI application."""

from collections.abc import Awaitable, Callable
from typing import Any


async def app(scope: dict[str, Any], receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Answer every request with a greeting."""
    assert scope["type"] == "http"  # how an application says that it has no lifespan and no WebSockets
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Hello, world!\n"})
