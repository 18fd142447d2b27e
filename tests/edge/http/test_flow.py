"""What leaves on an HTTP/2 connection: fair turns, both windows, ends, large heads."""

from __future__ import annotations

from itertools import groupby

import pytest

from edge.http import frames
from edge.http.field import FieldMemory
from edge.http.flow import LOW_WATER, Sender, Stream
from edge.http.frames import Code
from edge.http.hpack import HeadEncoder
from edge.http.huffman import best_huffman
from tests.edge.http.peer2 import Frame, split_frames

MIB = 1024 * 1024


class Connection:
    """A sender and the table of its streams."""

    def __init__(self, window: int = 16 * MIB) -> None:
        self.streams: dict[int, Stream] = {}
        self.sender = Sender(HeadEncoder(FieldMemory(best_huffman())), self.streams)
        self.sender.window = window

    def open(self, number: int, window: int = 16 * MIB, *, ended_in: bool = True) -> Stream:
        """Return a new stream."""
        stream = self.streams[number] = Stream(number, window)
        stream.ended_in = ended_in
        return stream

    def take(self, limit: int = 1 << 30) -> list[Frame]:
        """Take what may be written."""
        return list(split_frames(self.sender.take(limit)))


def test_a_small_answer_waits_for_no_large_one() -> None:
    """It was complete before the first frame of the large ones left, and goes first."""
    connection = Connection()
    for number in (1, 3):
        connection.sender.content(connection.open(number), bytes(MIB), end=True)
    small = connection.open(5)
    connection.sender.head(small, b"\x88", end=False)
    connection.sender.content(small, b"small", end=True)
    order = [(frame.stream, frame.kind) for frame in connection.take()]
    assert order[:2] == [(5, frames.HEADERS), (5, frames.DATA)]


def test_a_small_answer_between_large_ones_waits_for_one_frame_of_each() -> None:
    connection = Connection()
    large = (1, 3, 5)
    for number in large:
        connection.sender.content(connection.open(number), bytes(MIB), end=True)
    before = connection.take(64 * 1024)
    small = connection.open(7)
    connection.sender.content(small, bytes(20_000), end=True)  # more than a frame: it takes turns
    after = [frame.stream for frame in connection.take()]
    first, last = [place for place, stream in enumerate(after) if stream == 7]
    assert first <= len(large)
    assert last - first <= len(large) + 1
    assert len(before) == 4


def test_streams_take_turns_frame_by_frame() -> None:
    connection = Connection()
    for number in (1, 3, 5, 7):
        connection.sender.content(connection.open(number), bytes(MIB), end=True)
    order = [frame.stream for frame in connection.take()]
    assert len(order) == 4 * 64
    assert all(len(list(run)) == 1 for _, run in groupby(order))
    assert order == [1, 3, 5, 7] * 64


def test_a_stream_whose_window_is_shut_holds_up_no_other() -> None:
    connection = Connection()
    connection.sender.content(connection.open(1, window=10_000), bytes(MIB), end=True)
    connection.sender.content(connection.open(3), bytes(MIB), end=True)
    sizes = {1: 0, 3: 0}
    for frame in connection.take():
        sizes[frame.stream] += len(frame.payload)
    assert sizes == {1: 10_000, 3: MIB}
    assert not connection.sender.has_output
    connection.sender.widen(connection.streams[1], 5)
    assert connection.sender.has_output
    assert [len(frame.payload) for frame in connection.take()] == [5]


def test_the_connections_window_is_never_overdrawn() -> None:
    connection = Connection(window=50_000)
    for number in (1, 3):
        connection.sender.content(connection.open(number), bytes(MIB), end=True)
    assert sum(len(frame.payload) for frame in connection.take()) == 50_000
    assert not connection.sender.has_output
    connection.sender.window += 7
    assert connection.sender.has_output
    assert sum(len(frame.payload) for frame in connection.take()) == 7
    assert connection.sender.sent == 50_007
    assert connection.sender.waiting == 2 * MIB - 50_007


def test_a_piece_is_about_as_large_as_asked_for() -> None:
    connection = Connection()
    connection.sender.content(connection.open(1), bytes(MIB), end=True)
    assert len(connection.take(40_000)) == 3


def test_pieces_of_content_are_joined_and_cut_in_order() -> None:
    connection = Connection(window=0)
    stream = connection.open(1)
    content = bytes(range(256)) * 400
    for start in range(0, len(content), 1000):
        connection.sender.content(stream, content[start : start + 1000], end=False)
    connection.sender.end(stream, [])
    got = b""
    for increment in (1, 999, 1, 16_384, 30_000, MIB):
        connection.sender.window += increment
        taken = connection.take()
        got += b"".join(frame.payload for frame in taken)
    assert got == content
    assert taken[-1].flags == frames.END_STREAM
    assert connection.streams == {}


def test_more_is_asked_for_before_a_stream_runs_dry() -> None:
    connection = Connection()
    stream = connection.open(1)
    connection.sender.content(stream, bytes(4 * LOW_WATER), end=False)
    connection.take(2 * LOW_WATER)
    assert connection.sender.drained == []
    connection.take(LOW_WATER)
    assert connection.sender.drained == [1]


def test_an_empty_piece_is_no_frame() -> None:
    connection = Connection()
    connection.sender.content(connection.open(1), b"", end=False)
    assert connection.take() == []


@pytest.mark.parametrize("waits", [False, True])
def test_trailers_come_behind_the_content(waits: bool) -> None:
    connection = Connection()
    stream = connection.open(1, window=0 if waits else 100)
    connection.sender.content(stream, b"content", end=False)
    connection.sender.end(stream, [b"checksum", b"1"])
    connection.sender.widen(stream, 100)
    content, trailers = connection.take()
    assert (content.kind, content.flags) == (frames.DATA, 0)
    assert (trailers.kind, trailers.flags) == (frames.HEADERS, frames.END_STREAM | frames.END_HEADERS)


def test_an_end_while_the_window_is_below_zero() -> None:
    connection = Connection()
    stream = connection.open(1, window=10)
    connection.sender.widen(stream, -50)
    connection.sender.end(stream, [])
    (frame,) = connection.take()
    assert (frame.kind, frame.flags, frame.payload) == (frames.DATA, frames.END_STREAM, b"")


@pytest.mark.parametrize("waits", [False, True])
def test_an_answer_before_the_end_of_the_request_resets_the_rest(waits: bool) -> None:
    connection = Connection()
    stream = connection.open(1, window=5, ended_in=False)
    connection.sender.content(stream, b"x" * (10 if waits else 5), end=True)
    connection.sender.widen(stream, 5)
    assert connection.take()[-1].flags == frames.END_STREAM
    connection.sender.end_late()
    assert connection.take() == []
    connection.sender.end_late()
    [reset] = connection.take()
    assert (reset.kind, reset.payload[-1]) == (frames.RST_STREAM, Code.NO_ERROR)
    assert 1 in connection.sender.reset_here


def test_content_waits_while_the_socket_takes_nothing_but_heads_and_ends_do_not() -> None:
    connection = Connection()
    first, second = connection.open(1), connection.open(3)
    connection.sender.block(is_blocked=True)
    connection.sender.head(first, b"\x88", end=False)
    connection.sender.content(first, b"content", end=True)
    connection.sender.head(second, b"\x88", end=False)
    connection.sender.content(second, b"", end=True)
    assert connection.sender.waiting == 7
    connection.sender.block(is_blocked=False)
    order = [(frame.stream, frame.kind, frame.payload) for frame in connection.take()]
    assert order == [
        (1, frames.HEADERS, b"\x88"),
        (3, frames.HEADERS, b"\x88"),
        (3, frames.DATA, b""),
        (1, frames.DATA, b"content"),
    ]


def test_small_pieces_that_wait_cost_no_object_each() -> None:
    connection = Connection()
    stream = connection.open(1, window=0)
    pieces = [b"%d," % number for number in range(10_000)]
    for piece in pieces:
        connection.sender.content(stream, piece, end=False)
    assert len(stream.chunks) <= stream.waiting / 1000
    connection.sender.widen(stream, MIB)
    assert b"".join(frame.payload for frame in connection.take()) == b"".join(pieces)


def test_a_reset_drops_what_waits() -> None:
    connection = Connection()
    stream = connection.open(1)
    connection.sender.content(stream, bytes(MIB), end=True)
    connection.take(1)
    connection.sender.reset(stream, Code.CANCEL)
    (frame,) = connection.take()
    assert frame.kind == frames.RST_STREAM
    assert connection.sender.waiting == 0


def test_streams_that_were_reset_are_remembered_within_bounds() -> None:
    connection = Connection()
    for number in range(1, 2001, 2):
        connection.sender.refuse(number, Code.REFUSED_STREAM)
    assert list(connection.sender.reset_here) == list(range(2001 - 512, 2001, 2))


@pytest.mark.parametrize("size", [16_384, 16_385, 32_768, 32_769, 100_000])
def test_large_heads_go_in_several_frames(size: int) -> None:
    connection = Connection()
    block = bytes(index % 251 for index in range(size))
    connection.sender.head(connection.open(1), block, end=True)
    first, *others = connection.take()
    assert first.kind == frames.HEADERS
    assert first.flags & frames.END_STREAM
    assert all((frame.kind, frame.stream) == (frames.CONTINUATION, 1) for frame in others)
    ends = [frame.flags & frames.END_HEADERS for frame in (first, *others)]
    assert ends == [0] * (len(ends) - 1) + [frames.END_HEADERS]
    assert b"".join(frame.payload for frame in (first, *others)) == block


def test_drops_of_a_window_earn_nothing_for_their_client() -> None:
    connection = Connection()
    stream = connection.open(1, window=0)
    connection.sender.content(stream, bytes(100), end=True)
    for _ in range(99):
        connection.sender.widen(stream, 1)
        connection.take()
    assert connection.sender.earned == 0
    connection.sender.widen(stream, 1)
    connection.take()
    assert connection.sender.earned == 2
