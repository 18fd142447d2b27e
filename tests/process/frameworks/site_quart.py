"""The test's application with Quart."""

from quart import Quart, Response, request, websocket

from tests.process.frameworks.gates import GATES, describe, events_later, pieces_later

app = Quart(__name__)


@app.post("/upload")
async def upload() -> str:
    return describe(await request.data)


@app.get("/stream")
async def stream() -> Response:
    return Response(pieces_later())


@app.get("/events/<name>")
async def feed(name: str) -> Response:
    return Response(events_later(name), mimetype="text/event-stream")


@app.post("/gates/<name>")
async def open_gate(name: str) -> str:
    GATES[name].set()
    return "open"


@app.websocket("/ws")
async def echo() -> None:
    while (text := await websocket.receive()) != "bye":
        await websocket.send(text.upper())
    await websocket.close(4001)
