"""The wire: what goes in comes out, in any split of the bytes, and nothing else is let in."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_backend import wire

KINDS = st.integers(1, 11)
FLAGS = st.integers(0, 255)
STREAMS = st.integers(0, 2**32 - 1)
FRAMES = st.lists(st.tuples(KINDS, FLAGS, STREAMS, st.binary(max_size=200), st.binary(max_size=200)), max_size=8)
PART = st.binary(max_size=50).map(lambda part: part.replace(b"\n", b""))


def encode(frames: list[wire.Frame]) -> bytes:
    return b"".join(wire.encode_frame(*frame) for frame in frames)


def read(data: bytes, cuts: list[int]) -> list[wire.Frame]:
    """Feed `data` in the pieces that `cuts` make of it."""
    reader = wire.FrameReader()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [frame for start, end in pairwise(edges) for frame in reader.receive(data[start:end])]


@given(FRAMES)
def test_frames_come_out_as_they_went_in(frames: list[wire.Frame]) -> None:
    assert read(encode(frames), []) == frames


@given(FRAMES)
def test_frames_come_out_byte_by_byte(frames: list[wire.Frame]) -> None:
    data = encode(frames)
    assert read(data, list(range(len(data)))) == frames


@given(FRAMES, st.lists(st.integers(0, 4000), max_size=10))
def test_any_split_gives_the_same_frames(frames: list[wire.Frame], cuts: list[int]) -> None:
    assert read(encode(frames), cuts) == frames


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_split_of_any_bytes_gives_the_same_frames_or_the_same_refusal(data: bytes, cuts: list[int]) -> None:
    def outcome(cuts: list[int]) -> list[wire.Frame] | str:
        try:
            return read(data, cuts)
        except wire.WireError as error:
            return str(error)

    assert outcome(cuts) == outcome([])


def test_frame_is_laid_out_as_the_page_says() -> None:
    frame = wire.encode_frame(wire.DATA, wire.END, 0x01020304, b"head", b"content")
    assert frame == b"\0\0\0\x0b\0\0\0\x04\1\2\3\4\x06\x01headcontent"
    assert wire.HEADER_SIZE == 14


def test_largest_frame_is_read() -> None:
    body = bytes(wire.MAX_PAYLOAD)
    assert wire.FrameReader().receive(wire.encode_frame(wire.DATA, 0, 1, b"", body)) == [(wire.DATA, 0, 1, b"", body)]


@pytest.mark.parametrize(
    ("size", "head_size"), [(wire.MAX_PAYLOAD + 1, 0), (2**32 - 1, 0), (10, 11), (0, 1), (0, 2**32 - 1)]
)
def test_frame_that_announces_too_much_is_refused_at_its_header(size: int, head_size: int) -> None:
    header = wire.HEADER.pack(size, head_size, 1, wire.DATA, 0)
    with pytest.raises(wire.WireError, match=f"frame of {size} bytes with a head of {head_size}, at most 4194304"):
        wire.FrameReader().receive(header)


def test_frames_before_a_malformed_one_are_not_given() -> None:
    good = wire.encode_frame(wire.PING, 0, 0)
    with pytest.raises(wire.WireError):
        wire.FrameReader().receive(good + wire.HEADER.pack(1, 2, 0, wire.PING, 0))


@given(st.lists(PART, min_size=1, max_size=20))
def test_request_head_comes_out_as_it_went_in(parts: list[bytes]) -> None:
    assert wire.split_request(wire.join_request(parts, len(parts))) == parts


@given(st.lists(PART, min_size=2, max_size=20), st.integers(1, 10))
def test_request_head_of_pieces_joined_before_is_the_same(parts: list[bytes], cut: int) -> None:
    pieces = [b"\n".join(parts[:cut]), *parts[cut:]]
    assert wire.join_request(pieces, len(parts)) == wire.join_request(parts, len(parts))


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=10))
def test_request_head_with_a_line_feed_in_a_part_is_refused(parts: list[bytes]) -> None:
    head = wire.join_request(parts, len(parts))
    if any(b"\n" in part for part in parts):
        with pytest.raises(wire.WireError, match="parts that announces "):
            wire.split_request(head)
    else:
        assert wire.split_request(head) == parts


@pytest.mark.parametrize("head", [b"", b"GET", b"GET\n/\n3", b"GET\n/\n", b"GET\n/\n02", b"GET\n/\n+2", b"GET\n/\n2 "])
def test_request_head_with_another_number_is_refused(head: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.split_request(head)


@given(STREAMS, st.integers(0, 2**32 - 1))
def test_window_comes_out_as_it_went_in(stream: int, credit: int) -> None:
    [(kind, flags, got, head, body)] = wire.FrameReader().receive(wire.encode_window(stream, credit))
    assert (kind, flags, got, head, wire.decode_window(body)) == (wire.WINDOW, 0, stream, b"", credit)


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\0\0"])
def test_window_that_is_not_four_bytes_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError, match=f"a WINDOW frame of {len(body)} bytes, 4 expected"):
        wire.decode_window(body)


def test_reset_carries_its_reason_in_the_head() -> None:
    assert wire.FrameReader().receive(wire.encode_reset(7, b"app-error")) == [(wire.RESET, 0, 7, b"app-error", b"")]


def test_hello_comes_out_as_it_went_in() -> None:
    [(kind, _, stream, head, body)] = wire.FrameReader().receive(wire.encode_hello(4711, 3))
    assert (kind, stream, body) == (wire.HELLO, 0, b"")
    assert wire.decode_hello(head) == (4711, 3)


def test_hello_of_another_version_is_refused_with_both_numbers() -> None:
    with pytest.raises(wire.WireError, match=f"version 9 of the wire, this edge speaks {wire.VERSION}"):
        wire.decode_hello(b"edge-wire\n9\n1\n1")


@pytest.mark.parametrize(
    "head",
    [b"", b"edge-wire", b"edge-wire\n1\n1", b"edge-wire\n1\n1\n1\n1", b"HTTP/1.1\n1\n1\n1", b"edge-wire\n\n1\n1",
     b"edge-wire\n-1\n1\n1", b"edge-wire\n1\nx\n1"],
)  # fmt: skip
def test_greeting_of_anything_but_a_worker_is_refused(head: bytes) -> None:
    with pytest.raises(wire.WireError, match="not the greeting of a worker: "):
        wire.decode_hello(head)


class Turn:
    """A loop that runs what was put off when the test says so, and a transport that keeps what it is given."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []
        self.written: list[bytes] = []

    def end(self) -> None:
        for function in list(self.later):
            function()
        self.later.clear()


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def writer(turn: Turn) -> wire.FrameWriter:
    return wire.FrameWriter(turn.written.append, turn.later.append)


