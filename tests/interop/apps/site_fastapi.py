"""A FastAPI application with what people use of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, Header, HTTPException, Request, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

app = FastAPI(title="Interop")
done: list[str] = []
may_finish = asyncio.Event()


async def finish_later(word: str) -> None:
    """Run after the answer, and not before somebody says so."""
    await may_finish.wait()
    done.append(word)


@app.post("/tasks/{word}")
async def start_task(word: str, tasks: BackgroundTasks) -> dict[str, list[str]]:
    """Answer before the task is done."""
    tasks.add_task(finish_later, word)
    return {"done": list(done)}


def write_later(path: Path) -> None:
    """Stand in for work that takes longer than its answer; FastAPI runs it in a thread."""
    time.sleep(0.5)
    path.write_text("written")


@app.post("/write")
def start_writing(tasks: BackgroundTasks) -> str:
    """Answer before a file in the current directory is written."""
    tasks.add_task(write_later, Path("written.txt"))
    return str(Path("written.txt").absolute())


@app.post("/release")
async def release() -> dict[str, bool]:
    """Let the tasks finish."""
    may_finish.set()
    return {"released": True}


@app.get("/done")
async def read_done() -> list[str]:
    """Return what the tasks have done."""
    return done


@app.post("/form")
async def form(name: Annotated[str, Form()], file: Annotated[UploadFile, File()]) -> dict[str, object]:
    """Take a form with a file."""
    content = await file.read()
    return {"name": name, "file": file.filename, "size": len(content), "sum": sum(content) % 65521}


@app.get("/stream")
def stream() -> StreamingResponse:
    """Send a megabyte from a thread, in pieces and of unknown length."""

    def pieces() -> Iterator[bytes]:
        for number in range(64):
            yield bytes([number]) * 16384

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.get("/events")
async def events() -> StreamingResponse:
    """Send one event and then nothing until `/release`."""

    async def lines() -> AsyncIterator[str]:
        yield "data: first\n\n"
        await may_finish.wait()
        yield "data: last\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def current_user(authorization: Annotated[str, Header()] = "") -> str:
    """Know one user."""
    if authorization != "Bearer good":
        raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Bearer"})
    return "ada"


@app.get("/me")
async def me(user: Annotated[str, Depends(current_user)]) -> str:
    """Return the user that a dependency found."""
    return user


async def broken() -> str:
    """Fail as a database does."""
    raise RuntimeError("no database")


@app.get("/broken")
async def depends_on_broken(value: Annotated[str, Depends(broken)]) -> str:
    """Never be reached."""
    return value


@app.api_route("/echo", methods=["GET", "POST", "PUT"])
async def echo(request: Request) -> dict[str, object]:
    """Return the request as the application sees it."""
    body = await request.body()
    client = request.client.host if request.client is not None else None
    return {
        "method": request.method,
        "url": str(request.url),
        "client": client,
        "query": dict(request.query_params),
        "forwarded_for": request.headers.get("x-forwarded-for"),
        "forwarded_proto": request.headers.get("x-forwarded-proto"),
        "size": len(body),
        "text": body[:64].decode("utf-8", "replace"),
    }


@app.websocket("/ws")
async def websocket(socket: WebSocket) -> None:
    """Send back what comes."""
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=offered[-1] if offered else None)
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass
