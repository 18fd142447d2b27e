"""How HTTP/2 connections end: in two steps, with every request that came before the second one answered."""

from __future__ import annotations

import contextlib
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpack import Decoder, Encoder

from tests.process.http2_client import (
    APPLICATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    Attacker,
    frame,
)
from tests.process.server import DEADLINE, Authority, Server, serving, wait_until

FOREVER = 2**31 - 1


class Peer(Attacker):
    """A connection that goes on sending after GOAWAY, as a client does that has not read it yet."""

    def __init__(self, server: Server, authority: Authority) -> None:
        super().__init__(server, authority)
        self._encoder = Encoder()

    def begin(self, number: int, path: str, method: str = "GET") -> None:
        """Send a request."""
        fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self.sock.sendall(frame(HEADERS, END_HEADERS | END_STREAM, number, self._encoder.encode(fields)))

    def statuses(self) -> dict[int, int]:
        """The status of each answer."""
        decoder = Decoder()
        heads = [(stream, dict(decoder.decode(payload, raw=True))) for _, stream, payload in self.of_kind(HEADERS)]
        return {stream: int(head[b":status"]) for stream, head in heads}

    def whole(self) -> set[int]:
        """The streams whose answers have ended."""
        return {stream for flags, stream, _ in self.of_kind(DATA) if flags & END_STREAM}

    def wait_whole(self, *streams: int) -> None:
        """Wait for the ends of answers."""
        deadline = time.monotonic() + DEADLINE
        while not self.whole() >= set(streams):
            assert time.monotonic() < deadline, f"{self.whole()} of {streams}"
            self.look(0.1)

    def goaways(self) -> list[tuple[int, int]]:
        """Last stream and code of each GOAWAY."""
        return [struct.unpack("!II", payload[:8]) for payload in self.goaway]

    def wait_closed(self) -> None:
        """Wait for the end of the connection."""
        deadline = time.monotonic() + DEADLINE
        while not self.is_closed:
            assert time.monotonic() < deadline, "the connection is still open"
            self.look(0.1)
        self.sock.close()


@contextlib.contextmanager
def meeting(folder: Path, authority: Authority, *arguments: str) -> Iterator[tuple[Server, Peer]]:
    with serving(folder, APPLICATION, *arguments, authority=authority) as server, Peer(server, authority) as peer:
        yield server, peer


def test_drain_in_two_steps_loses_no_request(tmp_path: Path, authority: Authority) -> None:
    with meeting(tmp_path, authority) as (server, peer):
        before = range(1, 100, 2)
        for number in before:
            peer.begin(number, "/waits/key")
        peer.begin(101, "/")
        peer.wait_whole(101)
        server.process.send_signal(signal.SIGTERM)
        peer.wait_for(GOAWAY, 1)
        between = range(103, 121, 2)
        for number in between:
            peer.begin(number, "/")
        peer.wait_for(GOAWAY, 2)
        assert peer.goaways() == [(FOREVER, NO_ERROR), (119, NO_ERROR)]
        peer.begin(121, "/")  # too late: nobody answers it, and nothing comes of it
        peer.wait_whole(*between)
        assert not peer.whole() & set(before)
        peer.sock.sendall(frame(PING, payload=bytes(8)))
        peer.wait_for(PING, 1)  # the connection lives on for what runs
        (tmp_path / "go").write_text("")
        peer.wait_whole(*before)
        assert set(peer.statuses().values()) == {200}
        assert 121 not in peer.statuses()
        peer.wait_closed()
        assert server.wait_end() == 0


def test_what_outlasts_the_drain_gets_503_or_a_reset(tmp_path: Path, authority: Authority) -> None:
    with meeting(tmp_path, authority, "--drain-timeout", "1") as (server, peer):
        peer.begin(1, "/waits/key")
        peer.begin(3, "/raises/key")
        peer.wait_for(DATA, 1)  # the second answer has begun
        server.process.send_signal(signal.SIGTERM)
        peer.wait_closed()
        assert peer.statuses() == {1: 503, 3: 200}
        assert peer.resets(INTERNAL_ERROR) == [3]
        server.wait_end()


def test_connection_ends_after_so_many_requests(tmp_path: Path, authority: Authority) -> None:
    with meeting(tmp_path, authority, "--keepalive-requests", "5") as (_, peer):
        for number in (1, 3, 5, 7):
            peer.begin(number, "/")
        peer.wait_whole(1, 3, 5, 7)
        assert peer.goaways() == []
        peer.begin(9, "/")
        peer.wait_for(GOAWAY, 1)
        assert peer.whole() >= {9}, "told before the answers that are under way"
        peer.begin(11, "/")  # was under way
        peer.wait_whole(9, 11)
        peer.wait_closed()
        assert peer.goaways() == [(FOREVER, NO_ERROR), (11, NO_ERROR)]
        assert set(peer.statuses().values()) == {200}


def test_idle_connection_ends_with_goaway(tmp_path: Path, authority: Authority) -> None:
    with meeting(tmp_path, authority, "--keepalive-timeout", "1") as (_, peer):
        peer.begin(1, "/")
        peer.wait_whole(1)
        peer.wait_closed()
        assert peer.goaways() == [(1, NO_ERROR)]


def test_client_that_never_ends_its_head_is_closed(tmp_path: Path, authority: Authority) -> None:
    with meeting(tmp_path, authority, "--header-timeout", "1") as (_, peer):
        peer.sock.sendall(frame(HEADERS, END_STREAM, 1, b"\x82"))
        peer.wait_closed()
        assert peer.goaways() == [(0, NO_ERROR)]


@pytest.mark.parametrize("count", [1, 20])
def test_reload_loses_no_request(tmp_path: Path, authority: Authority, count: int) -> None:
    with meeting(tmp_path, authority) as (server, peer):
        numbers = range(1, 2 * count, 2)
        workers = server.workers()
        for number in numbers:
            peer.begin(number, "/waits/key")
        peer.begin(999, "/")
        peer.wait_whole(999)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: set(server.workers()) - set(workers), "new workers")
        (tmp_path / "go").write_text("")
        peer.wait_whole(*numbers)
        assert set(peer.statuses().values()) == {200}
