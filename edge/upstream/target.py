"""The target of routes that lead to other servers.

Theory of operation
-------------------
A request goes to the least busy server that is up (balance.py), on a connection of its own that is unused, or a new
one; when all of them have as many as they may, it waits in a bounded queue. What was not sent, because no connection
came about, goes to another server, whatever the method. What was sent and got no answer goes to another one if its
method is idempotent and its content is still here, once: the rule for workers (design/flow.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from time import monotonic
from typing import Any

from edge.config_sites import UpstreamPlan
from edge.dispatch.exchange import Exchange
from edge.dispatch.target import Overloaded
from edge.net.address import UnixAddress
from edge.options_sites import UpstreamAddress
from edge.upstream.balance import Balance
from edge.upstream.connection import UpstreamConnection
from edge.upstream.health import is_well

logger = logging.getLogger("edge.upstream")

# What OpenSSL says of a certificate that is for another name or address, and of one without a root that is trusted
# (x509_vfy.h: X509_V_ERR_*).
_OF_ANOTHER = (62, 64)
_WITHOUT_ROOT = (18, 19, 20, 21)


class _Waiting:
    """A request that has no connection yet, and the servers that have failed it."""

    __slots__ = ("exchange", "request", "since", "tried")

    def __init__(self, exchange: Exchange, request: bytes) -> None:
        self.exchange: Exchange | None = exchange  # None when its client has left
        self.request = request
        self.since = monotonic()
        self.tried: set[int] = set()


class Upstream:
    """Gives requests to the servers of a plan. `prefix` is left out of request targets, unless it is empty.

    `context` is for servers with TLS, see `UpstreamTrust.context_for`.
    """

    def __init__(
        self,
        name: str,
        plan: UpstreamPlan,
        prefix: bytes,
        context: ssl.SSLContext | None,
        *,
        queue: int,
        queue_timeout: float,
    ) -> None:
        self.name = name
        self._plan = plan
        self._queue_limit = queue
        self._queue_timeout = queue_timeout
        self._balance = Balance(plan)
        self._servers = [_Server(self, number, prefix, context) for number in range(len(plan.servers))]
        self._queue: deque[_Waiting] = deque()
        self._waiting: dict[Exchange, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin the active checks, in the event loop that runs."""
        if self._plan.health_path:
            for server in self._servers:
                self._run(server.watch())

    # The target.

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Send the exchange to a server, now or when one has room.

        Raises Overloaded if the queue is full, or no server is up.
        """
        number = self._balance.choose(exchange.ready_at)
        if number is None:
            raise Overloaded(f"upstream {self.name}: no server is up")
        exchange.sent_at = exchange.ready_at
        server = self._servers[number]
        connection = server.take()
        if connection is not None:
            server.begin(connection, exchange, request)
        elif server.count >= self._plan.max_connections and len(self._queue) >= self._queue_limit:
            raise Overloaded(f"queue full: {len(self._queue)} requests wait for {self.name}")
        else:
            self._place(_Waiting(exchange, request), number)

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        waiting = self._waiting.pop(exchange, None)
        if waiting is not None:
            waiting.exchange = None
            if waiting in self._queue:
                self._queue.remove(waiting)

    # The process.

    def sweep(self, now: float) -> None:
        """Look at every deadline."""
        for server in self._servers:
            server.sweep(now)
        # Not only the first: one whose connection was lost stands before the others, and has waited less.
        for waiting in [waiting for waiting in self._queue if waiting.since + self._queue_timeout < now]:
            if waiting.exchange is not None:
                exchange = waiting.exchange
                self.withdraw(exchange)
                exchange.queue_timed_out()

    def drain(self) -> None:
        """The edge is going away: have the WebSockets closed."""
        for server in self._servers:
            server.drain()

    def report(self) -> dict[str, Any]:
        """What an operator asks of each server."""
        now = monotonic()
        return {
            str(address): {
                "up": server.state.is_up(now),
                "requests": server.state.requests,
                "in_flight": len(server.busy),
                "connections": server.count,
            }
            for address, server in zip(self._plan.servers, self._servers, strict=True)
        }

    @property
    def queued(self) -> int:
        """How many requests wait for a server with room."""
        return len(self._queue)

    async def close(self) -> None:
        """Hang up, and end the checks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()

    # The servers.

    def released(self) -> None:
        """A server has room: give it what waits."""
        while self._queue:
            waiting = self._queue[0]
            number = self._balance.choose(monotonic(), waiting.tried)
            if number is not None and not self._servers[number].has_room(self._plan.max_connections):
                return
            self._queue.popleft()
            self._place(waiting, number)

    def again(self, exchange: Exchange, number: int, reason: str) -> None:
        """The exchange was sent, and its connection is lost: let another server have it, if that may be."""
        if self._plan.retry == "none":
            exchange.refuse(502, reason)
        elif exchange.link_lost(reason):
            waiting = _Waiting(exchange, exchange.kept_request)
            if len(self._servers) > 1:
                waiting.tried.add(number)
            self._place(waiting)

    def _place(self, waiting: _Waiting, number: int | None = None) -> bool:
        """Begin the request, or queue it or refuse it; False if it has to wait. `number`: its server is chosen."""
        exchange = waiting.exchange
        assert exchange is not None
        if number is None:
            number = self._balance.choose(monotonic(), waiting.tried)
        if number is None:
            self._waiting.pop(exchange, None)
            exchange.refuse(502, f"upstream {self.name}: no server is left that could have it")
            return True
        server = self._servers[number]
        connection = server.take()
        if connection is not None:
            self._begin(waiting, server, connection)
        elif server.count < self._plan.max_connections:
            self._waiting[exchange] = waiting
            server.count += 1
            server.state.busy += 1
            self._run(self._connect(waiting, server))
        else:
            self._waiting[exchange] = waiting
            self._queue.appendleft(waiting) if waiting.tried else self._queue.append(waiting)
            return False
        return True

    def _begin(self, waiting: _Waiting, server: _Server, connection: UpstreamConnection) -> None:
        exchange = waiting.exchange
        if exchange is None:
            server.done(connection)
            return
        self._waiting.pop(exchange, None)
        server.begin(connection, exchange, waiting.request)

    async def _connect(self, waiting: _Waiting, server: _Server) -> None:
        try:
            async with asyncio.timeout(self._plan.connect_timeout):
                connection = await server.connect()
        except (OSError, TimeoutError) as error:
            server.count -= 1
            server.state.busy -= 1
            how = _reason(error) or f"not within {self._plan.connect_timeout:g} s"
            server.failed(f"cannot connect: {how}")
            waiting.tried.add(server.number)
            exchange = waiting.exchange
            if exchange is None:
                pass  # its client has left
            elif self._balance.choose(monotonic(), waiting.tried) is None:
                self._waiting.pop(exchange, None)
                exchange.refuse(502, f"upstream {server.address}: cannot connect: {how}")
            else:
                self._place(waiting)
            self.released()
        else:
            server.state.busy -= 1
            self._begin(waiting, server, connection)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def plan(self) -> UpstreamPlan:
        """How its servers are spoken to."""
        return self._plan

    @property
    def balance(self) -> Balance:
        """What is known of its servers."""
        return self._balance


