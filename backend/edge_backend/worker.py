"""A worker: one application and a connection from each edge, in one event loop.

A worker that is told to stop serves on until every edge has hung up: an edge may have sent it a request before it heard
that this worker is to get nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from . import wire
from .asgi import HttpExchange
from .errors import ClientDisconnected
from .forwarded_prefix import build_prefixed_scope
from .interface import WSGI, Served, serve_interface
from .lifespan import Lifespan
from .loader import Application, Loaded, application_traceback
from .scope import build_scope
from .settings import WorkerSettings
from .trace import traced
from .websocket import WebSocketExchange, websocket_scope

logger = logging.getLogger("edge.worker")

# An application that has sent a head and no content: its head goes out after one to two ticks, so within 50 ms. Until
# then an exception can still become a 500. Running requests are looked at in turn, so no request costs a timer.
TICK = 0.025


class WireConnection(asyncio.Protocol):
    """One edge's connection: reads frames, starts exchanges."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = wire.FrameReader()
        self._exchanges: dict[int, HttpExchange | WebSocketExchange] = {}
        self._cancelled: set[int] = set()  # streams that the edge has reset, and whose application call still runs
        self._is_ticking = False
        self._transport: asyncio.Transport
        self._writer: wire.FrameWriter
        self.write: Callable[[bytes], None]
        self.lost: asyncio.Future[None] = worker.loop.create_future()
        self.sendfile_root = worker.settings.sendfile_root
        self._build_scope = build_prefixed_scope if worker.settings.trust_prefix else build_scope

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._writer = wire.FrameWriter(self._transport.write, self._worker.loop.call_soon)
        self.write = self._writer.write
        self._worker.connections.add(self)
        number = self._worker.settings.number
        flags = wire.WHOLE if self._worker.wants_whole else 0
        self.write(wire.encode_hello(os.getpid(), number) + wire.encode_frame(wire.READY, flags, 0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._writer.close()
        self._worker.connections.discard(self)
        self._cancelled.clear()
        self._worker.keep_running(self.tasks)
        for exchange in list(self._exchanges.values()):
            self._disconnect(exchange)
        self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.receive(data)
            for kind, flags, stream, head, body in frames:
                if kind == wire.REQUEST:
                    self._begin(flags, stream, head, body)
                else:
                    self._receive_other(kind, flags, stream, body)
        except (wire.WireError, ValueError, IndexError) as error:  # too few parts, or a port that is no number
            logger.error("wire: %s; connection to the edge closed", error)
            self._transport.abort()

    def drain(self) -> None:
        """Close the WebSockets of this connection."""
        for exchange in list(self._exchanges.values()):
            if isinstance(exchange, WebSocketExchange):
                exchange.drain()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The application calls that run."""
        return [exchange.task for exchange in self._exchanges.values() if exchange.task is not None]

    def close(self) -> None:
        """Close the connection once what was written has left."""
        self._writer.flush()
        self._transport.close()

    def _begin(self, flags: int, stream: int, head: bytes, body: bytes) -> None:
        worker = self._worker
        parts = wire.split_request(head)
        exchange: HttpExchange | WebSocketExchange
        run = self._run
        if flags & wire.UPGRADE:
            scope = websocket_scope(self._build_scope(parts, worker.settings.root_path, worker.state))
            exchange = WebSocketExchange(self, stream, flags, scope, worker.settings)
            run = self._run_websocket
        else:
            scope = self._build_scope(parts, worker.settings.root_path, worker.state)
            if self.sendfile_root:
                scope["extensions"]["http.response.pathsend"] = {}
            exchange = HttpExchange(self, stream, flags, scope, body)
        self._exchanges[stream] = exchange
        if not self._is_ticking:
            self._is_ticking = True
            worker.loop.call_later(TICK, self._tick)
        exchange.task = _start(worker.loop, run(stream, exchange))

    async def _run(self, stream: int, exchange: HttpExchange | WebSocketExchange) -> None:
        try:
            await self._worker.app(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnected:
            # The application let it pass, as it may: the client's leaving is no error. If it raised for another
            # reason than ours, the answer is not whole.
            if not exchange.is_gone:
                exchange.fail(b"app-error")
        except (Exception, SystemExit) as error:
            # sys.exit() in a request ends that request: the others of this worker are not to pay for it.
            if not (exchange.is_gone and _comes_of_disconnect(error)):
                _log_application_error(exchange, error)
            exchange.fail(b"app-error")
        except asyncio.CancelledError:
            # Cut off at the end of a drain, or cancelled by the application itself: either way no answer comes.
            exchange.fail(b"app-error")
            raise
        else:
            reason = exchange.finish()
            if reason is not None:
                logger.error("application: returned without a whole response to %s", _describe(exchange))
                exchange.fail(reason)
        finally:
            del self._exchanges[stream]
            self._ended(stream)

    async def _run_websocket(self, stream: int, exchange: HttpExchange | WebSocketExchange) -> None:
        assert isinstance(exchange, WebSocketExchange)
        await self._run(stream, exchange)
        # The application has returned; the client's Close is still to come, and the end of the stream with it.
        self._exchanges[stream] = exchange
        try:
            await exchange.wait_closed()
        finally:
            del self._exchanges[stream]
            self._ended(stream)

    def _receive_other(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == wire.PING:
            self.write(wire.encode_frame(wire.PONG, 0, 0, b"", body))
            return
        if kind == wire.DRAIN:
            self.drain()
            return
        exchange = self._exchanges.get(stream)
        if exchange is None:
            return  # it ended here while the frame was under way
        if kind == wire.DATA:
            exchange.feed_data(body, flags & wire.END != 0)
        elif kind == wire.WINDOW:
            exchange.feed_credit(wire.decode_window(body))
        elif kind == wire.RESET:
            self._cancelled.add(stream)
            self._disconnect(exchange)

    def _disconnect(self, exchange: HttpExchange | WebSocketExchange) -> None:
        exchange.disconnect()
        if self._worker.settings.disconnect_grace and exchange.task is not None:
            self._worker.cancel_later(exchange.task)

    def _ended(self, stream: int) -> None:
        """The application call of a stream is over; the edge counts one that it cancelled until it hears that."""
        if stream in self._cancelled:
            self._cancelled.remove(stream)
            self.write(wire.encode_reset(stream, b"cancelled"))

    def _tick(self) -> None:
        again = [exchange.tick() for exchange in list(self._exchanges.values())]
        self._is_ticking = any(again)
        if self._is_ticking:
            self._worker.loop.call_later(TICK, self._tick)


def _start(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start an application call; where Python can, at once: most answers are made without ever waiting."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(call, loop=loop, eager_start=True)
    return loop.create_task(call)


def _describe(exchange: HttpExchange | WebSocketExchange) -> str:
    scope = exchange.scope
    return f"{scope.get('method', 'WebSocket')} {scope['path']!r}"


def _comes_of_disconnect(error: BaseException | None) -> bool:
    """Tell whether the client's leaving was the cause: frameworks raise their own exception on ours."""
    while error is not None and not isinstance(error, ClientDisconnected):
        error = error.__cause__ or error.__context__
    return error is not None


def _log_application_error(exchange: HttpExchange | WebSocketExchange, error: BaseException) -> None:
    trace = application_traceback(error.__traceback__)
    logger.error("application: exception in %s", _describe(exchange), exc_info=(type(error), error, trace))


class Worker:
    """The application and its connections, in one event loop: `start`, then connections, then `drain` and `stop`."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.app: Application
        self.wants_whole = False  # each call takes a thread
        self.state: dict[str, Any] = {}
        self.loop: asyncio.AbstractEventLoop
        self.connections: set[WireConnection] = set()
        # Application calls whose edge has gone: edges end before workers do, and background tasks outlive answers.
        self._left_behind: list[asyncio.Task[None]] = []
        # Application calls whose client has left, and when they are cancelled.
        self._abandoned: deque[tuple[float, asyncio.Task[None]]] = deque()
        self._served: Served
        self._lifespan: Lifespan

    async def start(self, loaded: Loaded) -> None:
        """Start the application in the running event loop.

        Raises LoadError if it has no interface that can be called, StartupError if it does not want to start.
        """
        settings = self.settings
        self.loop = asyncio.get_running_loop()
        self._served = served = serve_interface(loaded.app, settings.interface, settings.threads)
        self.app = traced(served.app) if settings.log_level == "trace" else served.app
        self.wants_whole = served.interface == WSGI
        self._lifespan = Lifespan(self.app, "off" if self.wants_whole else settings.lifespan)
        try:
            await self._lifespan.startup()
        except BaseException:
            await self.abandon()
            raise
        self.state = self._lifespan.state

    async def drain(self) -> None:
        """Serve until all edges have hung up and what runs has ended, background tasks too, within the drain time."""
        deadline = self.loop.time() + self.settings.drain_timeout
        while (left := self._unfinished()) and self.loop.time() < deadline:
            await asyncio.wait(left, timeout=deadline - self.loop.time(), return_when=asyncio.FIRST_COMPLETED)
        await self.cut_off()

    async def cut_off(self) -> None:
        """Cancel what still runs, and hang up."""
        late = [task for task in self._unfinished() if isinstance(task, asyncio.Task)]
        if late:
            for task in late:
                task.cancel()
            logger.warning("worker %d: %d application calls cut off at the end", self.settings.number, len(late))
            await asyncio.wait(late, timeout=1)
        for connection in list(self.connections):
            connection.close()

    async def stop(self) -> None:
        """Have the application shut down."""
        await self._lifespan.shutdown(self.settings.lifespan_timeout)
        self._served.close()

    async def abandon(self) -> None:
        """End without having the application shut down."""
        await self._lifespan.abandon()
        self._served.close()

    def keep_running(self, tasks: list[asyncio.Task[None]]) -> None:
        """Remember application calls whose connection is lost, so that the end of the worker waits for them."""
        self._left_behind = [task for task in (*self._left_behind, *tasks) if not task.done()]

    def cancel_later(self, task: asyncio.Task[None]) -> None:
        """Cancel the application call when its client has been gone for the grace time. One timer serves all."""
        grace = self.settings.disconnect_grace
        if not self._abandoned:
            self.loop.call_later(grace, self._cancel_abandoned)
        self._abandoned.append((self.loop.time() + grace, task))

    def _cancel_abandoned(self) -> None:
        abandoned, now = self._abandoned, self.loop.time()
        while abandoned and abandoned[0][0] <= now:
            abandoned.popleft()[1].cancel()
        if abandoned:
            self.loop.call_at(abandoned[0][0], self._cancel_abandoned)

    def _unfinished(self) -> list[asyncio.Future[None]]:
        tasks = [task for connection in self.connections for task in connection.tasks]
        tasks += [task for task in self._left_behind if not task.done()]
        return [*tasks, *(connection.lost for connection in self.connections)]
