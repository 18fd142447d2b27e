"""What a protocol core tells its driver: the one vocabulary for every version of HTTP."""

from __future__ import annotations

# `RequestHead.length` when the content's length is not known before its end (chunked).
UNKNOWN_LENGTH = -1


class RequestHead:
    """A request that has been checked: method, target and fields, and what framing they announce.

    One is made for each request, so it is slotted and not frozen. Its fields are kept as the wire carries them, one
    byte string of name, LF and value each: no name and no value can hold an LF (RFC 9110 section 5.5).
    """

    __slots__ = (
        "body",
        "complete",
        "expect",
        "flags",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "stream",
        "target",
        "trailers",
        "upgrade",
        "version",
    )

    def __init__(self, stream: int, method: bytes, target: bytes, version: bytes, host: bytes) -> None:
        self.stream = stream
        self.method = method
        self.target = target  # origin-form, or `*` (RFC 9112 section 3.2)
        self.version = version  # as the application sees it: `1.0`, `1.1`, `2`
        self.host = host  # the authority, empty when an HTTP/1.0 client named none
        self.lines: list[bytes] = []  # end-to-end fields: lower-case name, LF, value; order kept
        self.flags = 0  # of `edge.http.fields`, of all fields together
        self.length = 0  # bytes of content, or UNKNOWN_LENGTH
        self.body = b""  # content that came together with the head
        self.complete = True  # nothing follows the head and `body`
        self.keep_alive = True
        self.expect = False  # the client waits for 100 Continue
        self.trailers = False  # the client takes trailer fields
        self.upgrade = b""  # Sec-WebSocket-Key of a WebSocket handshake that has been checked

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The end-to-end fields as pairs of name and value, for who looks at them."""
        pairs = [line.partition(b"\n") for line in self.lines]
        return [(name, value) for name, _, value in pairs]


class Data:
    """Content of a request, or bytes of an upgraded stream."""

    __slots__ = ("body", "complete", "stream")

    def __init__(self, stream: int, body: bytes, complete: bool) -> None:
        self.stream = stream
        self.body = body
        self.complete = complete


class Refusal:
    """The peer broke a rule: answer `status`, say `reason` in the log, read nothing more."""

    __slots__ = ("fields", "reason", "status", "stream")

    def __init__(self, stream: int, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.stream = stream
        self.status = status
        self.reason = reason
        self.fields = fields


class Reset:
    """The client has given up a stream of HTTP/2."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


class Failure:
    """The peer broke a rule of the connection: send what is due, which ends with the reason, and close."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


Event = RequestHead | Data | Refusal | Reset | Failure


class ProtocolError(Exception):
    """The peer broke the protocol; `status` is what it is told, the message is for the log."""

    def __init__(self, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields
