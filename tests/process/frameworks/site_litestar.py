"""The test's application with Litestar."""

from typing import Any

from litestar import Litestar, MediaType, Request, WebSocket, get, post, websocket
from litestar.response import Stream

from tests.process.frameworks.gates import GATES, describe, events_later, pieces_later


@post("/upload", media_type=MediaType.TEXT, status_code=200)
async def upload(request: Request[Any, Any, Any]) -> str:
    return describe(await request.body())


@get("/stream")
async def stream() -> Stream:
    return Stream(pieces_later())


@get("/events/{name:str}")
async def feed(name: str) -> Stream:
    return Stream(events_later(name), media_type="text/event-stream")


@post("/gates/{name:str}", sync_to_thread=False, status_code=200)
def open_gate(name: str) -> None:
    GATES[name].set()


@websocket("/ws")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    while (text := await socket.receive_text()) != "bye":
        await socket.send_text(text.upper())
    await socket.close(code=4001)


app = Litestar([upload, stream, feed, open_gate, echo], openapi_config=None)
