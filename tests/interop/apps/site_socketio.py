"""A Socket.IO server as its documentation has it: what it knows of a client is in the memory of the worker."""

from __future__ import annotations

import os
from typing import Any

import socketio

server = socketio.AsyncServer(async_mode="asgi")


async def ask(sid: str, text: str) -> str:
    """Say which process has the client."""
    return f"{text} {os.getpid()}"


server.on("ask", ask)


async def pid(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Say which process has the request."""
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


app = socketio.ASGIApp(server, other_asgi_app=pid)
