"""A client's WebSocket on a stream of HTTP/2 (RFC 8441): the stream by `h2`, the frames by `websockets`."""

from __future__ import annotations

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.process.http2_client import Answer, Http2Client


class Socket:
    """A WebSocket on a stream."""

    def __init__(self, client: Http2Client, path: str, *fields: tuple[bytes, bytes]) -> None:
        self._client = client
        self.number = client.begin_with(
            [
                (b":method", b"CONNECT"),
                (b":protocol", b"websocket"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", path.encode()),
                (b"sec-websocket-version", b"13"),
                *fields,
            ],
            end=False,
        )
        self.answer: Answer = client.wait_head(self.number)
        self.frames: list[Frame] = []
        self.protocol = ClientProtocol(parse_uri("wss://localhost/"), state=State.OPEN, max_size=None)
        if self.answer.fields.get(b"sec-websocket-extensions", b"").startswith(b"permessage-deflate"):
            self.protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
        self._taken = 0

    def send(self) -> None:
        """Send what `protocol` has to send."""
        self._client.send(self.number, b"".join(self.protocol.data_to_send()))

    def receive(self) -> Frame:
        """Return the next frame."""
        while not self.frames:
            body = self.answer.body
            if self._taken < len(body):
                self.protocol.receive_data(body[self._taken :])
                self._taken = len(body)
                self.frames += [event for event in self.protocol.events_received() if isinstance(event, Frame)]
            else:
                assert self._client.pump(), "the connection ended before a frame"
        return self.frames.pop(0)
