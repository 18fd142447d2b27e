"""Real HTTPS on loopback: sites with certificates of any authority, and a proxy that intercepts TLS as companies do."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import trustme

# What a client may take between two of its steps; a child that hangs fails its test, and not the whole suite.
STEP = 20.0
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Listener:
    """Accepts on a free port of 127.0.0.1 and gives each connection to `serve` in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Closing alone does not wake accept() on Linux.
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(STEP)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        connection.settimeout(STEP)
        # A client that refuses the certificate goes away in the middle: that is what is looked for.
        with connection, contextlib.suppress(OSError):
            self._serve(connection)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return a context with a new certificate for the names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def answer(connection: socket.socket) -> None:
    """Read one request's head, and answer `ok`."""
    _read_head(connection)
    connection.sendall(_ANSWER)


def answer_with(connection: socket.socket, content: bytes) -> None:
    """Read one request's head, and answer `content`."""
    _read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content)


@contextlib.contextmanager
def encrypted(context: ssl.SSLContext) -> Iterator[int]:
    """Serve `ok` over HTTPS with the certificate of `context`; gives the port."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            answer(stream)

    with Listener(serve) as listener:
        yield listener.port


def site(authority: trustme.CA, *names: str) -> contextlib.AbstractContextManager[int]:
    """Serve `ok` over HTTPS for the names, with a certificate of `authority`; gives the port."""
    return encrypted(server_context(authority, *names))


class InterceptingProxy:
    """A CONNECT proxy that speaks TLS with the client in the site's name, by a certificate that it makes on the spot.

    It verifies the sites that it calls against `public`, and `seen` lists whom clients asked for. A name in `resolve`
    leads to that port of 127.0.0.1: tests have no public network.
    """

    def __init__(self, authority: trustme.CA, public: Path, resolve: dict[str, int]) -> None:
        self.seen: list[str] = []
        self._authority = authority
        self._upstream = ssl.create_default_context(cafile=str(public))
        self._resolve = resolve

    def serve(self, connection: socket.socket) -> None:
        """Serve one client's connection."""
        target = _read_head(connection).split(b" ")[1].decode()
        name = target.rpartition(":")[0]
        self.seen.append(name)
        plain = socket.create_connection(("127.0.0.1", self._resolve[name]), timeout=STEP)
        with plain, self._upstream.wrap_socket(plain, server_hostname=name) as site:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            context = server_context(self._authority, name)
            with context.wrap_socket(connection, server_side=True) as client:
                site.sendall(_read_head(client))
                while data := site.recv(65536):
                    client.sendall(data)


@contextlib.contextmanager
def intercepting(proxy: InterceptingProxy) -> Iterator[int]:
    """Run the proxy; gives its port."""
    with Listener(proxy.serve) as listener:
        yield listener.port


def _read_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the client went away")
        data += piece
    return data
