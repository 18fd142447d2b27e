"""The connection from this edge to one worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from typing import Protocol, cast

from edge.dispatch.exchange import Exchange
from edge_backend import wire

logger = logging.getLogger("edge.dispatch")

# A worker whose event loop shows no sign of life for this long gets no new request until it does.
SILENCE = 2.0
_LAST_STREAM = 2**32 - 1


class Dispatcher(Protocol):
    """Who chooses between links, as a link reports to it."""

    @property
    def queue(self) -> Sized:
        """What waits for a worker."""

    def add(self, link: WorkerLink) -> None: ...
    def remove(self, link: WorkerLink) -> None: ...
    def release(self) -> None: ...
    def submit_again(self, exchange: Exchange) -> None: ...


class WorkerLink(asyncio.Protocol):
    """Carries exchanges to one worker, and its frames back to them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        number: int,
        on_lost: Callable[[WorkerLink], None],
        slot: int = 0,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.dispatcher = dispatcher
        self.number = number
        self.slot = slot  # which it takes over from the worker before it, see edge_backend/pool.py
        self.streams: dict[int, Exchange] = {}
        self.is_ready = False
        self.pinged_at = 0.0  # since when a PONG is due, or READY of a worker that is known to be; 0: none is
        self.wants_whole = False  # requests are best sent to it when all of them is here
        self.is_foreign = False  # it does not speak this wire
        self.is_retired = False  # it gets nothing new
        self.is_silent = False
        self._is_greeted = False
        self._on_lost = on_lost
        self._on_ready = on_ready
        self._reader = wire.FrameReader()
        self._last = 0
        self._is_connected = False
        self._transport: asyncio.Transport
        self._writer: wire.FrameWriter
        self.write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._is_connected = True
        self._writer = wire.FrameWriter(self._transport.write, asyncio.get_running_loop().call_soon)
        self.write = self._writer.write

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_ready = False
        self._writer.close()
        self.dispatcher.remove(self)
        streams, self.streams = self.streams, {}
        self._on_lost(self)
        for exchange in streams.values():
            if exchange.link is None:
                exchange.released()
            elif exchange.link_lost(f"worker {self.number} died"):
                self.dispatcher.submit_again(exchange)

    def start(self, exchange: Exchange, request: bytes) -> None:
        """Open a stream for the exchange and send it."""
        self._last = stream = self._last + 1 if self._last < _LAST_STREAM else 1
        self.streams[stream] = exchange
        self.write(exchange.begin(self, stream, request))
        if not exchange.head.complete:
            exchange.pour()

    def send_content(self, exchange: Exchange, content: bytes, end: bool) -> None:
        """Send content of a request."""
        self.write(wire.encode_frame(wire.DATA, wire.END if end else 0, exchange.stream, b"", content))

    def open_window(self, exchange: Exchange, credit: int) -> None:
        """Let the worker send so many bytes more of an answer."""
        self.write(wire.encode_window(exchange.stream, credit))

    def cancel(self, exchange: Exchange) -> bool:
        """Tell the worker that the exchange has no client any more; True if it has it still.

        It counts until the worker has done with it: a client that opens requests and resets them at once would have
        the worker run more of them than it may (rapid reset, CVE-2023-44487).
        """
        has_it = self.streams.get(exchange.stream) is exchange
        if has_it:
            self.write(wire.encode_reset(exchange.stream, b"cancelled"))
        return has_it

    @property
    def requests(self) -> int:
        """How many requests the worker has had on this connection."""
        return self._last

    def drain(self) -> None:
        """Tell the worker that nothing new comes from this edge: its WebSockets close."""
        if self.is_ready:
            self.write(wire.encode_frame(wire.DRAIN, 0, 0))

    def retire(self) -> None:
        """Give the worker nothing new, and hang up when what runs has ended: it waits for that before it ends."""
        self.is_retired = True
        self.dispatcher.remove(self)
        if self.is_ready and not self.streams:
            self.close()
        else:
            self.drain()  # again and again: a WebSocket that was not accepted yet could not be closed

    def check(self, now: float) -> None:
        """Ask the worker's event loop for a sign of life, and take note of how long there was none."""
        if not self.is_ready:
            self.is_silent = self.pinged_at > 0 and now - self.pinged_at >= SILENCE
            return
        if not self.pinged_at:
            self.pinged_at = now
            self.write(wire.encode_frame(wire.PING, 0, 0))
        elif now - self.pinged_at >= SILENCE and not self.is_silent:
            self.is_silent = True
            logger.warning("worker %d: no sign of life for %.1f s; no new requests", self.number, now - self.pinged_at)
            self.dispatcher.remove(self)
        if self.is_retired:
            self.retire()

    def end_late(self, now: float, limit: float) -> None:
        """Answer for the application where it has begun no answer within `limit` seconds."""
        for exchange in list(self.streams.values()):
            if exchange.is_late(now, limit):
                exchange.app_timed_out(limit)

    def close(self) -> None:
        """Hang up once what was written has left, if it is connected."""
        if self._is_connected:
            self._writer.flush()
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            self._receive_frames(self._reader.receive(data))
        except wire.WireError as error:
            # A worker of another version stays one: to connect again would say the same ten times a second.
            self.is_foreign = not self._is_greeted
            logger.error("worker %d: %s; connection closed", self.number, error)
            self._transport.abort()

    def _receive_frames(self, frames: list[wire.Frame]) -> None:
        streams = self.streams
        for kind, flags, stream, head, body in frames:
            exchange = streams.get(stream)
            if exchange is None:
                if not stream:
                    self._receive_control(kind, flags, head)
                continue
            if flags & wire.END or kind == wire.RESET:
                del streams[stream]
                if exchange.link is None:
                    exchange.released()
                else:
                    exchange.link = None
                    self._receive(exchange, kind, flags, head, body)
                if self.dispatcher.queue:
                    self.dispatcher.release()
            elif exchange.link is not None:
                self._receive(exchange, kind, flags, head, body)

    def _receive(self, exchange: Exchange, kind: int, flags: int, head: bytes, body: bytes) -> None:
        if kind == wire.RESPONSE:
            exchange.receive_response(flags, head, body)
        elif kind == wire.DATA:
            exchange.receive_data(flags, body)
        elif kind == wire.WINDOW:
            exchange.receive_credit(wire.decode_window(body))
        elif kind == wire.RESET:
            exchange.receive_reset(head)
        elif kind == wire.TRAILERS:
            exchange.receive_trailers(head)

    def _receive_control(self, kind: int, flags: int, head: bytes) -> None:
        if kind == wire.HELLO:
            wire.decode_hello(head)
            self._is_greeted = True
        elif kind == wire.READY and not self.is_ready:
            if not self._is_greeted:
                raise wire.WireError("READY before HELLO")
            self.is_ready = True
            self.is_silent, self.pinged_at = False, 0.0
            self.wants_whole = flags & wire.WHOLE != 0
            if not self.is_retired:
                self.dispatcher.add(self)
            self._on_ready()
        elif kind == wire.PONG:
            self.pinged_at = 0.0
            if self.is_silent:
                self.is_silent = False
                logger.warning("worker %d: shows signs of life again", self.number)
                if not self.is_retired:
                    self.dispatcher.add(self)
