"""Opens WebSockets of one server without TLS, whole or frame by frame."""

from __future__ import annotations

import base64
import json
import os
import ssl
import struct
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.process.server import RawClient, Server, wait_until


class Sockets:
    """Opens WebSockets of one server, and looks at what its application noted."""

    def __init__(self, server: Server, context: ssl.SSLContext | None = None) -> None:
        """`context` is for a server with TLS; `open()` is for one without."""
        self.server = server
        self._context = context

    def open(self, path: str, **options: Any) -> ClientConnection:
        options.setdefault("ping_interval", None)
        url = f"ws://127.0.0.1:{self.server.port}{path}"
        connection: ClientConnection = connect(url, proxy=None, open_timeout=10, **options)
        return connection

    def open_raw(self, path: str, *lines: str, version: str = "13") -> RawClient:
        """Send a handshake; the caller reads the answer."""
        client = RawClient(self.server.port, self._context)
        head = [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            f"Sec-WebSocket-Version: {version}",
            *lines,
            "",
            "",
        ]
        client.send("\r\n".join(head).encode())
        return client

    def accepted(self, path: str, *lines: str) -> RawClient:
        """Open a WebSocket whose frames the caller makes."""
        client = self.open_raw(path, *lines)
        assert receive_head(client).startswith(b"HTTP/1.1 101 ")
        return client

    def wait_seen(self, key: str, count: int) -> list[Any]:
        """Return what the application noted, as soon as it is that much."""
        scheme = "http" if self._context is None else "https"
        with httpx.Client(verify=self._context or False, trust_env=False) as client:

            def seen() -> list[Any]:
                answer = client.get(f"{scheme}://localhost:{self.server.port}/seen/{key}")
                noted: list[Any] = json.loads(answer.content)
                return noted

            wait_until(lambda: len(seen()) >= count, f"the application notes {count} things under {key!r}")
            return seen()


def frame(opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return a client's frame."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size = len(data)
    if size < 126:
        length = bytes([masked << 7 | size])
    elif size < 65536:
        length = bytes([masked << 7 | 126]) + struct.pack("!H", size)
    else:
        length = bytes([masked << 7 | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + length + data
    mask = b"\x01\x02\x03\x04"
    return head + length + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def receive_head(client: RawClient) -> bytes:
    """Receive the head of an answer and no byte more: frames may follow at once."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive_exactly(client, 1)
    return head


def receive_frame(client: RawClient) -> tuple[int, bytes]:
    """Receive one short frame of the server, byte by byte: opcode and content."""
    head = receive_exactly(client, 2)
    assert head[1] < 126
    return head[0] & 15, receive_exactly(client, head[1])


def receive_exactly(client: RawClient, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.sock.recv(size - len(data))
        assert piece, f"the connection ended after {data!r}"
        data += piece
    return data


def wait_close(connection: ClientConnection) -> tuple[int, str]:
    """Receive until the server closes: code and reason."""
    try:
        while True:
            connection.recv(timeout=10)
    except ConnectionClosed:
        pass
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""
