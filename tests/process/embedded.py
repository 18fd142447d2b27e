"""An application for `edge.Server` in this process, and what a program would notice of such a server."""

from __future__ import annotations

import asyncio
import gc
import http.client
import logging
import os
import signal
import threading
from typing import Any

import edge
from tests.process.server import DEADLINE

Message = dict[str, Any]


class Application:
    """An application that notes its lifespan, and whose requests can be held."""

    def __init__(self, failure: str = "") -> None:
        self.events: list[str] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self._failure = failure

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
        else:
            await self._answer(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            self.events.append(step)
            if self._failure == step:
                await send({"type": f"lifespan.{step}.failed", "message": "no database"})
                return
            await send({"type": f"lifespan.{step}.complete"})

    async def _answer(self, scope: Message, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        if scope["path"] == "/held":
            self.entered.set()
            while not self.gate.is_set():  # noqa: ASYNC110 # the test is in another thread
                await asyncio.sleep(0.005)
        thread = threading.current_thread().name
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-thread", thread.encode())]})
        await send({"type": "http.response.body", "body": b"%d %b" % (len(body), scope["http_version"].encode())})


def quiet(app: Any, **options: Any) -> edge.Server:
    """A server on any free port that says nothing."""
    return edge.Server(edge.Config(app, **{"port": 0, "access_log": False, "log_level": "warning", **options}))


def get(url: str) -> str:
    """The answer's content; cheaper than a client that reads the system's roots."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=DEADLINE)
    try:
        connection.request("GET", "/" + path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


async def has_started(server: edge.Server) -> None:
    """Wait as users of uvicorn do."""
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


class Lines(logging.Handler):
    """Notes what is logged, and by whom."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.name, record.getMessage()))


def left_behind() -> tuple[list[str], int, list[Any], list[logging.Handler]]:
    """What a program would notice: threads, open files, signal handlers, handlers of logs."""
    gc.collect()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = sorted(thread.name for thread in threading.enumerate())
    return threads, len(os.listdir("/proc/self/fd")), handlers, logging.getLogger("edge").handlers[:]
