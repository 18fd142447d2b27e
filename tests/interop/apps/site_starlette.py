"""A Starlette application: mounts, sessions, static files, redirects, WebSocket endpoints."""

import os
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket


async def count(request: Request) -> Response:
    """Count the visits of a session."""
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse({"visits": visits})


async def where(request: Request) -> Response:
    """Return what a mounted application takes for its place."""
    return JSONResponse({"url": str(request.url), "root_path": request.scope["root_path"], "path": request.url.path})


async def go(request: Request) -> Response:
    """Redirect to another route by its absolute URL."""
    return RedirectResponse(request.url_for("count"))


class Shout(WebSocketEndpoint):
    """Answer in capital letters."""

    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Take one message."""
        await websocket.send_text(data.upper())


FILES = Path(os.environ["STATIC_FILES"])
sub_app = Starlette(routes=[Route("/where", where), Route("/slash/", where)])
app = Starlette(
    routes=[
        Route("/count", count, name="count"),
        Route("/go", go),
        Mount("/sub", sub_app),
        Mount("/static", StaticFiles(directory=FILES, html=True)),
        WebSocketRoute("/shout", Shout),
    ],
    middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"]),
        Middleware(HTTPSRedirectMiddleware),
        Middleware(SessionMiddleware, secret_key="not a secret", https_only=True),
    ],
)
