"""A file that is larger than the client's window, on its way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.dispatch.exchange import Exchange
from edge.http.events import RequestHead
from edge.static.answer import Plan
from edge.static.ranges import Span
from edge.static.root import OpenFile
from edge.static.transfer import PIECE, Transfer
from edge_backend import wire
from tests.edge.dispatch.ends import MemoryClient
from tests.ends import in_loop, turn

SIZE = 3 * PIECE + 5
CONTENT = os.urandom(SIZE)
WHOLE = Plan(200, SIZE, [b"name", b"value"], [Span(0, SIZE)])


class Client(MemoryClient):
    """A client that takes what it is sent, as far as it wants."""

    def take_content(self) -> bytes:
        """Return the content of the calls since the last time."""
        pieces = [call[5] if call[0] == "response" else call[1] for call in self.take() if call[0] in KINDS]
        return b"".join(pieces)


KINDS = ("response", "data")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[OpenFile]:
    (tmp_path / "file").write_bytes(CONTENT)
    found = OpenFile(os.open(tmp_path / "file", os.O_RDWR))
    yield found
    found.release()
    with pytest.raises(OSError, match="Bad file descriptor"):  # whoever held it has let go
        os.fstat(found.descriptor)


def begin(file: OpenFile, client: MemoryClient, plan: Plan = WHOLE) -> tuple[Exchange, Transfer]:
    exchange = Exchange(client, RequestHead(1, b"GET", b"/", b"1.1", b"localhost"), b"id", b"203.0.113.7", 0.0)
    transfer = Transfer(exchange, file, plan)
    transfer.start(b"request")
    return exchange, transfer


def evict(file: OpenFile) -> None:
    """Have the system forget what it has of the file in memory, where it can."""
    os.fsync(file.descriptor)
    os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


async def wait_for(client: MemoryClient, last: str) -> list[tuple[Any, ...]]:
    """Wait until the client has been told `last`."""
    calls: list[tuple[Any, ...]] = []
    while not calls or calls[-1][0] != last:
        await asyncio.sleep(0)
        calls += client.take()
    return calls


@in_loop
async def test_file_goes_a_piece_a_turn(file: OpenFile) -> None:
    client = Client()
    begin(file, client)
    first = client.take()
    assert [(call[0], call[1], call[2], call[4]) for call in first] == [("response", 200, b"%d" % SIZE, 0)]
    calls = await wait_for(client, "finished")
    assert [call[0] for call in calls] == ["data", "data", "data", "end", "finished"]
    assert b"".join([first[0][5], *(call[1] for call in calls if call[0] == "data")]) == CONTENT


@in_loop
async def test_client_that_takes_nothing_gets_its_window_and_no_more(file: OpenFile) -> None:
    client = Client()
    client.congested = True
    client.answer_window = 100_000
    exchange, _ = begin(file, client)
    await turn(20)
    assert len(client.take_content()) == 100_000
    client.congested = False
    exchange.settle()
    assert b"".join(call[1] for call in await wait_for(client, "finished") if call[0] == "data") == CONTENT[100_000:]


@in_loop
async def test_pieces_of_several_ranges_keep_their_order(file: OpenFile) -> None:
    client = Client()
    client.answer_window = 40_000
    pieces: list[bytes | Span] = [b"h" * 50_000, Span(10, 70_000), b"t", Span(0, 5)]
    begin(file, client, Plan(206, 50_000 + 69_990 + 6, [], pieces))
    content = client.take_content()
    calls = await wait_for(client, "finished")
    content += b"".join(call[1] for call in calls if call[0] == "data")
    assert content == b"h" * 50_000 + CONTENT[10:70_000] + b"t" + CONTENT[:5]


@in_loop
async def test_client_that_leaves_ends_it(file: OpenFile) -> None:
    client = Client()
    exchange, _ = begin(file, client)
    exchange.withdraw()
    client.take()
    await turn(20)
    assert not client.calls


@in_loop
async def test_file_that_shrinks_breaks_the_answer_off(file: OpenFile) -> None:
    client = Client()
    begin(file, client)
    client.take()
    os.ftruncate(file.descriptor, PIECE + 10)
    calls = await wait_for(client, "abort")
    assert calls == [("abort", f"the file shrank: {PIECE - 10} bytes are missing")]


@in_loop
async def test_file_that_shrank_before_its_head_left_is_refused(file: OpenFile) -> None:
    client = Client()
    os.ftruncate(file.descriptor, 10)
    begin(file, client)
    assert client.take() == [("refuse", 500, f"the file shrank: {PIECE - 10} bytes are missing", ())]


@in_loop
async def test_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    folder = OpenFile(os.open(tmp_path, os.O_RDONLY))  # reading one is an error on every system
    client = Client()
    begin(folder, client)
    calls = client.take() or await wait_for(client, "refuse")
    assert calls == [("refuse", 500, "is a directory", ())]
    folder.release()


@in_loop
async def test_what_has_to_come_from_the_disk_comes_by_a_thread(file: OpenFile) -> None:
    client = Client()
    evict(file)
    if file.read_now(0, PIECE) is not None:
        pytest.skip("the file system keeps files in memory (tmpfs), or does not say so (RWF_NOWAIT)")
    evict(file)  # the question alone has made the system read ahead
    begin(file, client)
    assert not client.calls, "it was not waited for"
    calls = await wait_for(client, "finished")
    content = b"".join(call[5] if call[0] == "response" else call[1] for call in calls if call[0] in KINDS)
    assert content == CONTENT


@in_loop
async def test_client_that_leaves_while_the_disk_is_read_is_forgotten(file: OpenFile) -> None:
    client = Client()
    evict(file)
    exchange, _ = begin(file, client)
    exchange.withdraw()
    client.take()
    await asyncio.get_running_loop().shutdown_default_executor()
    await turn(20)
    assert not client.calls


@in_loop
async def test_file_that_shrinks_while_the_disk_is_read(file: OpenFile) -> None:
    client = Client()
    evict(file)
    os.ftruncate(file.descriptor, PIECE - 1)
    begin(file, client)
    calls = client.take() or await wait_for(client, "refuse")
    assert calls[0][:2] == ("refuse", 500)


@in_loop
async def test_content_of_the_request_is_dropped(file: OpenFile) -> None:
    client = Client()
    exchange, transfer = begin(file, client)
    transfer.send_content(exchange, b"content", True)
    assert transfer.number == -1
    exchange.withdraw()


def test_window_is_that_of_the_wire() -> None:
    assert PIECE <= wire.INITIAL_WINDOW
