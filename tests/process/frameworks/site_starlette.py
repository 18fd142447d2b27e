"""The test's application with Starlette."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.process.frameworks.gates import GATES, describe, events_later, pieces_later


async def upload(request: Request) -> Response:
    return PlainTextResponse(describe(await request.body()))


async def stream(request: Request) -> Response:
    return StreamingResponse(pieces_later())


async def feed(request: Request) -> Response:
    return StreamingResponse(events_later(request.path_params["name"]), media_type="text/event-stream")


async def open_gate(request: Request) -> Response:
    GATES[request.path_params["name"]].set()
    return PlainTextResponse("open")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (text := await websocket.receive_text()) != "bye":
        await websocket.send_text(text.upper())
    await websocket.close(4001)


app = Starlette(
    routes=[
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/events/{name}", feed),
        Route("/gates/{name}", open_gate, methods=["POST"]),
        WebSocketRoute("/ws", echo),
    ]
)
