"""What attacks on HTTP/2 cost: each ends its own connection or stream, while an honest client is served."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hpack import Encoder

from edge.http.flood import MAX_ERRORS, NOISE
from edge.http.http2 import MAX_HEADS, MAX_REPLIES
from edge.net.stream import LINGER_SIZE
from edge_backend import wire
from tests.process.http2_client import (
    ACK,
    APPLICATION,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEADERS,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Attacker,
    Http2Client,
    frame,
    resident,
    used_cpu,
)
from tests.process.server import Authority, Server, serving, wait_until

MIB = 1 << 20
STREAMS = 100
# What an attack may cost at the very most, on any machine.
MOST_CPU = 5.0
MOST_MEMORY = 16 * MIB
# An attacker that sends more than is read behind the end gets a reset in place of GOAWAY.
MOST_BYTES = LINGER_SIZE * 3 // 4


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ["--write-stall-timeout", "1", "--drain-timeout", "1", "--worker-concurrency", "1000"]
    with serving(tmp_path_factory.mktemp("attacks"), APPLICATION, *options, authority=authority) as server:
        with Http2Client(server, authority) as client:
            client.ask("/size", method="POST", body=bytes(MIB))
        yield server


class Siege:
    """An attack, and an honest client beside it on a connection of its own."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self._server = server
        self._authority = authority
        [self._edge] = server.edges()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._be_honest)
        self._failure: BaseException | None = None
        self.most_memory = MOST_MEMORY
        self.served = 0
        self.slowest = 0.0
        self.calls: dict[str, int] = {}

    def __enter__(self) -> Siege:
        self.calls = self._calls()
        self._memory, self._cpu = resident(self._edge), used_cpu(self._edge)
        self._thread.start()
        wait_until(lambda: self.served, "the honest client is served")
        return self

    def __exit__(self, *exc_info: object) -> None:
        served = self.served
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self._failure or self.served > served, "the honest client is served after the attack")
        self._is_over.set()
        self._thread.join()
        if exc_info[0] is None:
            self._judge(served)

    def _judge(self, served: int) -> None:
        assert self._failure is None, repr(self._failure)
        assert self.served > served
        cpu, memory = used_cpu(self._edge) - self._cpu, resident(self._edge) - self._memory
        print(
            f"\nedge: {cpu:.2f} s of CPU, {memory >> 10} KiB more; "
            f"honest client: {self.served} answers, the slowest in {self.slowest * 1000:.0f} ms"
        )
        assert cpu < MOST_CPU
        assert memory < self.most_memory

    def called(self, name: str) -> int:
        """Return how often a part of the application was called since the attack began."""
        return self._calls().get(name, 0) - self.calls.get(name, 0)

    def _calls(self) -> dict[str, int]:
        with Http2Client(self._server, self._authority) as client:
            calls: dict[str, int] = client.ask("/calls").json()["calls"]
        return calls

    def _be_honest(self) -> None:
        try:
            with Http2Client(self._server, self._authority) as client:
                while not self._is_over.is_set():
                    began = time.monotonic()
                    assert client.ask("/").body == b"hello"
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.served += 1
        except BaseException as error:
            self._failure = error


@pytest.fixture
def siege(server: Server, authority: Authority) -> Iterator[Siege]:
    with Siege(server, authority) as siege:
        yield siege


@pytest.fixture
def attacker(siege: Siege, server: Server, authority: Authority) -> Iterator[Attacker]:
    with Attacker(server, authority) as attacker:
        yield attacker


def settings(name: int, value: int) -> bytes:
    return struct.pack("!HI", name, value)


def block(
    path: str = "/waits/never", method: str = "GET", *more: tuple[str, str], encoder: Encoder | None = None
) -> bytes:
    """Return the head of a request; without `encoder`, one that needs no table."""
    fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path), *more]
    if encoder is not None:
        return encoder.encode(fields)
    coded = Encoder()
    coded.header_table_size = 0
    return coded.encode(fields)


BLOCK = block()


def head(stream: int, flags: int = END_STREAM, payload: bytes = BLOCK) -> bytes:
    return frame(HEADERS, flags | END_HEADERS, stream, payload)


def test_rapid_reset_ends_in_goaway_and_the_worker_runs_no_more_than_its_share(
    siege: Siege, attacker: Attacker
) -> None:
    reset = struct.pack("!I", CANCEL)
    pairs = [head(number) + frame(RST_STREAM, 0, number, reset) for number in range(1, 4000, 2)]
    attacker.send(b"".join(pairs))
    code, reason = attacker.wait_goaway()
    assert code == ENHANCE_YOUR_CALM, reason
    called = siege.called("waits")
    print(f"of 2000 requests that were reset, the application ran {called}")
    assert called <= STREAMS


