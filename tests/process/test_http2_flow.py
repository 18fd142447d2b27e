"""Content over HTTP/2: flow control both ways, large uploads and downloads, and what they cost in memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import httpx
import pytest

from edge.http.windows import CONNECTION_WINDOW
from edge.net.untaken import UNTAKEN_ANSWERS
from edge_backend import wire
from tests.process.http2_client import APPLICATION, CANCEL, Http2Client, resident
from tests.process.server import Authority, Server, serving

MIB = 1 << 20
LARGE = 50 * MIB
# What an allocator may keep of buffers that were in use at the same time.
SLACK = 8 * MIB


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("flow"), APPLICATION, "--drain-timeout", "1", authority=authority) as server:
        with Http2Client(server, authority) as client:
            client.ask("/size", method="POST", body=bytes(MIB))
            client.ask("/large/1000000")
        yield server


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[Http2Client]:
    with Http2Client(server, authority) as client:
        yield client


def fill_up(client: Http2Client, number: int) -> int:
    """Send content until no window opens any more; return how much that was."""
    total = 0
    while sent := client.fill(number):
        total += sent
        client.pump_for(0.1)
    return total


def test_client_that_sends_all_before_it_looks_gets_an_early_answer(server: Server, authority: Authority) -> None:
    with httpx.Client(http2=True, verify=authority.client_context()) as client:
        answer = client.post(f"https://localhost:{server.port}/.edge/health", content=bytes(2 * MIB))
    assert (answer.status_code, answer.http_version) == (405, "HTTP/2")


def test_large_upload_needs_no_memory(server: Server, client: Http2Client) -> None:
    [edge] = server.edges()
    before = resident(edge)
    assert client.ask("/size", method="POST", body=bytes(LARGE)).body == b"%d" % LARGE
    grown = resident(edge) - before
    print(f"upload of {LARGE >> 20} MiB: the edge grew by {grown >> 10} KiB")
    assert grown < SLACK


def test_large_download_needs_no_memory(server: Server, client: Http2Client) -> None:
    [edge] = server.edges()
    before = resident(edge)
    number = client.begin(f"/large/{LARGE}")
    client.wait_head(number)
    total = 0
    while not client.answers[number].is_whole:
        assert client.pump()
        total += len(client.answers[number].body)
        client.answers[number].body = b""
    grown = resident(edge) - before
    print(f"download of {LARGE >> 20} MiB: the edge grew by {grown >> 10} KiB")
    assert total == LARGE
    assert grown < SLACK


def test_application_that_does_not_read_stops_its_own_stream_only(server: Server, client: Http2Client) -> None:
    slow = client.begin("/waits/slow", method="POST", end=False)
    sent = fill_up(client, slow)
    print(f"content that went out to an application that does not read: {sent} bytes")
    assert sent <= wire.INITIAL_WINDOW + CONNECTION_WINDOW
    assert client.ask("/size", method="POST", body=bytes(2 * MIB)).body == b"%d" % (2 * MIB)
    client.ask("/opens/slow")
    client.send(slow, bytes(MIB), end=True)
    assert client.wait(slow).body == b"%d" % (sent + MIB)


def test_client_that_does_not_read_stops_its_own_answer_only(client: Http2Client) -> None:
    unread = client.begin(f"/large/{LARGE}?unread")
    client.unread.add(unread)
    client.wait_head(unread)
    assert client.ask("/large/3000000").body == client.ask("/large/3000000").body
    assert [client.ask("/").body for _ in range(20)] == [b"hello"] * 20
    sent = client.ask("/calls").json()["sent"]["unread"]
    print(f"of an answer that is not read, the application sent {sent} bytes")
    assert sent <= 2 * wire.INITIAL_WINDOW + 2 * wire.MAX_DATA
    client.reset(unread)
    assert client.ask("/").body == b"hello"


def test_download_does_not_hold_small_answers_up(client: Http2Client) -> None:
    large = client.begin(f"/large/{LARGE}")
    client.wait_head(large)
    began = time.monotonic()
    assert [client.ask("/").body for _ in range(10)] == [b"hello"] * 10
    assert not client.answers[large].is_whole
    print(f"10 small answers beside a download: {time.monotonic() - began:.3f} s")
    client.reset(large)


@pytest.mark.parametrize("size", [200_000, 15_000])
def test_answers_that_nobody_reads_are_held_up_to_a_limit(server: Server, authority: Authority, size: int) -> None:
    [edge] = server.edges()
    before = resident(edge)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Http2Client(server, authority, initial_window_size=0)) for _ in range(4)]
        # One after the other: the worker is done with each before the next is asked for, but for the last ones.
        for client in clients:
            for _ in range(99):
                client.wait_head(client.begin(f"/large/{size}?held{size}"))
        grown = resident(edge) - before
        told = stack.enter_context(Http2Client(server, authority))
        sent = told.ask("/calls").json()["sent"][f"held{size}"]
        print(f"396 answers of {size} bytes that nobody reads: {sent} of them came, the edge grew by {grown >> 10} KiB")
        late = 396 - UNTAKEN_ANSWERS // 200_000
        assert sent <= UNTAKEN_ANSWERS + late * 2 * wire.MAX_DATA < 396 * 200_000
        assert grown < UNTAKEN_ANSWERS + SLACK


def test_uploads_that_are_given_up_take_no_window_with_them(client: Http2Client) -> None:
    for _ in range(20):
        number = client.begin("/waits/never", method="POST", end=False)
        sent = 0
        while sent <= wire.INITIAL_WINDOW + 32768:  # more than goes to the application
            more = client.fill(number)
            assert more or client.pump()
            sent += more
        client.reset(number, CANCEL)
    assert client.ask("/size", method="POST", body=bytes(2 * MIB)).body == b"%d" % (2 * MIB)
