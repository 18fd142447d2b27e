"""What answers an HTTP/2 connection gives: their heads as blocks, and content that is as long as the head says.

The framing is the sender's (flow.py); what is checked and encoded here is the same for every stream.
"""

from __future__ import annotations

from edge.http.events import ProtocolError, RequestHead
from edge.http.flood import Patience
from edge.http.flow import Sender, Stream
from edge.http.hpack import HeadEncoder, plain_string

# Literals that touch no table (RFC 7541 section 6.2.2): what is different in each answer.
_CONTENT_LENGTH = b"\x0f\x0d"
_REQUEST_ID = b"\x00\x0cx-request-id"


class Answers:
    """The answers of one connection. `streams` is its table: what is for a stream that is over is dropped."""

    __slots__ = ("_encoder", "_patience", "_sender", "_streams")

    def __init__(self, encoder: HeadEncoder, streams: dict[int, Stream], sender: Sender, patience: Patience) -> None:
        self._encoder = encoder
        self._streams = streams
        self._sender = sender
        self._patience = patience

    def send_response(
        self,
        head: RequestHead,
        status: int,
        length: bytes,
        fields: list[bytes],
        own: list[bytes],
        request_id: bytes,
        body: bytes,
        end: bool,
    ) -> None:
        """Send the head of an answer and its first content; all of it if `end`.

        `length` is the content's length in digits, empty when it is not known; `own` are the edge's fields.

        Raises ProtocolError (502) if the content is not as long as `length` says.
        """
        stream = self._streams.get(head.stream)
        if stream is None:
            return
        if status == 204 or status == 304 or head.method == b"HEAD":
            body = b""
            stream.remaining = 0  # whatever comes is too much
            length = b"" if status == 204 else length
        elif length:
            stream.remaining = int(length) - len(body)
            if stream.remaining < 0 or (end and stream.remaining):
                raise ProtocolError(502, f"the application's content does not have the {int(length)} bytes announced")
        encode = self._encoder.encode
        answer = encode([b":status", b"%d" % status, *fields])
        if len(request_id) < 0x7F:
            block = b"%b%b%b%c%b" % (answer, encode(own), _REQUEST_ID, len(request_id), request_id)
        else:
            block = b"%b%b%b%b" % (answer, encode(own), _REQUEST_ID, plain_string(request_id))
        if length:
            block = b"%b%b%c%b" % (block, _CONTENT_LENGTH, len(length), length)
        if end:
            self._patience.answer()
        self._sender.head(stream, block, end=end and not body)
        if body:
            self._sender.content(stream, body, end=end)

    def send_content(self, number: int, body: bytes) -> None:
        """Send content of an answer, or bytes of a WebSocket.

        Raises ProtocolError (502) if it is more than was announced; nothing of it is sent then.
        """
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.remaining >= 0:
            if len(body) > stream.remaining:
                raise ProtocolError(502, "the application's content is longer than its content-length")
            stream.remaining -= len(body)
        self._sender.content(stream, body, end=False)

    def send_end(self, number: int, trailers: list[bytes]) -> None:
        """End an answer.

        Raises ProtocolError (502) if content is missing; the stream must be reset then.
        """
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.remaining > 0:
            reason = f"the application's content is {stream.remaining} bytes shorter than announced"
            raise ProtocolError(502, reason)
        self._patience.answer()
        self._sender.end(stream, trailers)

    def send_informational(self, number: int, status: int) -> None:
        """Send a head before the answer's: 100 Continue (RFC 9113 section 8.1)."""
        stream = self._streams.get(number)
        if stream is not None:
            self._sender.head(stream, self._encoder.encode([b":status", b"%d" % status]), end=False)
