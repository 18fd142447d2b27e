"""One WebSocket as ASGI sees it (WebSocket specification 2.5), spoken by `websockets`' sans-I/O core.

The edge has checked the handshake and carries bytes; the frames of RFC 6455 are made and read here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from websockets.datastructures import Headers
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from . import wire
from .asgi import HttpExchange, Link, Message, classify_field, join_fields
from .errors import ApplicationError, ClientDisconnected
from .scope import Scope
from .settings import WorkerSettings

# Between our Close frame and the end of the stream: how long the peer may take to answer it.
CLOSE_TIMEOUT = 10.0

# What may wait for the application, in bytes of messages: beyond it the client's bytes stay as they came, so that what
# a few compressed bytes unpack to is bounded too (deflate reaches 1,032 to 1).
MAX_WAITING = 64 * 1024
_MESSAGE_COST = 256  # what an empty message takes
_READ_SIZE = 16 * 1024

# Fields of a 101 that are the handshake's own.
_HANDSHAKE = frozenset((b"sec-websocket-accept", b"sec-websocket-extensions", b"connection", b"upgrade"))


def websocket_scope(scope: Scope) -> Scope:
    """Return the connection scope of a WebSocket out of that of its handshake as a request."""
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    offered = [value for name, value in scope["headers"] if name == b"sec-websocket-protocol"]
    tokens = [token.strip().decode("latin-1") for line in offered for token in line.split(b",")]
    scope["subprotocols"] = [token for token in tokens if token]
    # They ended at the edge, over HTTP/2 there were none: python-engineio 4.15 knows a WebSocket by them alone.
    scope["headers"] += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    tls = scope["extensions"].get("tls")
    scope["extensions"] = {"websocket.http.response": {}} | ({"tls": tls} if tls is not None else {})
    return scope


class WebSocketExchange:
    """One WebSocket. `receive` and `send` are what the application gets."""

    def __init__(self, link: Link, stream: int, flags: int, scope: Scope, settings: WorkerSettings) -> None:
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self._link = link
        self._stream = stream
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._protocol = _new_protocol(settings)
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._narrow = flags & wire.NARROW
        self._credit = wire.NARROW_WINDOW if self._narrow else wire.INITIAL_WINDOW
        self._taken = 0  # bytes read, for which no credit went back yet
        self._in = bytearray()  # bytes of the client that wait for the application to read
        self._ended = False  # no more will come of them
        self._waiting = 0  # the size of `_messages`
        self._out = bytearray()  # bytes that wait for credit
        self._fragments: list[bytes] = []
        self._fragments_are_text = False
        self._accepted = False
        self._over = False  # nothing more goes to or comes from the client
        self._closing = False  # our Close frame is out
        self._draining = False
        self._denial: HttpExchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pong_due = False

    # What the wire tells us.

    def feed_data(self, body: bytes, ended: bool) -> None:
        """Take bytes of the WebSocket from the edge; `ended`: the client closed its side."""
        if self._over:
            return
        self._pong_due = False  # whatever comes shows that the peer is there
        self._in += body
        self._ended = self._ended or ended
        self._read()

    def feed_credit(self, credit: int) -> None:
        """Take leave to send `credit` bytes more."""
        self._credit += credit
        if self._denial is not None:
            self._denial.feed_credit(credit)
        elif not self._over:
            self._send_out()
            self._end_when_sent()

    def disconnect(self) -> None:
        """The connection is lost: close code 1006 for the application (RFC 6455 section 7.1.5)."""
        if not self._over:
            self._push_disconnect(CloseCode.ABNORMAL_CLOSURE, "")
            self._stop()
        if self._denial is not None:
            self._denial.disconnect()

    def tick(self) -> bool:
        """Move on a refusal whose content is slow to come; return whether the handshake is still unanswered."""
        if self._denial is not None:
            return self._denial.tick()
        return not self._accepted and not self._over

    def drain(self) -> None:
        """The server is going away: close with 1012 (service restart), at once or when it has been accepted."""
        self._draining = True
        if self._accepted and not self._over and not self._closing:
            self._close(CloseCode.SERVICE_RESTART, "")

    # What the application calls.

    async def receive(self) -> Message:
        """Return the next ASGI message of this WebSocket."""
        while not self._messages:
            if self._over:
                return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL_CLOSURE, "reason": ""}
            self._readable.clear()
            await self._readable.wait()
        message = self._messages.popleft()
        if message["type"] == "websocket.receive":
            self._waiting -= _message_size(message)
            if self._in or self._ended:
                self._read()
        return message

    async def send(self, message: Message) -> None:
        """Take one ASGI message; waits while the client is slower than the application.

        Raises ApplicationError for a message that the specification does not allow here, and ClientDisconnected
        when the client has gone.
        """
        kind = message["type"]
        if kind == "websocket.send":
            await self._send_message(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._send_close(message)
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            await self._deny(message)
        else:
            raise ApplicationError(f"message type {kind!r} is not allowed on a WebSocket")

    def finish(self) -> bytes | None:
        """The application has returned: close what it left open; give the reason if it never answered."""
        if self._denial is not None:
            return self._denial.finish()
        if self._over or self._closing:
            return None
        if not self._accepted:
            return b"no-response"
        self._close(CloseCode.NORMAL_CLOSURE, "")
        return None

    def fail(self, reason: bytes) -> None:
        """The application raised: 1011 to an open WebSocket, else the edge answers 500."""
        if self._denial is not None:
            self._denial.fail(reason)
        elif self._accepted:
            if not self._over and not self._closing:
                self._close(CloseCode.INTERNAL_ERROR, "")
        elif not self._over:
            self._link.write(wire.encode_reset(self._stream, reason))
            self._stop()

    @property
    def is_gone(self) -> bool:
        """True when the client has left, or is being sent away."""
        return self._over or self._closing

    async def wait_closed(self) -> None:
        """The application has returned: wait for the end of the closing handshake."""
        while not self._over and self._denial is None:
            self._writable.clear()
            await self._writable.wait()

    # Below: how.

    def _read(self) -> None:
        """Read as much of the client's bytes as the application has room for."""
        while self._in and (self._has_room() or self._closing) and not self._protocol.eof_sent:
            piece = bytes(self._in[:_READ_SIZE])
            del self._in[:_READ_SIZE]
            self._taken += len(piece)
            self._protocol.receive_data(piece)
            for event in self._protocol.events_received():
                assert isinstance(event, Frame)
                self._receive_frame(event)
        self._flush()
        if self._ended and not self._in:
            self._end()
        else:
            self._end_when_sent()
        if self._taken >= wire.WINDOW_STEP and not self._over:
            self._give_credit()

    def _end_when_sent(self) -> None:
        """End the stream once the core is through and its last bytes are out.

        Both have sent Close, or the peer broke the protocol. The server closes first (RFC 6455 section 7.1.1), and the
        client waits for it.
        """
        if not self._protocol.eof_sent or self._over:
            return
        if not self._out:
            self._end()
        elif not self._closing:
            self._wait_for_close()

    def _wait_for_close(self) -> None:
        self._closing = True
        self._push_disconnect(*self._close_seen())
        self._cancel_timer()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, self._end)

    def _has_room(self) -> bool:
        """Tell whether more messages may wait for the application. What one read brings is taken whole."""
        max_queue = self._settings.ws_max_queue
        return self._waiting < MAX_WAITING and not 0 < max_queue <= len(self._messages)

    def _accept(self, message: Message) -> None:
        if self._over:
            raise ClientDisconnected("the client has disconnected")
        if self._accepted or self._denial is not None:
            raise ApplicationError("websocket.accept was sent twice, or after the handshake was refused")
        parts: list[bytes] = []
        for name, value in message.get("headers", ()):
            name = classify_field(name)[0]
            if name == b"sec-websocket-protocol":
                raise ApplicationError("websocket.accept: name the subprotocol in `subprotocol`, not in the headers")
            if name not in _HANDSHAKE:
                parts += (name, value)
        subprotocol = message.get("subprotocol")
        if subprotocol:
            parts += (b"sec-websocket-protocol", subprotocol.encode("latin-1"))
        extensions = self._negotiate_extensions()
        if extensions:
            parts += (b"sec-websocket-extensions", extensions.encode("latin-1"))
        head = b"101\n" + join_fields(parts)
        self._link.write(wire.encode_frame(wire.RESPONSE, 0, self._stream, head))
        self._accepted = True
        if self._draining:
            self._close(CloseCode.SERVICE_RESTART, "")
        else:
            self._schedule_ping()

    def _negotiate_extensions(self) -> str | None:
        headers = Headers()
        for name, value in self.scope["headers"]:
            if name == b"sec-websocket-extensions":
                headers["Sec-WebSocket-Extensions"] = value.decode("latin-1")
        header, self._protocol.extensions = self._protocol.process_extensions(headers)
        return header

    async def _deny(self, message: Message) -> None:
        if self._accepted or (self._over and self._denial is None):
            raise ApplicationError("websocket.http.response after the handshake was answered")
        if self._denial is None:
            scope = {**self.scope, "method": "GET"}
            self._denial = HttpExchange(self._link, self._stream, wire.END | self._narrow, scope, b"")
        await self._denial.send({**message, "type": message["type"].removeprefix("websocket.")})

    async def _send_message(self, message: Message) -> None:
        if not self._accepted:
            raise ApplicationError("websocket.send before websocket.accept")
        if self._over or self._closing or self._protocol.state is not State.OPEN:
            raise ClientDisconnected("the client has disconnected")
        data, text = message.get("bytes"), message.get("text")
        if data is not None:
            self._protocol.send_binary(data)
        elif text is not None:
            self._protocol.send_text(text.encode())
        else:
            raise ApplicationError("websocket.send without `bytes` or `text`")
        self._flush()
        while self._out and not self._over:
            self._writable.clear()
            await self._writable.wait()

    def _send_close(self, message: Message) -> None:
        if self._over or self._closing:
            raise ClientDisconnected("the client has disconnected")
        if self._accepted:
            self._close(message.get("code") or CloseCode.NORMAL_CLOSURE, message.get("reason") or "")
            return
        # ASGI: a close before accept refuses the handshake with 403.
        self._link.write(wire.encode_reset(self._stream, b"denied"))
        self._push_disconnect(CloseCode.ABNORMAL_CLOSURE, "")
        self._stop()

    def _close(self, code: int, reason: str) -> None:
        try:
            self._protocol.send_close(code, reason)
        except ProtocolError as error:
            raise ApplicationError(f"websocket.close with code {code!r} and reason {reason[:40]!r}: {error}") from None
        self._wait_for_close()
        self._flush()

    def _receive_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._receive_fragment(frame)
        elif frame.opcode is Opcode.CLOSE and not self._closing:
            close = Close.parse(frame.data) if frame.data else Close(CloseCode.NO_STATUS_RCVD, "")
            self._push_disconnect(close.code, close.reason)

    def _receive_fragment(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._fragments_are_text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        data = b"".join(self._fragments)
        self._fragments.clear()
        if not self._fragments_are_text:
            self._push({"type": "websocket.receive", "bytes": data})
            return
        try:
            self._push({"type": "websocket.receive", "text": data.decode()})
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "a text message is not UTF-8")

    def _push(self, message: Message) -> None:
        if not self._closing:
            self._messages.append(message)
            self._waiting += _message_size(message)
            self._readable.set()

    def _push_disconnect(self, code: int, reason: str) -> None:
        if not any(message["type"] == "websocket.disconnect" for message in self._messages):
            self._messages.append({"type": "websocket.disconnect", "code": int(code), "reason": reason})
        self._readable.set()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._out += data  # an empty piece asks for the end of the stream, which `_end()` sends
        if self._out:
            self._send_out()

    def _send_out(self) -> None:
        while self._out and self._credit > 0:
            size = min(self._credit, wire.MAX_DATA)
            piece = bytes(self._out[:size])
            del self._out[:size]
            self._credit -= len(piece)
            self._link.write(wire.encode_frame(wire.DATA, 0, self._stream, b"", piece))
        if not self._out:
            self._writable.set()

    def _close_seen(self) -> tuple[int, str]:
        """Return the code and reason with which it closes: the client's, else ours, else that of a lost connection."""
        close = self._protocol.close_rcvd or self._protocol.close_sent
        return (close.code, close.reason) if close is not None else (CloseCode.ABNORMAL_CLOSURE, "")

    def _end(self) -> None:
        """Both sides are done, the peer broke the protocol, or it has gone: finish the stream."""
        if self._over:
            return
        self._push_disconnect(*self._close_seen())
        self._link.write(wire.encode_frame(wire.DATA, wire.END, self._stream))
        self._stop()

    def _stop(self) -> None:
        self._over = True
        self._cancel_timer()
        self._readable.set()
        self._writable.set()

    def _give_credit(self) -> None:
        if self._taken:
            self._link.write(wire.encode_window(self._stream, self._taken))
            self._taken = 0

    # Keep-alive pings (RFC 6455 section 5.5.2).

    def _schedule_ping(self) -> None:
        if self._settings.ws_ping_interval:
            self._timer = self._loop.call_later(self._settings.ws_ping_interval, self._ping)

    def _ping(self) -> None:
        self._pong_due = True
        self._protocol.send_ping(b"edge")
        self._flush()
        if self._settings.ws_ping_timeout:
            # In two halves: if the event loop stood still over the first, the ping has only just left, or the pong is
            # there unread.
            self._timer = self._loop.call_later(self._settings.ws_ping_timeout / 2, self._half_waited)
        else:
            self._schedule_ping()

    def _half_waited(self) -> None:
        self._timer = self._loop.call_later(self._settings.ws_ping_timeout / 2, self._ping_answered)

    def _ping_answered(self) -> None:
        if self._pong_due and not self._in:  # else the pong may be among what the application does not read
            self._protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            self._flush()
            self._end()
            return
        rest = max(0.0, self._settings.ws_ping_interval - self._settings.ws_ping_timeout)
        self._timer = self._loop.call_later(rest, self._ping)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _message_size(message: Message) -> int:
    data = message.get("bytes")
    return _MESSAGE_COST + len(message["text"] if data is None else data)


def _new_protocol(settings: WorkerSettings) -> ServerProtocol:
    # The compressor's 12 bits of window and memory level 5 are websockets' own server defaults: 32 KiB a connection.
    deflate = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
    return ServerProtocol(
        extensions=[deflate] if settings.ws_per_message_deflate else None,
        state=State.OPEN,
        max_size=settings.ws_max_size,
        logger=logging.getLogger("edge.websocket"),
    )
