"""A server behind the edge that writes down each request as its bytes came, and answers what its path asks for."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
ANSWERS = {
    "/trailers": CHUNKED
    + b"trailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\nX-Edge-A: 1\r\n\r\n",
    "/behind": OK + EVIL,
    "/behind-chunks": CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n" + EVIL,
    "/two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 47\r\n\r\nok" + EVIL,
    "/length-and-chunks": CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n" + EVIL,
    "/other-coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\nok" + EVIL,
    "/folded": b"HTTP/1.1 200 OK\r\nx: y\r\n content-length: 2\r\n\r\nok" + EVIL,
    "/bare-lf": b"HTTP/1.1 200 OK\nx: y\r\ncontent-length: 2\r\n\r\nok" + EVIL,
    "/switch": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + EVIL,
}


class Seen(NamedTuple):
    """A request as it came."""

    line: str
    fields: list[str]
    content: bytes

    @property
    def brief(self) -> str:
        """Method, target and content."""
        return " ".join([*self.line.split(" ")[:2], *[repr(self.content)[1:]] * bool(self.content)])


class RawUpstream:
    """What the server has got since the last `take`."""

    def __init__(self, address: str, seen: list[Seen]) -> None:
        self.address = address
        self._seen = seen

    def take(self) -> list[Seen]:
        """Return it, and forget it."""
        seen = self._seen[:]
        del self._seen[:]
        return seen


@contextlib.contextmanager
def raw_upstream() -> Iterator[RawUpstream]:
    """Run the server."""
    seen: list[Seen] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError, ValueError):
                while line := self.rfile.readline():
                    seen.append(_read_request(line, self.rfile.readline, self.rfile.read))
                    self.wfile.write(ANSWERS.get(seen[-1].line.split(" ")[1], OK))

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield RawUpstream(f"http://127.0.0.1:{server.server_address[1]}", seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _read_request(line: bytes, read_line: Callable[[], bytes], read: Callable[[int], bytes]) -> Seen:
    fields: list[str] = []
    while (field := read_line()) not in (b"\r\n", b""):
        fields.append(field.decode("latin-1").removesuffix("\r\n"))
    named = dict(field.split(": ", 1) for field in fields)
    content = b""
    if "transfer-encoding" in named:
        while size := int(read_line(), 16):
            content += read(size + 2)[:-2]
        read_line()
    else:
        content = read(int(named.get("content-length", "0")))
    return Seen(line.decode("latin-1").removesuffix("\r\n"), fields, content)