@pytest.mark.parametrize(
    ("vector", "code"),
    [
        pytest.param(lambda number: frame(WINDOW_UPDATE, 0, number, bytes(4)), PROTOCOL_ERROR, id="increment-of-0"),
        pytest.param(
            lambda number: frame(WINDOW_UPDATE, 0, number, b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR, id="overflow"
        ),
        pytest.param(lambda number: frame(PRIORITY, 0, number, bytes(4)), FRAME_SIZE_ERROR, id="priority-size"),
        pytest.param(head, STREAM_CLOSED, id="headers-behind-the-end"),
        pytest.param(lambda number: frame(DATA, 0, number, b"a"), STREAM_CLOSED, id="data-behind-the-end"),
        pytest.param(lambda number: frame(RST_STREAM, 0, number, b"abc"), FRAME_SIZE_ERROR, id="reset-size"),
    ],
)
def test_made_you_reset_ends_the_connection_at_its_first_frame(
    siege: Siege, attacker: Attacker, vector: Callable[[int], bytes], code: int
) -> None:
    attacker.send(b"".join([head(number) + vector(number) for number in range(1, 2000, 2)]))
    assert attacker.wait_goaway()[0] == code
    assert list(attacker.of_kind(RST_STREAM)) == []
    assert siege.called("waits") <= 1


def test_priority_of_a_stream_on_itself_resets_nothing(siege: Siege, attacker: Attacker) -> None:
    # The sixth way to be made to reset: RFC 9113 has no priorities any more, and so nothing to be wrong about.
    pairs = [
        head(number, payload=block("/")) + frame(PRIORITY, 0, number, struct.pack("!IB", number, 1))
        for number in range(1, 100, 2)
    ]
    attacker.send(b"".join(pairs))
    attacker.wait_for(HEADERS, 50)
    assert list(attacker.of_kind(RST_STREAM)) == []


def test_malformed_requests_end_in_goaway(siege: Siege, attacker: Attacker) -> None:
    # What is wrong with a request alone does reset its stream, for as often as an honest program has bugs.
    wrong = block("/", "GET", ("connection", "close"))
    attacker.send(b"".join([head(number, payload=wrong) for number in range(1, 1000, 2)]))
    code, reason = attacker.wait_goaway()
    assert (code, reason[:27]) == (ENHANCE_YOUR_CALM, "too many malformed requests")
    answered = [flags for flags, _, _ in attacker.of_kind(HEADERS)]
    assert len(answered) <= MAX_ERRORS + 3


@pytest.mark.parametrize("size", [0, 1, 16_000])
def test_continuation_flood_ends_in_goaway(siege: Siege, attacker: Attacker, size: int) -> None:
    attacker.send(frame(HEADERS, END_STREAM, 1, BLOCK))
    piece = frame(CONTINUATION, 0, 1, bytes(size))
    for _ in range(MOST_BYTES // len(piece)):
        attacker.send(piece)
    code, reason = attacker.wait_goaway()
    assert (code, reason[:6]) == (ENHANCE_YOUR_CALM, "a head")
    assert siege.called("waits") == 0


def bomb(encoder: Encoder) -> bytes:
    """Return a head of some 100 bytes that becomes almost 32 KiB: the same field of the table, again and again."""
    return block("/large/1000", "GET", *[("x-bomb", "b" * 250)] * 95, encoder=encoder)


def test_hpack_bomb_that_is_held_with_a_closed_window_is_bounded(
    siege: Siege, server: Server, authority: Authority
) -> None:
    with contextlib.ExitStack() as held:
        sent = 0
        for _ in range(5):
            attacker = held.enter_context(Attacker(server, authority, settings(4, 0)))
            encoder = Encoder()
            data = b"".join([head(number, payload=bomb(encoder)) for number in range(1, 2 * STREAMS, 2)])
            sent += len(data)
            attacker.send(data)
            # Answers are held back by the window; what does not fit into the memory for heads is refused.
            attacker.wait_for(HEADERS, 11)
            attacker.send(b"".join([frame(WINDOW_UPDATE, 0, 1, struct.pack("!I", 1))] * 5))
            attacker.look(0.1)
            taken, refused = len([*attacker.of_kind(HEADERS)]), len(attacker.resets(REFUSED_STREAM))
            print(f"of {STREAMS} heads {taken} were taken, {refused} refused; GOAWAY: {bool(attacker.goaway)}")
            assert refused
            assert taken * 95 * (6 + 250 + 32) <= MAX_HEADS
    print(f"{sent} bytes were sent on 5 connections")


def test_head_of_too_many_fields_is_a_431_and_ends_nothing_else(siege: Siege, attacker: Attacker) -> None:
    encoder = Encoder()
    many = block("/", "GET", *[("x-bomb", "b")] * 4000, encoder=encoder)
    attacker.send(head(1, payload=many) + head(3, payload=block("/", encoder=encoder)))
    attacker.wait_for(DATA, 2)
    ends = {stream: payload[:3] for flags, stream, payload in attacker.of_kind(DATA)}
    assert ends == {1: b"431", 3: b"hel"}


FLOODS = {
    "settings": frame(SETTINGS, payload=settings(3, 100)),
    "settings-of-nothing": frame(SETTINGS),
    "settings-acknowledged": frame(SETTINGS, ACK),
    "ping": frame(PING, payload=bytes(8)),
    "ping-acknowledged": frame(PING, ACK, payload=bytes(8)),
    "priority": frame(PRIORITY, 0, 1, bytes(5)),
    "priority-update": frame(16, 0, 0, struct.pack("!I", 1) + b"u=1"),
    "empty-data": frame(DATA, 0, 1),
    "padding-alone": frame(DATA, 8, 1, bytes((9,)) + bytes(9)),
    "window-of-one": frame(WINDOW_UPDATE, 0, 1, struct.pack("!I", 1)),
    "connection-window-of-one": frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 1)),
    "unknown": frame(0xBE, 0, 1, b"grease"),
    "reset-of-what-is-over": frame(RST_STREAM, 0, 1, struct.pack("!I", CANCEL)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood_of_frames_that_bring_nothing_on_ends_in_goaway(siege: Siege, attacker: Attacker, name: str) -> None:
    piece = FLOODS[name]
    attacker.send(head(1, 0, block("/waits/never", "POST")))
    began, sent = time.monotonic(), 0
    # Fifty at a time, as replies may be no more than a hundred at once: it is the sum that counts.
    while attacker.send(piece * 50) and sent * len(piece) < MOST_BYTES:
        sent += 50
    code, reason = attacker.wait_goaway()
    print(f"{name}: {sent} frames in {time.monotonic() - began:.2f} s, then: {reason}")
    assert code == ENHANCE_YOUR_CALM
    assert siege.called("waits") == 1


def test_pings_whose_answers_nobody_takes_do_not_gather(siege: Siege, attacker: Attacker) -> None:
    ping = frame(PING, payload=bytes(8))
    with contextlib.suppress(OSError):
        attacker.sock.sendall(ping * (MOST_BYTES // len(ping)))
    assert attacker.wait_goaway()[0] == ENHANCE_YOUR_CALM
    assert len([*attacker.of_kind(PING)]) <= NOISE + MAX_REPLIES


@pytest.mark.parametrize("drip", [0, 1], ids=["zero-window", "one-byte-windows"])
def test_answers_whose_client_takes_next_to_nothing_are_ended(
    siege: Siege, server: Server, authority: Authority, drip: int
) -> None:
    # Each answer may have so much at the edge, which frees the worker; all connections together have a bound as well.
    siege.most_memory += STREAMS * wire.INITIAL_WINDOW
    with Attacker(server, authority, settings(4, 0)) as attacker:
        numbers = range(1, 2 * STREAMS, 2)
        attacker.send(b"".join([head(number, payload=block("/large/1000000")) for number in numbers]))
        update = frame(WINDOW_UPDATE, 0, 1, struct.pack("!I", drip)) if drip else b""

        def ended() -> bool:
            attacker.send(update)
            attacker.look(0.1)
            return len([*attacker.of_kind(RST_STREAM)]) == STREAMS

        began = time.monotonic()
        wait_until(ended, "all answers are ended")
        print(f"{STREAMS} answers that nobody takes were ended in {time.monotonic() - began:.1f} s")
        assert attacker.goaway == []
    assert siege.called("large") == STREAMS


def test_client_that_does_not_read_its_socket_is_closed(siege: Siege, server: Server, authority: Authority) -> None:
    with Attacker(server, authority, settings(4, 2**31 - 1)) as attacker:
        attacker.send(frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 2**30)))
        attacker.sock.sendall(b"".join([head(number, payload=block("/large/50000000")) for number in (1, 3, 5, 7)]))
        path = "/large/50000000"
        wait_until(lambda: len(lines_of(server, path)) == 4, "it is closed")
    assert {line["error"] for line in lines_of(server, path)} == {"the client left"}
    assert sum(line["bytes_out"] for line in lines_of(server, path)) < 16 * MIB  # most of it is with the kernel


def lines_of(server: Server, target: str) -> list[dict[str, Any]]:
    return [line for line in server.access_lines() if line["target"] == target]


def test_more_streams_than_announced_are_refused_and_then_the_connection(siege: Siege, attacker: Attacker) -> None:
    attacker.send(b"".join([head(number) for number in range(1, 2 * (STREAMS + MAX_ERRORS + 10), 2)]))
    code, reason = attacker.wait_goaway()
    assert (code, reason) == (ENHANCE_YOUR_CALM, "requests beyond what was announced")
    assert len(attacker.resets(REFUSED_STREAM)) == MAX_ERRORS
    assert siege.called("waits") == STREAMS
