"""The application of test_asgi_websocket.py: a path is what it does, and where it notes what it sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SEEN: dict[str, list[Any]] = {}
GATE = asyncio.Event()


class Socket:
    """What a WebSocket handler gets."""

    def __init__(self, scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.seen = seen

    async def accept(self, **more: Any) -> None:
        await self.receive()
        await self.send({"type": "websocket.accept", **more})

    async def note(self) -> None:
        message = await self.receive()
        self.seen.append([message[key] for key in ("type", "code", "reason") if key in message])

    async def refused(self, message: Message) -> None:
        try:
            await self.send(message)
        except Exception as error:
            self.seen.append([type(error).__name__, str(error)])
        else:
            self.seen.append("allowed")


async def app(scope: Message, receive: Receive, send: Send) -> None:
    _, name, key = (scope.get("path", "") + "//").split("/")[:3]
    seen = SEEN.setdefault(key, [])
    if scope["type"] == "websocket":
        await HANDLERS[name](Socket(scope, receive, send, seen))
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def echo(socket: Socket) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        await socket.send(
            {"type": "websocket.send", **({"bytes": message["bytes"]} if text is None else {"text": text})}
        )
    socket.seen.append([message["type"], message["code"], message["reason"]])


async def note(socket: Socket) -> None:
    await socket.accept()
    socket.seen.append("accepted")
    await socket.note()


async def after(socket: Socket) -> None:
    await socket.accept()
    socket.seen.append("accepted")
    await socket.note()
    await socket.note()
    await socket.refused({"type": "websocket.send", "text": "late"})
    await socket.refused({"type": "websocket.close"})


async def scope(socket: Socket) -> None:
    await socket.accept()
    shown = {key: socket.scope[key] for key in ("type", "scheme", "path", "subprotocols", "http_version", "extensions")}
    shown["others"] = sorted(socket.scope.keys() - shown.keys())
    await socket.send({"type": "websocket.send", "text": json.dumps(shown)})


async def subprotocol(socket: Socket) -> None:
    await socket.accept(subprotocol=socket.scope["subprotocols"][-1], headers=[(b"X-Mine", b"1")])


async def close(socket: Socket) -> None:
    await socket.accept()
    await socket.send({"type": "websocket.close", "code": 4001, "reason": "bye"})
    await socket.note()
    await socket.refused({"type": "websocket.send", "text": "late"})


async def close_plain(socket: Socket) -> None:
    await socket.accept()
    await socket.send({"type": "websocket.close"})


async def returns(socket: Socket) -> None:
    await socket.accept()


async def raises(socket: Socket) -> None:
    await socket.accept()
    raise RuntimeError("after accept")


async def raises_early(socket: Socket) -> None:
    raise RuntimeError("before accept")


async def returns_early(socket: Socket) -> None:
    await socket.receive()


async def refuses(socket: Socket) -> None:
    await socket.receive()
    await socket.send({"type": "websocket.close", "code": 4003, "reason": "no"})
    await socket.note()


async def denies(socket: Socket) -> None:
    await socket.receive()
    headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Basic")]
    await socket.send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await socket.refused({"type": "websocket.accept"})
    await socket.send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await socket.send({"type": "websocket.http.response.body", "body": b"you"})


async def denies_half(socket: Socket) -> None:
    await socket.receive()
    await socket.send({"type": "websocket.http.response.start", "status": 401})


async def order(socket: Socket) -> None:
    await socket.receive()
    await socket.refused({"type": "websocket.send", "text": "early"})
    await socket.refused({"type": "http.response.start", "status": 200})
    await socket.send({"type": "websocket.accept"})
    await socket.refused({"type": "websocket.accept"})
    await socket.refused({"type": "websocket.http.response.start", "status": 200})
    await socket.refused({"type": "websocket.send"})
    await socket.refused({"type": "websocket.close", "code": 1005})
    await socket.refused({"type": "websocket.close", "code": 1000, "reason": "x" * 124})
    await socket.send({"type": "websocket.close"})


async def bad_header(socket: Socket) -> None:
    await socket.accept(headers=[(b"x-bad", b"a\r\nset-cookie: b")])


async def own_headers(socket: Socket) -> None:
    headers = [(b"sec-websocket-accept", b"mine"), (b"connection", b"close"), (b"set-cookie", b"a=b")]
    await socket.accept(headers=headers)


async def flood(socket: Socket) -> None:
    await socket.accept()
    for _ in range(200):
        await socket.send({"type": "websocket.send", "bytes": bytes(100_000)})
        socket.seen.append(1)


async def large(socket: Socket) -> None:
    await socket.accept()
    await socket.send({"type": "websocket.send", "bytes": bytes(5_000_000)})
    socket.seen.append("sent")


async def slow(socket: Socket) -> None:
    await socket.accept()
    await GATE.wait()
    count = 0
    while (await socket.receive())["type"] == "websocket.receive":
        count += 1
    socket.seen.append(count)


async def go(socket: Socket) -> None:
    await socket.accept()
    GATE.set()


HANDLERS = {
    handler.__name__: handler
    for handler in (
        echo,
        note,
        after,
        scope,
        subprotocol,
        close,
        close_plain,
        returns,
        raises,
        raises_early,
        returns_early,
        refuses,
        denies,
        denies_half,
        order,
        bad_header,
        own_headers,
        flood,
        large,
        slow,
        go,
    )
}
