"""Ranges: what is asked for, what is merged, what is refused, and how parts are framed."""

from __future__ import annotations

import pytest

from edge.static.ranges import (
    MAX_RANGES,
    Span,
    UnsatisfiableError,
    content_range,
    count_bytes,
    parse_range,
    split_parts,
)

SIZE = 10_000


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        (b"bytes=0-0", [(0, 1)]),
        (b"bytes=0-499", [(0, 500)]),
        (b"bytes=9500-", [(9500, 10_000)]),
        (b"bytes=-500", [(9500, 10_000)]),
        (b"bytes=-99999", [(0, 10_000)]),
        (b"bytes=0-", [(0, 10_000)]),  # all of it is a range too
        (b"bytes=0-99999", [(0, 10_000)]),
        (b"Bytes = 1-2", [(1, 3)]),
        (b"bytes=0-0,-1", [(0, 1), (9999, 10_000)]),
        (b"bytes=, 0-0 ,, 5000-5000,", [(0, 1), (5000, 5001)]),
        (b"bytes=5000-5000,0-0", [(5000, 5001), (0, 1)]),  # in the order of the question
        (b"bytes=0-10,20000-", [(0, 11)]),  # what is not there is left out
        (b"bytes=0-10,5-20", [(0, 21)]),
        (b"bytes=5-20,0-10,9000-9001", [(0, 21), (9000, 9002)]),
        (b"bytes=0-10,100-200", [(0, 201)]),  # less between them than the head of a part
        (b"bytes=0-100,20-30", [(0, 101)]),
    ],
)
def test_spans(value: bytes, spans: list[tuple[int, int]]) -> None:
    assert parse_range(value, SIZE) == spans


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"lines=0-1",
        b"bytes=a-b",
        b"bytes=-",
        b"bytes=5-2",
        b"bytes=0-1,x",
        b"bytes=1-2 3-4",
        b"bytes=+1-2",
        b"bytes=1_0-20",
        b"bytes=--1",
        b"bytes=12345678901234567890-",
        b"bytes=" + b",".join(b"%d-%d" % (n * 500, n * 500) for n in range(MAX_RANGES + 1)),
    ],
)
def test_field_that_means_nothing_is_ignored(value: bytes) -> None:
    assert parse_range(value, SIZE) == []


def test_as_many_ranges_as_allowed_are_served() -> None:
    value = b"bytes=" + b",".join(b"%d-%d" % (n * 500, n * 500) for n in range(MAX_RANGES))
    assert len(parse_range(value, SIZE)) == MAX_RANGES


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (b"bytes=10000-", SIZE),
        (b"bytes=20000-30000,40000-", SIZE),
        (b"bytes=-0", SIZE),
        (b"bytes=0-", 0),
        (b"bytes=-5", 0),
    ],
)
def test_range_without_a_byte_of_the_file_is_unsatisfiable(value: bytes, size: int) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(value, size)


def test_flood_of_overlapping_ranges_costs_no_more_than_the_file() -> None:
    # CVE-2011-3192: bytes=0-,5-0,5-1,5-2, ...
    value = b"bytes=" + b",".join(b"%d-" % n for n in range(MAX_RANGES))
    assert parse_range(value, SIZE) == [(0, SIZE)]


def test_several_ranges_that_are_everything_are_the_whole_file() -> None:
    value = b"bytes=0-4999,5000-9999,20-30"
    assert parse_range(value, SIZE) == [(0, SIZE)]


def test_value_of_content_range() -> None:
    assert content_range(Span(0, 500), SIZE) == b"bytes 0-499/10000"


def test_parts_have_a_head_each_and_an_end() -> None:
    pieces = split_parts([Span(0, 2), Span(500, 501)], SIZE, b"text/plain", b"xyz")
    assert pieces == [
        b"--xyz\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10000\r\n\r\n",
        Span(0, 2),
        b"\r\n--xyz\r\ncontent-type: text/plain\r\ncontent-range: bytes 500-500/10000\r\n\r\n",
        Span(500, 501),
        b"\r\n--xyz--\r\n",
    ]
    assert count_bytes(pieces) == sum(len(piece) for piece in pieces if isinstance(piece, bytes)) + 3
