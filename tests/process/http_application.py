"""The application of test_asgi_http.py: a path is what it does, and where it notes what it sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

SEEN: dict[str, list[Any]] = {}
GATE: dict[str, asyncio.Event] = {}


async def start(send: Send, *headers: Header, status: int = 200, **more: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers), **more})


async def body(send: Send, data: bytes = b"", more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    _, name, key = (scope["path"] + "/").split("/")[:3]
    await globals()["do_" + name](scope, receive, send, SEEN.setdefault(key, []))


async def do_seen(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    await body(send, json.dumps(seen).encode())


async def do_open(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    GATE.setdefault(scope["path"].split("/")[2], asyncio.Event()).set()
    await start(send)
    await body(send)


async def gate(scope: Message) -> None:
    await GATE.setdefault(scope["path"].split("/")[2], asyncio.Event()).wait()


async def do_hello(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"content-type", b"text/plain"))
    await body(send, b"hello")


async def do_receive_after(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    seen.append((await receive())["type"])
    waiting = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    seen.append(waiting.done())
    await start(send)
    await body(send, b"hello")
    seen.append((await waiting)["type"])
    seen.append((await receive())["type"])


async def do_receive_unread(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    await body(send, b"hello")
    seen.append((await receive())["type"])


async def do_stream(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    try:
        while True:
            await body(send, b"x" * 1000, more=True)
            if not seen:
                seen.append("sent")
            await asyncio.sleep(0.001)
    except OSError as error:
        seen.append(type(error).__name__)
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        raise


async def do_left(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await receive()
    seen.append("waits")
    seen.append((await receive())["type"])
    for message in ("http.response.start", "http.response.body"):
        try:
            await send({"type": message, "status": 200})
        except OSError:
            seen.append("OSError")


async def do_wrapped(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await receive()
    seen.append("waits")
    await receive()
    try:
        await start(send)
    except OSError:
        raise RuntimeError("what a framework makes of it") from None


async def do_after_cancel(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await receive()
    seen.append("waits")
    await receive()
    await gate(scope)
    seen.append("not cancelled")


async def refused(seen: list[Any], awaitable: Awaitable[None]) -> None:
    try:
        await awaitable
    except Exception as error:
        seen.append(str(error))
    else:
        seen.append("allowed")


async def do_wrong_order(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await refused(seen, body(send, b"early"))
    await start(send)
    await refused(seen, start(send))
    await body(send, b"hello")
    await refused(seen, body(send, b"late"))
    await refused(seen, start(send))


async def do_unknown(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await refused(seen, send({"type": "http.response.pushed"}))
    await refused(seen, send({"type": "websocket.accept"}))
    await start(send)
    await body(send, b"hello")


async def do_late_error(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"x-mine", b"1"))
    raise RuntimeError("between start and content")


async def do_events(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"content-type", b"text/event-stream"))
    await gate(scope)
    await body(send, b"data: 1\n\n", more=True)
    await body(send)


async def do_slow(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"content-type", b"text/plain"))
    await gate(scope)
    await body(send, b"late")


async def do_coding(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"transfer-encoding", b"gzip, chunked"), (b"Connection", b"x-mine"), (b"keep-alive", b"9"))
    await body(send, b"hello")


async def do_status(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    query = scope["query_string"].decode()
    headers = [(b"content-length", b"5")] if "length" in query else []
    await start(send, *headers, status=int(scope["path"].split("/")[2]))
    await body(send, b"hello")


async def do_length(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    declared, *pieces = scope["query_string"].decode().split(",")
    await start(send, (b"content-length", declared.encode()))
    for index, piece in enumerate(pieces):
        await body(send, piece.encode(), more=index < len(pieces) - 1)
        await asyncio.sleep(0.1 if len(pieces) > 1 else 0)


async def do_two_lengths(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await refused(seen, start(send, (b"content-length", b"5"), (b"content-length", b"6")))
    await refused(seen, start(send, (b"content-length", b"+5")))
    await start(send, (b"content-length", b"5"))
    await body(send, b"hello")


async def do_chunks(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    await body(send, b"first ", more=True)
    await body(send, b"second")


async def do_split(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    bad = {"crlf": b"a\r\nset-cookie: b=secret", "lf": b"a\nb: secret", "cr": b"a\rsecret", "nul": b"a\0secret"}
    await start(send, (b"x-bad", bad[scope["path"].split("/")[2]]))
    await body(send, b"hello")


async def do_bad_name(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"x bad: y", b"1"))
    await body(send, b"hello")


async def do_raise(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    raise RuntimeError("before the start")


async def do_exit(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    raise SystemExit(3)


async def do_cancel(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    raise asyncio.CancelledError


async def do_nothing(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    pass


async def do_mid_error(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"content-type", b"text/event-stream"))
    await body(send, b"part", more=True)
    await gate(scope)
    raise RuntimeError("in the middle")


async def do_mid_return(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    await body(send, b"part", more=True)


async def do_own(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"Server", b"mine"), (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"))
    await body(send, b"hello")


async def do_echo(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    content = b""
    more = True
    while more:
        message = await receive()
        content += message["body"]
        more = message["more_body"]
    await start(send)
    await body(send, content)


async def do_upload(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    seen.append("runs")
    await gate(scope)
    size, largest, more = 0, 0, True
    while more:
        message = await receive()
        size, largest, more = size + len(message["body"]), max(largest, len(message["body"])), message["more_body"]
    await start(send)
    await body(send, json.dumps([size, largest]).encode())


async def do_download(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    for _ in range(200):
        await body(send, b"x" * 100_000, more=True)
        seen.append(1)
    await body(send)


async def do_large(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    await body(send, b"x" * 3_000_000)


async def do_trailers(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, (b"trailer", b"x-sum"), trailers=True)
    await body(send, b"hello")
    await send({"type": "http.response.trailers", "headers": [(b"X-Sum", b"42")]})


async def do_background(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send)
    await body(send, b"hello")
    await gate(scope)
    seen.append("background")


async def do_many_fields(scope: Message, receive: Receive, send: Send, seen: list[Any]) -> None:
    await start(send, *[(b"x-%d" % number, b"y" * 1000) for number in range(300)])
    await body(send, b"hello")
