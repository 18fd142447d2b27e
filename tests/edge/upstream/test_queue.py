"""Requests of an upstream that wait for a connection, and what becomes of connections that end meanwhile."""

from __future__ import annotations

import asyncio
import socket

from tests.edge.dispatch.ends import MemoryClient
from tests.edge.upstream.ends import OK, MakeCase, Servers, until, with_servers
from tests.edge.upstream.test_failures import free_port


@with_servers
async def test_requests_that_wait_get_their_turn_when_no_connection_comes_about(
    servers: Servers, case: MakeCase
) -> None:
    of = case(await free_port(), max_connections=1)
    clients = [MemoryClient() for _ in range(3)]
    for client in clients:
        of.submit(client=client)
    await until(lambda: all(client.calls for client in clients))
    assert [client.calls[0][:2] for client in clients] == [("refuse", 502)] * 3
    assert of.row() == {"up": False, "requests": 0, "in_flight": 0, "connections": 0}


@with_servers
async def test_place_of_a_client_that_has_left_the_queue_is_free(servers: Servers, case: MakeCase) -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await servers.read_head(reader)
            await gate.wait()
            writer.write(OK)

    of = case(await servers.add(slow), max_connections=1, queue=2)
    of.submit()
    waits = MemoryClient()
    of.submit(client=waits)
    for _ in range(5):
        of.submit().withdraw()
    assert of.upstream.queued == 1
    gate.set()
    await until(lambda: ("finished",) in waits.calls)
    assert len(servers.heads) == 2


@with_servers
async def test_without_a_queue_requests_are_served_as_long_as_there_may_be_connections(
    servers: Servers, case: MakeCase
) -> None:
    of = case(await servers.add(servers.answering(OK)), queue=0)
    assert await of.get() == (200, b"ok")


@with_servers
async def test_server_that_does_not_take_connections_holds_up_nobody_elses(servers: Servers, case: MakeCase) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # fills its backlog: who comes now waits
            addresses = [await servers.add(servers.answering(OK)), f"http://127.0.0.1:{port}"]
            of = case(*addresses, max_connections=2, connect_timeout=60.0)
            clients = [MemoryClient() for _ in range(12)]
            for client in clients:
                of.submit(client=client)
            # Two of them wait for the deaf one; all the others are served.
            await until(lambda: sum(("finished",) in client.calls for client in clients) == 10)
            assert of.upstream.queued == 0


@with_servers
async def test_connection_that_is_closing_gets_no_request(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(OK)), keepalive_timeout=4.0)
    assert await of.get() == (200, b"ok")
    of.upstream.sweep(float("inf"))  # unused for too long: it ends in the next turn
    of.submit(b"POST")
    assert [call[0] for call in await of.wait(2)] == ["response", "finished"]
    assert servers.connections == [2]
