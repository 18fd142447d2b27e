"""The application that every stack serves: as little work as an answer needs, the same for all."""

from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY = b"Hello, world!\n"
# 64 KiB is what file responses of the usual frameworks send at a time.
CHUNK = bytes(range(256)) * 256
CHUNKS = {"/large-1": 16, "/large-10": 160}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer `/small` with 14 bytes, `/large-N` with N MiB, `/scope` with the scheme and the client's address."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"] in CHUNKS:
        await _send_large(send, CHUNKS[scope["path"]])
    elif scope["path"] == "/scope":
        client = scope["client"] or ("nobody", 0)
        await _send_small(send, f"{scope['scheme']} {client[0]}".encode())
    else:
        await _send_small(send, BODY)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send_small(send: Send, body: bytes) -> None:
    await send(_start(len(body)))
    await send({"type": "http.response.body", "body": body})


async def _send_large(send: Send, chunks: int) -> None:
    await send(_start(chunks * len(CHUNK)))
    for left in reversed(range(chunks)):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": left > 0})


def _start(size: int) -> dict[str, Any]:
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % size)]
    return {"type": "http.response.start", "status": 200, "headers": fields}
