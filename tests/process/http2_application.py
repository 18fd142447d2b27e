"""The application of test_http2*.py: the first part of a path is what it does, the second is what it is known by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CALLS: Counter[str] = Counter()
RUNNING: Counter[str] = Counter()
PEAK: Counter[str] = Counter()
SENT: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}
PIECE = b"0123456789abcdef" * 4096


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    _, name, key = (scope["path"] + "//").split("/")[:3]
    CALLS[name] += 1
    RUNNING[name] += 1
    PEAK[name] = max(PEAK[name], RUNNING[name])
    try:
        await HANDLERS[name](scope, receive, send, key)
    finally:
        RUNNING[name] -= 1


async def answer(send: Send, body: bytes = b"", status: int = 200, **more: Any) -> None:
    headers = more.pop("headers", [(b"content-type", b"text/plain")])
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})
    await send({"type": "http.response.body", "body": body})


def gate(key: str) -> asyncio.Event:
    return GATES.setdefault(key, asyncio.Event())


def is_open(key: str) -> bool:
    return gate(key).is_set() or Path("go").exists()


async def root(scope: Message, receive: Receive, send: Send, key: str) -> None:
    await answer(send, b"hello")


async def seen(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Answer with what came."""
    names = ("http_version", "method", "path", "scheme", "client", "server", "root_path")
    shown = {name: scope[name] for name in names}
    shown |= {name: scope[name].decode("latin-1") for name in ("raw_path", "query_string")}
    shown["headers"] = [[part.decode("latin-1") for part in pair] for pair in scope["headers"]]
    shown["content"] = (await read(receive)).decode("latin-1")
    await answer(send, json.dumps(shown).encode())


async def read(receive: Receive) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def calls(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Answer with how often each part was called, how many run, and how many ran at a time."""
    told = {"calls": CALLS, "running": RUNNING, "peak": PEAK, "sent": SENT, "pid": os.getpid()}
    await answer(send, json.dumps(told).encode())


async def size(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Answer with how much came."""
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, str(total).encode())


async def echo(scope: Message, receive: Receive, send: Send, key: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def waits(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Do nothing, and read nothing, until the gate is open, or there is a file named `go`."""
    while not is_open(key):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gate(key).wait(), 0.05)
    await size(scope, receive, send, key)


async def opens(scope: Message, receive: Receive, send: Send, key: str) -> None:
    gate(key).set()
    await answer(send)


async def large(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Answer with so many bytes."""
    total = int(key)
    length = (b"content-length", str(total).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    left = total
    while left:
        piece = PIECE[:left]
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        SENT[scope["query_string"].decode()] += len(piece)
    if not total:
        await send({"type": "http.response.body"})


async def early(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Answer without a look at the content."""
    await answer(send, b"enough")


async def status(scope: Message, receive: Receive, send: Send, key: str) -> None:
    length = [(b"content-length", b"5")] if scope["query_string"] else []
    await answer(send, b"hello", int(key), headers=length)


async def trailers(scope: Message, receive: Receive, send: Send, key: str) -> None:
    content = await read(receive)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True}
    await send(start)
    await send({"type": "http.response.body", "body": content})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", str(len(content)).encode())]})


async def raises(scope: Message, receive: Receive, send: Send, key: str) -> None:
    """Raise; with a key, behind the first content and when the gate is open."""
    if key:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await gate(key).wait()
    raise RuntimeError("as it was told to")


async def dies(scope: Message, receive: Receive, send: Send, key: str) -> None:
    await gate(key).wait()
    os._exit(3)


HANDLERS: dict[str, Callable[[Message, Receive, Send, str], Awaitable[None]]] = {
    "": root,
    **{
        handler.__name__: handler
        for handler in (seen, calls, size, echo, waits, opens, large, early, status, trailers, raises, dies)
    },
}
