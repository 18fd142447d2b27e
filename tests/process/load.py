"""Clients of every kind that ask all the time, and put down whatever goes wrong: for tests of what loses no request."""

from __future__ import annotations

import hashlib
import itertools
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from typing import Self

from websockets.frames import Close, CloseCode, Opcode

from tests.process.server import DEADLINE, RawClient, wait_until
from tests.process.websocket_client import WebSocket

# `/` answers, `/stream` and `/events` take half a second, `/upload` answers with the content's digest, the WebSocket
# echoes. Each POST is put down once by the application: its number must never be there twice.
APPLICATION = """
import asyncio, hashlib, os, time

def note(text):
    descriptor = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text} {os.getpid()}\\n".encode())
    os.close(descriptor)

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    path, body, headers = scope["path"], str(os.getpid()).encode(), []
    if scope["method"] == "POST":
        note("POST " + path)
    if path.startswith("/upload"):
        digest, more = hashlib.sha256(), True
        while more:
            message = await receive()
            digest.update(message.get("body", b""))
            more = message.get("more_body", False)
        body = digest.hexdigest().encode()
    elif path.startswith("/gate"):
        note("gate " + scope["method"])
        while not os.path.exists("open"):
            await asyncio.sleep(0.005)
    elif path == "/hang":
        note("hang")
        while not os.path.exists("open"):
            time.sleep(0.01)
    elif path == "/slow":
        await asyncio.sleep(0.05)
    elif path == "/events":
        headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path in ("/stream", "/events"):
        for number in range(10):
            await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
            await asyncio.sleep(0.05)
        body = b"end"
    await send({"type": "http.response.body", "body": body})
"""

STREAMED = b"".join(b"data: %d\n\n" % number for number in range(10)) + b"end"


class Answer:
    """One answer, read to its end."""

    def __init__(self, connection: Connection) -> None:
        status, *lines = connection.read_until(b"\r\n\r\n")[:-4].split(b"\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        self.status = int(status.split(b" ")[1])
        self.closes = fields.get(b"connection") == b"close"
        self.retry_after = fields.get(b"retry-after")
        if fields.get(b"transfer-encoding") == b"chunked":
            self.body = b""
            while size := int(connection.read_until(b"\r\n"), 16):
                self.body += connection.read(size + 2)[:-2]
            connection.read(2)
        else:
            self.body = connection.read(int(fields[b"content-length"]))


class Connection:
    """An HTTP/1.1 connection over TLS that is kept while the server keeps it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._client = RawClient(port, context)
        self._client.sock.settimeout(DEADLINE)
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.sock.close()

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        self._client.send(head.encode() + b"\r\n" + body)

    def send_many(self, path: str, count: int) -> None:
        self._client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * count)

    def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        self.send(method, path, body)
        return Answer(self)

    def read(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        data, self._data = self._data[:size], self._data[size:]
        return data

    def read_until(self, end: bytes) -> bytes:
        while end not in self._data:
            self._more()
        return self.read(self._data.index(end) + len(end))

    def _more(self) -> None:
        data = self._client.sock.recv(65536)
        if not data:
            raise ConnectionError(f"the connection ended in an answer, after {self._data!r}")
        self._data += data


class Load:
    """Threads of clients, of each kind one, from entering to leaving; `failures` is what went wrong in them.

    `statuses` counts the answers of each kind. A connection that ends after the answer that announced it is no failure,
    nor is a WebSocket that is closed with 1012, service restart.
    """

    KINDS = ("keep-alive", "pipeline", "upload", "post", "stream", "events", "websocket", "connect")

    def __init__(self, port: int, context: ssl.SSLContext, *, kinds: tuple[str, ...] = KINDS) -> None:
        self.failures: list[str] = []
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._port = port
        self._context = context
        self._done = threading.Event()
        self._numbers = itertools.count()
        asks: dict[str, Callable[[], None]] = {
            "keep-alive": lambda: self._keep_alive("keep-alive", "GET", "/"),
            "pipeline": self._pipeline,
            "upload": self._uploads,
            "post": lambda: self._keep_alive("post", "POST", "/post"),
            "stream": lambda: self._streams("/stream"),
            "events": lambda: self._streams("/events"),
            "websocket": self._websockets,
            "connect": self._connects,
        }
        self._threads = [threading.Thread(target=self._run, args=(kind, asks[kind])) for kind in kinds]
        self._kinds = kinds

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_more(1)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)

    def count(self, kind: str) -> int:
        """How many answers clients of this kind have had."""
        return sum(number for (of, _), number in list(self.statuses.items()) if of == kind)

    def wait_more(self, number: int) -> None:
        """Wait until clients of each kind have had so many more answers, or one has failed."""
        goals = {kind: self.count(kind) + number for kind in self._kinds}
        wait_until(
            lambda: self.failures or all(self.count(kind) >= goal for kind, goal in goals.items()),
            f"{number} more answers of each kind",
        )

    def _run(self, kind: str, ask: Callable[[], None]) -> None:
        while not self._done.is_set():
            try:
                ask()
            except Exception as error:
                self.failures.append(f"{kind}: {type(error).__name__}: {error} ({error.__cause__!r})")

    def _answered(self, kind: str, status: int) -> None:
        self.statuses[kind, status] += 1

    def _keep_alive(self, kind: str, method: str, path: str) -> None:
        with Connection(self._port, self._context) as connection:
            closes = False
            while not closes and not self._done.is_set():
                answer = connection.ask(method, f"{path}{next(self._numbers)}" if method == "POST" else path)
                self._answered(kind, answer.status)
                closes = answer.closes

    def _connects(self) -> None:
        with Connection(self._port, self._context) as connection:
            self._answered("connect", connection.ask("GET", "/").status)

    def _pipeline(self) -> None:
        with Connection(self._port, self._context) as connection:
            closes = False
            while not closes and not self._done.is_set():
                connection.send_many("/", 4)
                for _ in range(4):
                    answer = Answer(connection)
                    self._answered("pipeline", answer.status)
                    closes = answer.closes
                    if closes:
                        break  # the others may be asked again: the server has said that it has not seen them

    def _uploads(self) -> None:
        body = b"%d" % next(self._numbers) * 40_000
        with Connection(self._port, self._context) as connection:
            answer = connection.ask("POST", f"/upload{next(self._numbers)}", body)
            self._answered("upload", answer.status)
            if answer.status == 200 and answer.body.decode() != hashlib.sha256(body).hexdigest():
                self.failures.append("upload: the application has read something else")

    def _streams(self, path: str) -> None:
        with Connection(self._port, self._context) as connection:
            answer = connection.ask("GET", path)
            self._answered(path[1:], answer.status)
            if answer.status == 200 and answer.body != STREAMED:
                self.failures.append(f"{path}: {answer.body!r}")

    def _websockets(self) -> None:
        with WebSocket(self._port, self._context) as websocket:
            while not self._done.is_set():
                websocket.send("hello")
                answer = websocket.receive()
                if answer.opcode is Opcode.CLOSE:
                    if Close.parse(answer.data).code != CloseCode.SERVICE_RESTART:
                        self.failures.append(f"websocket: closed with {answer.data!r}")
                    return
                if answer.data != b"hello":
                    self.failures.append(f"websocket: {answer.data!r} instead of an echo")
                self._answered("websocket", 101)
