"""A client's WebSocket over TLS in one thread.

`websockets.sync` reads and writes one `SSLSocket` in two threads. OpenSSL allows that to nobody, and one of some five
hundred handshakes fails in the client ("internal error"): it is fit for connections without TLS only.
"""

from __future__ import annotations

import ssl
from typing import Self

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event
from websockets.uri import parse_uri

from tests.process.server import DEADLINE, RawClient


class WebSocket:
    """Opens a WebSocket at `path` with these fields besides; `answer` is what the handshake was answered with."""

    def __init__(
        self, port: int, context: ssl.SSLContext, path: str = "/", *, status: int = 101, **fields: str
    ) -> None:
        self._client = RawClient(port, context)
        self._client.sock.settimeout(DEADLINE)
        self._protocol = ClientProtocol(parse_uri(f"wss://localhost:{port}{path}"))
        self._events: list[Event] = []
        request = self._protocol.connect()
        request.headers.update({name.replace("_", "-"): value for name, value in fields.items()})
        self._protocol.send_request(request)
        self._flush()
        answer = self._next()
        assert isinstance(answer, Response)
        assert answer.status_code == status, answer
        self.answer = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.sock.close()

    def send(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        self._flush()

    def receive(self) -> Frame:
        """Return the next frame of the server that is not Ping; Ping and Close are answered."""
        frame = self._next()
        while isinstance(frame, Frame) and frame.opcode is Opcode.PING:
            frame = self._next()
        assert isinstance(frame, Frame)
        return frame

    def receive_text(self) -> str:
        """Return the next message, which is text in one frame."""
        frame = self.receive()
        assert (frame.opcode, frame.fin) == (Opcode.TEXT, True), frame
        return bytes(frame.data).decode()

    def _flush(self) -> None:
        self._client.send(b"".join(self._protocol.data_to_send()))

    def _next(self) -> Event:
        while not self._events:
            data = self._client.sock.recv(65536)
            if not data:
                raise ConnectionError("the WebSocket ended without a word")
            self._protocol.receive_data(data)
            self._events += self._protocol.events_received()
            self._flush()
        return self._events.pop(0)