class _Server:
    """One server, and the connections to it."""

    def __init__(self, upstream: Upstream, number: int, prefix: bytes, context: ssl.SSLContext | None) -> None:
        plan = upstream.plan
        self.number = number
        self.address: UpstreamAddress = plan.servers[number]
        self.state = upstream.balance.servers[number]
        self.prefix = prefix
        self.host = self._own_host() if plan.send_host == "upstream" else b""
        self.count = 0  # connections, also those that come about
        self.busy: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._upstream = upstream
        self._context = context if self.address.scheme == "https" else None

    def _own_host(self) -> bytes:
        address = self.address.address
        return b"localhost" if isinstance(address, UnixAddress) else str(address).encode()

    def take(self) -> UpstreamConnection | None:
        """Return a connection that is not used, the one that was used last."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing:
                return connection
        return None

    def begin(self, connection: UpstreamConnection, exchange: Exchange, request: bytes) -> None:
        """Send a request."""
        self.state.busy += 1
        self.state.requests += 1
        self.busy.add(connection)
        connection.start(exchange, request)

    def has_room(self, most: int) -> bool:
        """Tell whether there is a connection for a request, or may be."""
        return self.count < most or any(not connection.is_closing for connection in self._idle)

    async def connect(self) -> UpstreamConnection:
        """Return a new connection.

        Raises OSError if there is none.
        """
        loop = asyncio.get_running_loop()
        address = self.address.address
        if isinstance(address, UnixAddress):
            _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self), address.path)
        else:
            name = (self._upstream.plan.tls_name or address.host) if self._context is not None else None
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self), address.host, address.port, ssl=self._context, server_hostname=name
            )
        return connection

    def sweep(self, now: float) -> None:
        """Look at every deadline."""
        plan = self._upstream.plan
        for connection in list(self.busy):
            connection.check(now, plan.response_timeout, plan.idle_timeout)
        for connection in [item for item in self._idle if item.idle_since + plan.keepalive_timeout < now]:
            connection.close()

    def drain(self) -> None:
        """Have the WebSockets closed."""
        for connection in list(self.busy):
            connection.drain()

    def close(self) -> None:
        """Hang up on everything."""
        for connection in (*self._idle, *self.busy):
            connection.close()

    async def watch(self) -> None:
        """Ask again and again how it is."""
        plan = self._upstream.plan
        while True:
            well = False
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(plan.health_timeout):
                    well = await is_well(self.address, plan.health_path, self._context, plan.tls_name)
            if self._upstream.balance.checked(self.number, is_well=well):
                logger.warning("upstream %s: %s", self.address, "well again" if well else "fails its health check")
            await asyncio.sleep(plan.health_interval)

    # Its connections.

    def done(self, connection: UpstreamConnection) -> None:
        """It can carry another request."""
        self._forget(connection)
        if self._upstream.plan.keepalive_timeout:
            self._idle.append(connection)
        else:
            connection.close()
        self._upstream.released()

    def lost(self, connection: UpstreamConnection) -> None:
        """It has ended."""
        self.count -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._forget(connection)
        self._upstream.released()

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self.busy:
            self.busy.discard(connection)
            self.state.busy -= 1

    def failed(self, reason: str) -> None:
        """It did not do what it should."""
        if self._upstream.balance.failed(self.number, monotonic()):
            timeout = self._upstream.plan.fail_timeout
            logger.warning("upstream %s: %s; it gets nothing for %g s", self.address, reason, timeout)
        else:
            logger.warning("upstream %s: %s", self.address, reason)

    def succeeded(self) -> None:
        """It has answered."""
        self._upstream.balance.succeeded(self.number)

    def again(self, exchange: Exchange, reason: str) -> None:
        """The exchange lost its connection before there was an answer."""
        self._upstream.again(exchange, self.number, reason)


def _reason(error: OSError) -> str:
    """Return why no connection came about, and what helps where that is known; empty when only time has passed."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return str(error)
    found = f"certificate verify failed: {error.verify_message[:1].lower()}{error.verify_message[1:].rstrip('.')}"
    if error.verify_code in _OF_ANOTHER:
        return f"{found}; name the one that it is for with tls_name"
    if error.verify_code in _WITHOUT_ROOT:
        return f"{found}; add its root with edge trust add, or name it with ca_root"
    return found
