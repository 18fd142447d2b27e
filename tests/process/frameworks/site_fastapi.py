"""The test's application with FastAPI, and the one with Flask mounted in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from tests.process.frameworks.gates import GATES, describe, events_later, pieces_later
from tests.process.frameworks.site_flask import app as flask_app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"greeting": "from the lifespan"}


app = FastAPI(lifespan=lifespan)


@app.get("/state", response_class=PlainTextResponse)
async def state(request: Request) -> str:
    return str(request.state.greeting)


@app.post("/upload", response_class=PlainTextResponse)
async def upload(request: Request) -> str:
    return describe(await request.body())


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(pieces_later())


@app.get("/events/{name}")
async def feed(name: str) -> StreamingResponse:
    return StreamingResponse(events_later(name), media_type="text/event-stream")


@app.post("/gates/{name}")
def open_gate(name: str) -> None:
    GATES[name].set()


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (text := await websocket.receive_text()) != "bye":
        await websocket.send_text(text.upper())
    await websocket.close(4001)


app.mount("/mounted", WSGIMiddleware(flask_app))  # type: ignore[arg-type]  # Flask's types are not a2wsgi's
