"""Where frames of a WebSocket end, whatever the pieces in which they come."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from edge.upstream.frames import CLOSE, FrameEnds

# Below and above the sizes from which on a length has two bytes, and eight.
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65535, 65536, 70000]))


def frame(size: int, *, masked: bool) -> bytes:
    return Frame(Opcode.BINARY, b"\x81" * size).serialize(mask=masked)


@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=5), st.lists(st.integers(1, 70100), max_size=8))
def test_every_end_of_a_frame_is_found(sizes: list[tuple[int, bool]], cuts: list[int]) -> None:
    frames = [frame(size, masked=masked) for size, masked in sizes]
    data = b"".join(frames)
    places = [0, *sorted(cut for cut in set(cuts) if cut < len(data)), len(data)]
    ends, found = FrameEnds(), []
    for begin, end in itertools.pairwise(places):
        at, piece = 0, data[begin:end]
        while at < len(piece):
            at = ends.take(piece, at)
            if ends.is_between:
                found.append(begin + at)
    assert found == list(itertools.accumulate(len(item) for item in frames))


def test_ends_are_found_byte_by_byte() -> None:
    frames = [frame(3, masked=False), frame(0, masked=False), frame(200, masked=True)]
    ends, found = FrameEnds(), []
    for number, byte in enumerate(b"".join(frames), 1):
        assert ends.take(bytes((byte,))) == 1
        if ends.is_between:
            found.append(number)
    assert found == list(itertools.accumulate(len(item) for item in frames))


def test_close_is_a_servers_frame_with_1012() -> None:
    assert Frame(Opcode.CLOSE, Close(1012, "").serialize()).serialize(mask=False) == CLOSE
