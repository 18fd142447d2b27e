"""What happens when a server of an upstream does not do its part, or a client leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from edge.dispatch.target import Overloaded
from tests.edge.dispatch.ends import MemoryClient
from tests.edge.upstream.ends import OK, MakeCase, Servers, until, with_servers
from tests.ends import turn


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def free_port() -> str:
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    return f"http://127.0.0.1:{port}"


@with_servers
async def test_request_that_was_not_sent_goes_to_another_whatever_its_method(servers: Servers, case: MakeCase) -> None:
    of = case(await free_port(), await servers.add(servers.answering(OK)))
    for _ in range(2):
        of.submit(b"POST")
        assert [call[0] for call in await of.wait(2)] == ["response", "finished"]


@with_servers
async def test_request_without_any_server_is_refused(servers: Servers, case: MakeCase) -> None:
    of = case(await free_port())
    name, status, reason = await of.get()
    assert (name, status, "cannot connect" in reason) == ("refuse", 502, True)
    assert of.row() == {"up": True, "requests": 0, "in_flight": 0, "connections": 0}


@pytest.mark.parametrize(
    ("method", "answer"),
    [(b"GET", ("response", 200)), (b"POST", ("refuse", 502, "the upstream closed the connection before it answered"))],
)
@with_servers
async def test_request_that_was_sent_goes_to_another_only_if_it_is_idempotent(
    servers: Servers, case: MakeCase, method: bytes, answer: tuple[object, ...]
) -> None:
    of = case(await servers.add(hang_up), await servers.add(servers.answering(OK)))
    of.submit(method)
    assert (await of.wait(1))[0][: len(answer)] == answer


@with_servers
async def test_nothing_is_sent_twice_where_that_is_not_wanted(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(hang_up), await servers.add(servers.answering(OK)), retry="none")
    assert await of.get() == ("refuse", 502, "the upstream closed the connection before it answered")


@with_servers
async def test_connection_that_the_server_closed_as_unused_costs_nothing(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(OK, times=1)), max_fails=1)
    # The server hangs up after each answer, without a word: sometimes the next request is on its way already.
    assert [await of.get() for _ in range(5)] == [(200, b"ok")] * 5
    assert of.row()["up"]


@with_servers
async def test_server_that_fails_gets_nothing_for_a_while(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(hang_up), await servers.add(servers.answering(OK)), max_fails=2, fail_timeout=60.0)
    assert [await of.get() for _ in range(8)] == [(200, b"ok")] * 8
    assert servers.connections == [2, 1]
    assert not of.row()["up"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "more than the length"),
    ],
)
@with_servers
async def test_what_is_no_answer_is_a_502(servers: Servers, case: MakeCase, answer: bytes, reason: str) -> None:
    of = case(await servers.add(servers.answering(answer)))
    name, status, why = await of.get()
    assert (name, status, reason in why) == ("refuse", 502, True)


@with_servers
async def test_answer_that_breaks_off_is_broken_off(servers: Servers, case: MakeCase) -> None:
    part = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"
    of = case(await servers.add(servers.answering(part, times=1)))
    of.submit()
    assert (await of.wait(2))[1] == ("abort", "the upstream closed the connection within its answer")


@with_servers
async def test_answer_without_a_length_ends_with_the_connection(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(b"HTTP/1.0 200 OK\r\n\r\nhello", times=1)))
    of.submit()
    calls = await of.wait(3)
    assert calls[0][5] + b"".join(call[1] for call in calls[1:] if call[0] == "data") == b"hello"
    assert calls[-1] == ("finished",)


@with_servers
async def test_word_that_nobody_asked_for_ends_the_connection(servers: Servers, case: MakeCase) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        writer.write(OK)
        await until(lambda: of.row()["in_flight"] == 0)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert await reader.read() == b""

    of = case(await servers.add(talk))
    assert await of.get() == (200, b"ok")
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_server_that_does_not_answer_in_time_is_a_504(servers: Servers, case: MakeCase) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        await reader.read()

    of = case(await servers.add(wait), response_timeout=60.0)
    of.submit()
    await until(lambda: servers.heads)
    of.upstream.sweep(monotonic() + 50.0)
    assert of.client.calls == []
    of.upstream.sweep(monotonic() + 61.0)
    assert of.client.take() == [("refuse", 504, "no answer of the upstream within 60 s", ())]
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_server_that_takes_nothing_of_an_upload_is_a_504(
    servers: Servers, case: MakeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket must be short
    proceed = asyncio.Event()

    async def read_little(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        await proceed.wait()

    of = case(await servers.add(read_little, path="x"), response_timeout=5.0)
    item = of.submit(b"POST", length=10**9, complete=False)
    for _ in range(32):  # 2 MiB: more than the sockets and the reader's buffer hold
        item.feed(b"x" * 65536, False)
        await turn()
    of.upstream.sweep(monotonic() + 4)
    assert not [call for call in of.client.calls if call[0] == "refuse"]
    of.upstream.sweep(monotonic() + 6)
    [refusal] = [call for call in of.client.calls if call[0] == "refuse"]
    assert refusal[1:3] == (504, "the upstream takes nothing of the request within 5 s")
    await until(lambda: of.row()["connections"] == 0)
    proceed.set()


@with_servers
async def test_answer_that_stops_is_broken_off_in_time(servers: Servers, case: MakeCase) -> None:
    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await reader.read()

    of = case(await servers.add(stop), idle_timeout=60.0)
    of.submit()
    await of.wait(1)
    of.upstream.sweep(monotonic() + 61.0)
    assert of.client.take()[-1] == ("abort", "nothing more of the upstream's answer within 60 s")


@with_servers
async def test_client_that_leaves_ends_its_connection(servers: Servers, case: MakeCase) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        await reader.read()
        ended.set()

    of = case(await servers.add(wait))
    item = of.submit()
    await until(lambda: servers.heads)
    item.withdraw()
    await ended.wait()
    assert of.client.calls == []


@with_servers
async def test_client_that_leaves_before_there_is_a_connection_costs_no_request(
    servers: Servers, case: MakeCase
) -> None:
    of = case(await servers.add(servers.answering(OK)))
    of.submit().withdraw()
    await until(lambda: of.row()["connections"] == 1 and servers.connections == [1])
    assert await of.get() == (200, b"ok")
    assert len(servers.heads) == 1


@with_servers
async def test_requests_beyond_the_connections_wait_their_turn(servers: Servers, case: MakeCase) -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await servers.read_head(reader)
            await gate.wait()
            writer.write(OK)

    of = case(await servers.add(slow), max_connections=1, queue=2)
    clients = [MemoryClient() for _ in range(4)]
    items = [of.submit(client=client) for client in clients[:3]]
    with pytest.raises(Overloaded, match="queue full: 2 requests wait for test"):
        of.submit(client=clients[3])
    items[1].withdraw()
    of.upstream.sweep(monotonic() + 6.0)
    assert clients[2].take() == [("refuse", 503, "no worker had room in time", ((b"retry-after", b"1"),))]
    of.submit(client=clients[3])
    gate.set()
    for client in (clients[0], clients[3]):
        await until(lambda: ("finished",) in client.calls)  # noqa: B023
    assert servers.connections == [1]
    assert of.upstream.queued == 0


@with_servers
async def test_server_that_fails_its_check_gets_nothing_until_it_is_well(servers: Servers, case: MakeCase) -> None:
    is_well = [False]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await servers.read_head(reader)
        good = is_well[0] or not head.startswith(b"GET /health")
        writer.write(OK if good else b"HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n")

    of = case(await servers.add(answer), health_path="/health", health_interval=0.01)
    await until(lambda: not of.row()["up"])
    with pytest.raises(Overloaded, match="upstream test: no server is up"):
        of.submit()
    is_well[0] = True
    await until(lambda: of.row()["up"])
    assert await of.get() == (200, b"ok")


@pytest.mark.parametrize("word", [b"", b"x" * 100_000])
@with_servers
async def test_check_that_gets_no_answer_has_failed(servers: Servers, case: MakeCase, word: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        writer.write(word)

    of = case(await servers.add(say), health_path="/", health_interval=60.0)
    await until(lambda: not of.row()["up"])