@pytest.mark.parametrize("frames", [[b"one"], [b"one", b"two", b"three"]])
def test_frames_of_one_turn_leave_in_one_write(writer: wire.FrameWriter, turn: Turn, frames: list[bytes]) -> None:
    for frame in frames:
        writer.write(frame)
    assert turn.written == []
    turn.end()
    assert turn.written == [b"".join(frames)]


def test_frames_of_two_turns_leave_in_two_writes(writer: wire.FrameWriter, turn: Turn) -> None:
    writer.write(b"one")
    turn.end()
    writer.write(b"two")
    turn.end()
    assert turn.written == [b"one", b"two"]


def test_flush_sends_at_once_and_the_turn_then_nothing(writer: wire.FrameWriter, turn: Turn) -> None:
    writer.write(b"one")
    writer.flush()
    assert turn.written == [b"one"]
    turn.end()
    assert turn.written == [b"one"]


def test_after_the_end_of_the_connection_nothing_is_written(writer: wire.FrameWriter, turn: Turn) -> None:
    writer.write(b"one")
    writer.close()
    turn.end()
    writer.write(b"two")
    turn.end()
    assert turn.written == []


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading of the page, by their first column."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "wire.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


@pytest.mark.parametrize("heading", ["Types", "Flags", "Numbers"])
def test_page_has_the_numbers_of_the_module(heading: str) -> None:
    rows = table(heading)
    assert rows
    assert {name: int(row[0]) for name, row in rows.items()} == {name: getattr(wire, name) for name in rows}


def test_every_number_of_the_module_is_on_the_page() -> None:
    constants = {name for name, value in vars(wire).items() if name.isupper() and isinstance(value, int)}
    assert constants == {*table("Types"), *table("Flags"), *table("Numbers"), "VERSION"}


def test_page_has_the_layout_and_the_version_of_the_module() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "wire.md").read_text()
    assert f"\nVersion {wire.VERSION}. " in page
    offsets, offset = list(table("Frame")), 0
    for size, shown in zip((4, 4, 4, 1, 1), offsets, strict=False):
        assert shown == str(offset)
        offset += size
    assert wire.HEADER.format == "!IIIBB"
    assert offsets[5] == str(wire.HEADER_SIZE)


def test_every_reason_of_a_reset_is_on_the_page() -> None:
    rooms = [Path(__file__).parents[2] / part for part in ("backend/edge_backend", "edge/dispatch")]
    source = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    used = set(re.findall(r"(?:fail\(|return |reset\([^)]*?)b\"([a-z-]+)\"", source))
    assert used == set(table("The end of a stream"))
