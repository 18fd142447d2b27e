"""The head of a request: what is remembered of it changes nothing, and framing is checked twice.

The rules are in the corpus (test_http1.py runs it); here are the properties of the parser, and what the corpus cannot
reach: what the tokenizer refuses before the edge's own check sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.http import head as head_module
from edge.http.events import ProtocolError, RequestHead
from edge.http.head import MAX_LINE, MAX_LINES, HeadLimits, HeadParser
from edge.http.rules import METHODS
from tests.corpus.cases import Case, load_cases

LIMITS = HeadLimits(max_request_line=8192, max_header_size=32 * 1024, max_headers=100)
CASES = [case for case in load_cases(Path(__file__).parents[2] / "corpus" / "http1") if b"\r\n\r\n" in case.sent]
HEADS = [case.sent.partition(b"\r\n\r\n")[0] for case in CASES]
LINES = sorted({line for head in HEADS for line in head.split(b"\r\n")[1:] if len(line) < 200})
REQUEST_LINES = sorted({head.split(b"\r\n")[0] for head in HEADS if len(head) < 1000})

# Lines that make a head be served, lines of the corpus that are refused, and lines of any bytes.
fine_lines = st.sampled_from(
    [
        b"Accept: */*",
        b"accept: */*",
        b"Cookie: a=1",
        b"Cookie: b=2",
        b"X-Any: thing",
        b"Connection: close",
        b"Connection: x-any, cookie",
        b"Connection: keep-alive",
        b"TE: trailers",
        b"X_Dropped: 1",
        b"X-Forwarded-For: 192.0.2.1",
        b"Expect: 100-continue",
        b"Keep-Alive: 5",
        b"Empty:",
        b"Long: " + b"l" * MAX_LINE,
    ]
)
framing_lines = st.sampled_from(
    [b"Content-Length: 4", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"]
)
any_line = st.binary(max_size=30).filter(lambda line: line and b"\r\n" not in line and not line.endswith(b"\r"))
lines = st.one_of(fine_lines, fine_lines, fine_lines, framing_lines, st.sampled_from(LINES), any_line)
heads = st.builds(
    lambda request_line, lines: b"\r\n".join([request_line, *filter(None, lines), b"", b""]),
    st.one_of(st.just(b"GET / HTTP/1.1"), st.just(b"POST / HTTP/1.0"), st.sampled_from(REQUEST_LINES)),
    st.tuples(st.sampled_from([b"Host: a", b"Host: a", b"host: b", b""]), lines, lines, lines, lines),
)


def attributes(head: RequestHead) -> dict[str, Any]:
    return {name: getattr(head, name) for name in RequestHead.__slots__}


def verdict(parser: HeadParser, raw: bytes) -> dict[str, Any] | tuple[object, ...]:
    """Return all that a parser says of a head, or the status, reason and fields of its refusal."""
    try:
        return attributes(parser.parse(raw, 1))
    except ProtocolError as error:
        return error.status, error.reason, error.fields


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_head_of_a_case_is_read_or_refused_as_the_corpus_has_it(case: Case) -> None:
    head, _, content = case.sent.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    found = verdict(HeadParser(LIMITS), head + b"\r\n\r\n")
    if isinstance(found, dict):
        assert case.events.startswith(f"request {found['method'].decode()} ") or content or found["length"]
    else:
        assert f"refused {found[0]} " in case.events


# What is remembered.


@settings(max_examples=300)
@given(st.lists(heads, min_size=1, max_size=8))
def test_parser_that_has_seen_other_heads_says_what_a_new_one_says(raw_heads: list[bytes]) -> None:
    parser = HeadParser(LIMITS)
    for raw in raw_heads:
        assert verdict(parser, raw) == verdict(HeadParser(LIMITS), raw)


@given(heads)
def test_second_parse_of_a_head_says_what_the_first_said(raw: bytes) -> None:
    parser = HeadParser(LIMITS)
    first = verdict(parser, raw)
    assert verdict(parser, raw) == first
    parser.forget()
    assert verdict(parser, raw) == first


def test_head_that_was_changed_later_does_not_change_the_next() -> None:
    parser = HeadParser(LIMITS)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n"
    first = parser.parse(raw, 1)
    first.lines.clear()
    assert parser.parse(raw, 2).fields == [(b"host", b"a"), (b"accept", b"b")]


@pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
def test_framing_is_tokenized_each_time_with_all_of_its_kind(framing: bytes) -> None:
    parser = HeadParser(LIMITS)
    parser.parse(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing, 1)
    with pytest.raises(ProtocolError) as caught:
        parser.parse(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n%b\r\n\r\n" % (framing, framing), 2)
    assert caught.value.status == 400


def remembered(parser: HeadParser) -> int:
    return len(parser._plain) + len(parser._special)


def test_memory_is_bounded() -> None:
    parser = HeadParser(LIMITS)
    for number in range(3 * MAX_LINES):
        head = parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number, 1)
        assert head.fields == [(b"host", b"a"), (b"x", b"%d" % number)]
        assert remembered(parser) <= MAX_LINES


def test_memory_of_request_lines_is_bounded() -> None:
    parser = HeadParser(LIMITS)
    for number in range(2 * MAX_LINES + 1):
        head = parser.parse(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number, 1)
        assert head.target == b"/%d" % number
        assert len(parser._requests) <= MAX_LINES
    parser.forget()
    assert not parser._requests


def test_forgetting_in_the_midst_of_a_head_loses_none_of_its_lines() -> None:
    parser = HeadParser(LIMITS)
    parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1)
    for number in range(MAX_LINES - 3):
        parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number, 1)
    head = parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nY: 1\r\nY: 2\r\nConnection: close\r\nY: 3\r\n\r\n", 1)
    assert head.fields == [(b"host", b"a"), (b"y", b"1"), (b"y", b"2"), (b"y", b"3")]
    assert not head.keep_alive


def test_long_lines_and_framing_are_not_remembered() -> None:
    parser = HeadParser(LIMITS)
    long = b"X: " + b"y" * MAX_LINE
    parser.parse(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n%b\r\n\r\n" % long, 1)
    assert remembered(parser) == 1
    parser.forget()
    assert remembered(parser) == 0


# What is refused before it is whole.


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"G" * 8195, 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 6000, 431),
        (b"GET / HTTP/1.1\r\nA: b\n", 400),
        (b"\n", 400),
    ],
)
def test_what_can_become_no_head_is_refused_early(data: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        HeadParser(LIMITS).check_partial(data)
    assert caught.value.status == status


@pytest.mark.parametrize("data", [b"", b"GET", b"G" * 8192 + b"\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nA: b\r"])
def test_what_can_become_a_head_is_waited_for(data: bytes) -> None:
    HeadParser(LIMITS).check_partial(data)


# What the tokenizer refuses first: the edge's own check must hold without it.


def framed(version: bytes, lengths: list[bytes], codings: list[bytes]) -> RequestHead:
    """Apply framing fields to a request as if the tokenizer had let them through."""
    special = head_module._Special()
    special.lengths, special.codings = lengths, codings
    head = RequestHead(1, b"POST", b"/", version, b"a")
    head_module._apply_framing(head, special)
    return head


@pytest.mark.parametrize(
    ("lengths", "codings", "reason"),
    [
        ([b"4"], [b"chunked"], "both Content-Length and Transfer-Encoding"),
        ([b"4", b"4"], [], "more than one Content-Length"),
        ([b"+4"], [], r"Content-Length b'\+4' is not a number"),
        ([b""], [], "Content-Length b'' is not a number"),
        ([b"1, 1"], [], "Content-Length b'1, 1' is not a number"),
        ([b"1" * 20], [], "is not a number"),
        ([], [b"chunked", b"chunked"], "chunked more than once"),
        ([], [b"chunked, chunked"], "chunked more than once"),
    ],
)
def test_framing_that_another_tokenizer_might_let_through_is_refused(
    lengths: list[bytes], codings: list[bytes], reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason) as caught:
        framed(b"1.1", lengths, codings)
    assert caught.value.status == 400


@pytest.mark.parametrize("coding", [b"identity", b"gzip", b"gzip, chunked", b"", b"chunked;a=b"])
def test_coding_that_another_tokenizer_might_let_through_is_refused(coding: bytes) -> None:
    with pytest.raises(ProtocolError, match="only chunked is understood") as caught:
        framed(b"1.1", [], [coding])
    assert caught.value.status == 501


def test_every_method_that_is_served_is_a_method_of_http() -> None:
    assert {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"} <= METHODS
    assert not {b"CONNECT", b"TRACE", b"DESCRIBE", b"PRI"} & METHODS
