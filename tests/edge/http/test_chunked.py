"""Chunked coding, decoded: the corpus has the refusals; here are sizes, splits, limits and cost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.chunked import MAX_EXTENSION, MAX_TRAILER_FIELDS, MAX_TRAILERS, ChunkedDecoder
from edge.http.events import ProtocolError
from tests.corpus.cases import load_cases

CORPUS = load_cases(Path(__file__).parents[2] / "corpus" / "http1")
CHUNKED = [case.sent.partition(b"\r\n\r\n")[2] for case in CORPUS if case.name.startswith("chunked:")]


def decode(*reads: bytes) -> tuple[bytes, bytes | None]:
    """Return the content, and what follows it; None if it is not whole."""
    decoder = ChunkedDecoder()
    content = b"".join(decoder.receive(read) for read in reads)
    return content, decoder.rest if decoder.is_done else None


def verdict(*reads: bytes) -> object:
    """Return what `decode` returns, or the status and reason of its refusal."""
    try:
        return decode(*reads)
    except ProtocolError as error:
        return error.status, error.reason


def test_content_and_what_follows_it_are_told_apart() -> None:
    assert decode(b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nGET /") == (b"abcde", b"GET /")


def test_trailer_fields_are_there_once_it_is_done() -> None:
    decoder = ChunkedDecoder()
    decoder.receive(b"0\r\nX-Sum:\t4 2 \r\nEmpty:\r\n")
    assert (decoder.is_done, decoder.trailers) == (False, ())
    decoder.receive(b"\r\nGET")
    assert (decoder.is_done, decoder.trailers) == (True, (b"x-sum", b"4 2", b"empty", b""))


def test_message_that_is_not_whole_waits() -> None:
    assert decode(b"3\r\nab") == (b"ab", None)


def test_bytes_after_the_end_are_kept() -> None:
    decoder = ChunkedDecoder()
    decoder.receive(b"0\r\n\r\nGE")
    assert decoder.receive(b"T") == b""
    assert decoder.rest == b"GET"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_any_content_in_any_chunks_and_reads_comes_back(chunks: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\nrest"
    places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=10)))
    reads = [sent[start:end] for start, end in zip([0, *places], [*places, len(sent)], strict=True)]
    assert decode(*reads) == (b"".join(chunks), b"rest")


@pytest.mark.parametrize("sent", CHUNKED, ids=lambda sent: repr(sent[:40]))
def test_verdict_does_not_depend_on_the_reads(sent: bytes) -> None:
    whole = verdict(sent)
    assert verdict(*(bytes([byte]) for byte in sent)) == whole


@given(st.binary(max_size=40))
def test_bytes_at_random_are_content_or_refused_with_a_status(sent: bytes) -> None:
    whole = verdict(sent)
    split = verdict(*(bytes([byte]) for byte in sent))
    assert split == whole
    assert isinstance(whole, tuple)
    assert whole[0] in (400, 431) or isinstance(whole[0], bytes)


@pytest.mark.parametrize(
    ("limit", "sent"),
    [
        (400, b"4;" + b"a" * (MAX_EXTENSION + 1)),
        (400, b"4" + b" " * 300),
        (431, b"0\r\nA: " + b"b" * (MAX_TRAILERS + 4)),
        (431, b"0\r\n" + b"A: b\r\n" * (MAX_TRAILER_FIELDS + 1) + b"\r\n"),
    ],
)
def test_limits_are_kept_without_waiting_for_an_end(limit: int, sent: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(sent + b"x" * 100)
    assert caught.value.status == limit


def test_many_small_chunks_cost_as_much_as_they_are_long() -> None:
    small, large = (b"1\r\na\r\n" * count for count in (4_000, 64_000))
    decode(small)
    times = []
    for sent in (small, large):
        started = time.process_time()
        assert decode(sent) == (b"a" * (len(sent) // 6), None)
        times.append(time.process_time() - started)
    # 16 times as long; cut off chunk by chunk it took 150 times as long.
    assert times[1] < 60 * times[0]
