"""An edge process in this process: its orders, and the connections that it admits."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from edge.config import build_settings
from edge.config_listen import ListenSettings
from edge.dispatch.links import Place
from edge.net.address import UnixAddress
from edge.net.listener import Listener, close_listeners, open_listeners, start_listening
from edge.orders import Orders
from edge.process import HANGS, EdgeProcess
from edge.tls.contexts import HTTP1_ONLY, MemoryCertificate, TlsServer
from edge.tls.guards import Guard
from edge.upstream.trust import UpstreamTrust
from edge_backend import wire

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEADLINE = 20.0
PAUSE = 0.005
NOBODY: Mapping[str, Place] = {}


class Running:
    """An edge process on a Unix socket, with our end of its control socket; no worker serves it."""

    def __init__(self, edge: EdgeProcess, control: socket.socket, path: str, task: asyncio.Task[None]) -> None:
        self.edge = edge
        self.control = control
        self.task = task
        self._path = path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a client connection."""
        return await asyncio.open_unix_connection(self._path)

    def order(self, **order: object) -> None:
        """Give an order, as the master does."""
        self.control.sendall(json.dumps(order).encode() + b"\n")

    async def wait(self, condition: Callable[[], object]) -> None:
        """Wait until the condition is true."""
        for _ in range(int(DEADLINE / PAUSE)):
            if condition():
                return
            await asyncio.sleep(PAUSE)
        raise AssertionError("not in time")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a Unix socket."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def run(
    short_folder: Path,
    scenario: Callable[[Running], Awaitable[None]],
    *,
    workers: Mapping[str, Place] = NOBODY,
    **options: object,
) -> None:
    """Run the scenario beside an edge process, which it must bring to its end; `workers` is its first order."""

    async def both(listeners: list[Listener]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            edge = EdgeProcess(
                build_settings({"app": "m:a", "access_log": False, **options}), listeners, None, UpstreamTrust()
            )
            task = asyncio.create_task(Orders(edge, theirs).run())
            await asyncio.sleep(0)
            running = Running(edge, ours, path, task)
            running.order(workers=workers)
            await scenario(running)
            await asyncio.wait_for(task, DEADLINE)
            # The end of the process would close them.
            for connection in list(edge.connections):
                connection.stream.abort()
            await asyncio.sleep(0)

    path = str(short_folder / "edge.sock")
    listeners, _ = open_listeners(ListenSettings(binds=(UnixAddress(path),)), has_certificate=False, dev=False)
    start_listening(listeners, 10)
    try:
        asyncio.run(both(listeners))
    finally:
        close_listeners(listeners)


def test_edge_ends_when_its_master_is_gone(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        running.control.close()

    run(short_folder, scenario)


def test_idle_edge_ends_when_told_to_drain(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        running.order(drain=True)

    run(short_folder, scenario)


def test_drain_waits_for_the_request_that_waits(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        reader, writer = await running.connect()
        writer.write(GET)
        await running.wait(lambda: [item for item in running.edge.connections if not item.is_idle])
        running.order(drain=True)
        await running.wait(lambda: running.edge.is_draining)
        assert not running.task.done()
        running.order(stop=True)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        writer.close()

    run(short_folder, scenario)


def test_edge_that_makes_way_waits_for_what_its_listeners_have_just_accepted(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.wait(lambda: running.edge.servers)
        running.edge.drain(gently=True)
        for _ in range(10):  # turns of the loop: in one of these a connection would be made
            await asyncio.sleep(0)
        assert not running.task.done()

    run(short_folder, scenario)


def test_request_waits_for_a_worker_and_is_refused_in_time(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        reader, writer = await running.connect()
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in head
        writer.close()
        running.order(drain=True)

    run(short_folder, scenario, queue_timeout=0.01)


def test_order_that_comes_in_pieces_is_obeyed_when_it_is_whole(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        running.control.sendall(b'{"reopen": true}\n{"dra')
        await asyncio.sleep(0)
        assert not running.edge.is_draining
        running.control.sendall(b'in": true}\n')

    run(short_folder, scenario)


def test_edge_connects_to_a_worker_that_starts_late(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        path = str(short_folder / "worker.sock")
        running.order(workers={"3": Place("*/", path, 0, is_ready=False)})
        connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        await asyncio.sleep(0)
        server = await asyncio.start_unix_server(lambda reader, writer: connected.put_nowait(writer), path)
        writer = await asyncio.wait_for(connected.get(), DEADLINE)
        running.order(workers={})
        running.order(drain=True)
        await asyncio.wait_for(running.task, DEADLINE)
        writer.close()
        server.close()
        await asyncio.sleep(0)

    run(short_folder, scenario)


def test_edge_listens_when_a_worker_has_answered(short_folder: Path) -> None:
    path = str(short_folder / "worker.sock")

    async def scenario(running: Running) -> None:
        connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_unix_server(lambda reader, writer: connected.put_nowait(writer), path)
        writer = await asyncio.wait_for(connected.get(), DEADLINE)
        assert not running.edge.servers
        writer.write(wire.encode_hello(1, 3) + wire.encode_frame(wire.READY, 0, 0))
        await running.wait(lambda: running.edge.servers)
        running.order(drain=True)
        await asyncio.wait_for(running.task, DEADLINE)
        writer.close()
        server.close()
        await asyncio.sleep(0)

    run(short_folder, scenario, workers={"3": Place("*/", path, 0, is_ready=True)})


def test_edge_listens_though_a_worker_does_not_answer(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.wait(lambda: running.edge.servers)
        running.order(drain=True)

    run(short_folder, scenario, workers={"3": Place("*/", str(short_folder / "none.sock"), 0, is_ready=True)})


def test_edge_that_is_told_to_drain_while_it_waits_for_workers_ends(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        running.order(drain=True)
        await asyncio.wait_for(running.task, HANGS / 2)
        assert not running.edge.servers

    run(short_folder, scenario, workers={"3": Place("*/", str(short_folder / "none.sock"), 0, is_ready=True)})


def test_sweep_ends_what_is_late(short_folder: Path) -> None:
    async def scenario(running: Running) -> None:
        reader, writer = await running.connect()
        writer.write(b"GET / HT")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")
        writer.close()
        running.order(drain=True)

    run(short_folder, scenario, header_timeout=0.05)


@pytest.mark.parametrize("limit", [1, 2])
def test_connection_above_the_limit_is_refused(short_folder: Path, limit: int) -> None:
    async def scenario(running: Running) -> None:
        opened = [await running.connect() for _ in range(limit)]
        await running.wait(lambda: len(running.edge.connections) == limit)
        reader, writer = await running.connect()
        assert await reader.read() == b""
        assert len(running.edge.connections) == limit
        for _, other in (*opened, (reader, writer)):
            other.close()
        running.order(drain=True)

    run(short_folder, scenario, max_connections=limit)


def test_certificates_that_come_later_are_served_with_what_was_offered_before() -> None:
    issued = trustme.CA().issue_cert("shop.example")
    chain, key = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    certificate = MemoryCertificate(("shop.example",), chain, key)
    tls = TlsServer.open([certificate], HTTP1_ONLY)
    edge = EdgeProcess(build_settings({"app": "m:a", "http2": "off"}), [], tls, UpstreamTrust())
    edge.use_certificates([MemoryCertificate.decode(certificate.encode())])
    assert tls.sites.offer == HTTP1_ONLY
    assert tls.is_known("shop.example")


def test_guards_that_come_later_leave_those_of_other_sites() -> None:
    issued = trustme.CA().issue_cert("shop.example")
    chain, key = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    tls = TlsServer.open([MemoryCertificate(("shop.example",), chain, key)])
    before, after, other = Guard("before", "", True), Guard("after", "", False), Guard("other", "", True)
    tls.guards = {"mine": before, "others": other}
    settings = build_settings({"app": "m:a", "cert": "shop.pem", "client_ca": "mine.pem"})
    edge = EdgeProcess(settings, [], tls, UpstreamTrust())
    assert tls.guard_of is not None
    assert tls.guard_of("shop.example") == settings.site.guard
    edge.use_guards({"mine": Guard.decode(after.encode())})
    assert tls.guards == {"mine": after, "others": other}
