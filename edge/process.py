"""What the connections of an edge process share: the listeners, the links to the workers, and the sweep.

The master forks the process with the listeners open and the contexts made; its orders are those of edge/orders.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.config import ServeSettings
from edge.config_limits import LimitSettings
from edge.counts import Counts
from edge.dispatch.gate import Finder, Gate
from edge.dispatch.link import WorkerLink
from edge.dispatch.links import Place, WorkerLinks
from edge.dispatch.sides import FileSender
from edge.gate import parse_allowed
from edge.http.field import FieldMemory
from edge.http.head import HeadLimits, HeadParser
from edge.http.http2 import Http2Limits
from edge.http.huffman import best_huffman
from edge.net.connection import ClientConnection
from edge.net.listener import Listener
from edge.net.service import Connection
from edge.net.stream import ClientStream
from edge.net.untaken import Untaken
from edge.observe import STDOUT, AccessLog, Clock, Output, wants_colors, wants_json
from edge.policy.chain import HEALTH, READY, Policy, Redirect
from edge.policy.forwarded import TrustedProxies, announcers
from edge.sites import build_sites
from edge.static.sendfile import SentFiles
from edge.static.target import StaticTarget
from edge.targets import Targets, make_dispatchers
from edge.tls.contexts import MemoryCertificate, Sites, TlsServer
from edge.tls.guards import Guard
from edge.upstream.trust import UpstreamTrust

logger = logging.getLogger("edge.process")

# The sweep looks at every deadline this often; a deadline is met with this precision.
SWEEP = 0.5
# A worker that is ready answers a new edge in milliseconds; one that hangs is not waited for.
HANGS = 2.0
# What the listeners had accepted when they were closed is known to be a connection by then.
ACCEPTED = 0.1
# Access-log lines wait at most this long.
FLUSH = 0.05
# Remembered field lines are dropped this often: see edge/http/head.py.
FORGET = 60.0
# How many connections are looked at to find an idle one that can make room.
_RECLAIM_LOOKS = 64


class EdgeProcess:
    """Everything that the connections of one process share."""

    def __init__(
        self,
        settings: ServeSettings,
        listeners: Sequence[Listener],
        tls: TlsServer | None,
        trust: UpstreamTrust,
        output: Output | None = None,
    ) -> None:
        self.settings = settings
        limits = settings.limits
        self.max_body = limits.max_body
        self.head_parser = HeadParser(HeadLimits(limits.max_request_line, limits.max_header_size, limits.max_headers))
        self.field_memory = FieldMemory(best_huffman())
        self.http2_limits = _http2_limits(limits)
        self.body_idle = settings.timeouts.body_idle
        self.body_min_rate = settings.timeouts.body_min_rate
        self.write_stall = settings.timeouts.write_stall
        # Requests on one connection; a keep-alive time of 0 closes it after each.
        self.max_requests = limits.keepalive_requests if settings.timeouts.keep_alive else 1
        self.clock = Clock(settings.answers)
        self._counts = Counts() if settings.run.metrics else None
        self.access_log = self._make_access_log(output)
        self.dispatchers = make_dispatchers(settings)
        targets = Targets(settings, self.dispatchers, trust)
        self.router: Finder = targets.router
        self.intake = targets.intake
        self._gate = Gate(self.router, self.intake, limits.queue, parse_allowed)
        self._upstreams = targets.upstreams
        self._folders: list[StaticTarget | SentFiles] = [*targets.folders]
        self.untaken = Untaken()
        self.files: FileSender | None = None
        if settings.static.sendfile_root:
            self._folders.append(files := SentFiles(settings.static.sendfile_root))
            self.files = files
        # A dict keeps the order of accepting: the oldest come first when room must be made.
        self.connections: dict[Connection, None] = {}
        self.is_draining = False
        self._listeners = listeners
        self._tls = tls
        self._sites = build_sites(settings.sites, tls, settings.pool.edges)
        if tls is not None and self._sites.have_guards:
            tls.guard_of = self._sites.guard_of
        self._links = WorkerLinks(self.dispatchers)
        self.servers: list[asyncio.AbstractServer] = []
        self._is_parting = False
        self._is_settled = False  # no connection is on its way from the listeners to `connections`
        self._drained = asyncio.Event()
        self._timer: asyncio.TimerHandle
        self._swept_at = time.monotonic()
        self._forget_at = self._swept_at + FORGET

    def _make_access_log(self, output: Output | None) -> AccessLog | None:
        """Return what takes down requests that are over; their lines are counted also where they are not kept."""
        logs = self.settings.logs
        if not logs.access_log and self._counts is None:
            return None
        return AccessLog(
            STDOUT if logs.access_log else None,
            json_lines=wants_json(logs),
            clock=self.clock,
            later=self._flush_soon,
            counts=self._counts,
            colors=wants_colors(logs.colors, sys.stdout),
            output=output,
        )

    def admit(self, connection: Connection) -> None:
        """Take a new connection; the limit is kept by closing the oldest idle one, or this one."""
        self.connections[connection] = None
        if len(self.connections) <= self.settings.limits.max_connections:
            return
        for number, candidate in enumerate(self.connections):
            if candidate.is_idle:
                candidate.close()
                return
            if number == _RECLAIM_LOOKS:
                break
        logger.warning(
            "%s: connection refused: %d are open, at most %d allowed",
            connection.address,
            len(self.connections) - 1,
            self.settings.limits.max_connections,
        )
        if self._counts is not None:
            self._counts.reject_connection()
        connection.stream.abort()

    async def wait_workers(self) -> None:
        """Wait until workers that can serve can do so here, or it is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANGS):
                await self._links.complete.wait()

    async def open(self, swept: Callable[[], None]) -> None:
        """Take connections, unless it is to end already; `swept` is called after each sweep, or leaving a worker."""
        for upstream in self._upstreams:
            upstream.start()
        if not (self.is_draining or self._drained.is_set()):
            for listener in self._listeners:
                self.servers.append(await self._listen(asyncio.get_running_loop(), listener))
        self._links.left = swept
        self._swept_at = time.monotonic()
        self._sweep_later(swept)

    async def wait_drained(self) -> None:
        """Wait until nothing is left of what was to be drained."""
        await self._drained.wait()

    async def close(self) -> None:
        """Hang up on workers and upstreams, and write what has gathered for the log."""
        self._timer.cancel()
        self._links.close()
        for upstream in self._upstreams:
            await upstream.close()
        for folder in self._folders:
            folder.close()
        self._flush_log()

    def _policy(self, listener: Listener) -> Policy:
        forward = self.settings.forward
        return Policy(
            scheme=b"https" if listener.tls else b"http",
            port=listener.public_port or 0,
            address=listener.address.removeprefix("unix:").encode(),
            trust=TrustedProxies(
                forward.trusted_proxies,
                unix=forward.trust_unix,
                rfc7239=forward.style == "rfc7239",
                trust_host=forward.trust_host,
                trust_prefix=forward.trust_prefix,
                hops=forward.hops,
            ),
            redirect=None if listener.tls or self._tls is None else self._redirect(self._tls),
            sites=self._sites,
            clock=time.monotonic,
            probes={HEALTH: self._is_healthy, READY: self._is_ready} if self.settings.run.health else {},
        )

    def _is_healthy(self) -> bool:
        return True  # it answers

    def _is_ready(self) -> bool:
        return not self.is_draining and all(pool.has_worker for pool in self.dispatchers.values())

    def _redirect(self, tls: TlsServer) -> Redirect:
        ports = [listener.public_port for listener in self._listeners if listener.tls and listener.public_port]
        find_challenge = tls.answers.find_http if tls.answers is not None else None
        return Redirect(ports[0] if ports else 443, find_challenge)

    async def _listen(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> asyncio.AbstractServer:
        tls = self._tls if listener.tls else None
        policy = self._policy(listener)
        announces = announcers(self.settings.forward.proxy_protocol)

        def drive(stream: ClientStream) -> ClientConnection:
            return ClientConnection(self, policy, stream)

        def factory() -> ClientStream:
            return ClientStream(tls, self.settings.timeouts, drive, announces)

        if listener.sock.family == socket.AF_UNIX:
            if sys.version_info >= (3, 13):
                # The file is the master's: other edges take connections there when this one has ended.
                return await loop.create_unix_server(factory, sock=listener.sock, cleanup_socket=False)
            return await loop.create_unix_server(factory, sock=listener.sock)
        return await loop.create_server(factory, sock=listener.sock, backlog=self.settings.listen.backlog)

    # Time.

    def _flush_soon(self) -> None:
        # Not at a fixed pace: an idle process is to sleep.
        asyncio.get_running_loop().call_later(FLUSH, self._flush_log)

    def _flush_log(self) -> None:
        self.clock.tick(time.time())
        if self.access_log is not None:
            self.access_log.flush()

    def _sweep_later(self, swept: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP, self._sweep, swept)

    def _sweep(self, swept: Callable[[], None]) -> None:
        # First of all the next one: whatever goes wrong here must not end the deadlines.
        self._sweep_later(swept)
        self.clock.tick(time.time())
        now = time.monotonic()
        if now >= self._forget_at:
            self._forget_at = now + FORGET
            self.head_parser.forget()
            self.field_memory.forget()
        for connection in list(self.connections):
            if connection.stream.deadline < now:
                connection.stream.expire(now)
            else:
                connection.sweep(now)
        if self._is_parting:
            for connection in list(self.connections):
                connection.part(now)
        for dispatcher in self.dispatchers.values():
            for exchange in dispatcher.expired(now):
                exchange.queue_timed_out()
        self._gate.sweep(now)
        for upstream in self._upstreams:
            upstream.sweep(now)
        for folder in self._folders:
            folder.sweep(now)
        self._check_workers(now)
        swept()

    def _check_workers(self, now: float) -> None:
        stood_still, self._swept_at = now - self._swept_at > 4 * SWEEP, now
        self._links.check(now, stood_still=stood_still)
        if self.is_draining:
            self._close_websockets()  # again: some begin yet, on connections that were accepted before
        if self.settings.timeouts.app:
            self._links.end_late(now, self.settings.timeouts.app)

    # Orders.

    def use_certificates(self, certificates: Sequence[MemoryCertificate]) -> None:
        """Serve with these from now on."""
        if self._tls is not None:
            self._tls.sites = Sites(certificates, self._tls.sites.offer)

    def use_guards(self, guards: Mapping[str, Guard]) -> None:
        """Hold clients against these from now on."""
        if self._tls is not None:
            self._tls.guards = {**self._tls.guards, **guards}

    def set_gate(self, order: dict[str, Any]) -> None:
        """Let requests through, or not; see GateState.order."""
        self.router = self._gate.obey(order)

    def reopen_log(self) -> None:
        """Open the file of the access log anew."""
        if self.access_log is not None:
            self.access_log.reopen()

    def set_workers(self, workers: Mapping[int, Place]) -> None:
        """Send requests to these, and to no other."""
        self._links.use(workers)

    def report(self) -> dict[str, Any]:
        """Return what the master is told, see edge/orders.py."""
        found: dict[str, Any] = {
            "workers": self._links.report(),
            "serving": self._links.serving,
            "connections": len(self.connections),
            "draining": self.is_draining,
            "queue": sum(len(dispatcher.queue) for dispatcher in self.dispatchers.values())
            + sum(upstream.queued for upstream in self._upstreams)
            + len(self._gate),
            "tasks": len(asyncio.all_tasks()),
        }
        if self._upstreams:
            found["upstreams"] = {upstream.name: upstream.report() for upstream in self._upstreams}
        if self._counts is not None:
            handshakes = self._tls.handshakes if self._tls is not None else {}
            found["counts"] = self._counts.report() | {f"handshake {key}": n for key, n in handshakes.items()}
        return found

    def add_link(self, number: int, pool: str) -> WorkerLink:
        """Return the end of a connection to a worker; it serves as soon as somebody connects it."""
        return self._links.add(number, pool)

    @property
    def requests(self) -> int:
        """How many requests the workers of now have had."""
        return self._links.requests

    def replace(self, before: Connection, after: Connection) -> None:
        """A peer turned out to speak another version of HTTP."""
        self.connections.pop(before, None)
        self.connections[after] = None

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.pop(connection, None)
        self.check_drained()

    def check_drained(self) -> None:
        """Stop when draining and nothing is left."""
        if self.is_draining and self._is_settled and not self.connections:
            self._drained.set()

    def _settle(self) -> None:
        self._is_settled = True
        self.check_drained()

    def drain(self, *, gently: bool) -> None:
        """Take nothing new, let what runs end, and stop; the master sets the limit of time.

        `gently`: another edge serves already, so there is time for the next answer to announce the close.
        """
        self.is_draining = True
        self._is_parting = gently
        self._links.complete.set()
        for server in self.servers:
            server.close()
        self._close_websockets()
        if gently:
            # Another edge would have served what was accepted just now: it is a connection in one of the next turns. If
            # the process stood still, the timer is late too: what had been accepted comes before what it calls soon.
            loop = asyncio.get_running_loop()
            loop.call_later(ACCEPTED, loop.call_soon, self._settle)
            return
        for connection in list(self.connections):
            connection.drain()
        self._settle()

    def _close_websockets(self) -> None:
        self._links.drain()
        for upstream in self._upstreams:
            upstream.drain()

    def stop(self) -> None:
        """End now."""
        self.cut_off()
        self.end()

    def end(self) -> None:
        """End, without a word to clients."""
        self._links.complete.set()
        self._drained.set()

    def cut_off(self) -> None:
        """End the connections; what is cut off gets its answer, if it had none, and its line in the log."""
        for connection in list(self.connections):
            connection.cut_off()


def _http2_limits(limits: LimitSettings) -> Http2Limits:
    return Http2Limits(
        max_streams=limits.http2_streams,
        max_target=limits.max_request_line,
        max_header_size=limits.max_header_size,
        max_headers=limits.max_headers,
        max_body=limits.max_body,
    )
