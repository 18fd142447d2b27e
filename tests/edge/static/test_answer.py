"""The answer to a GET or HEAD of a file, all in one."""

from __future__ import annotations

import pytest

from edge.static.answer import describe, gather_conditions, plan_answer, plan_whole
from edge.static.conditional import Validators
from edge.static.ranges import Span

FACTS = describe(
    size=1000, validators=Validators(b'"abc"', 784111777), media_type=b"text/plain; charset=utf-8", cache=b"no-cache"
)
NOW = 784111777 + 100


def plan(conditions: dict[bytes, bytes], *, is_get: bool = True) -> tuple[int, int, dict[bytes, bytes], list[object]]:
    found = plan_answer(FACTS, conditions, is_get=is_get, now=NOW, boundary=b"xyz")
    fields = dict(zip(found.fields[::2], found.fields[1::2], strict=True))
    return found.status, found.length, fields, list(found.pieces)


WHOLE = {
    b"content-type": b"text/plain; charset=utf-8",
    b"etag": b'"abc"',
    b"last-modified": b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"cache-control": b"no-cache",
    b"accept-ranges": b"bytes",
    b"x-content-type-options": b"nosniff",
}


def test_all_of_it() -> None:
    assert plan({}) == (200, 1000, WHOLE, [Span(0, 1000)])
    assert plan_answer(FACTS, {}, is_get=True, now=NOW, boundary=b"") == plan_whole(FACTS)


def test_unchanged_file_has_the_fields_of_a_304() -> None:
    kept = {name: WHOLE[name] for name in (b"etag", b"last-modified", b"cache-control")}
    assert plan({b"if-none-match": b'"abc"'}) == (304, 0, kept, [])


def test_failed_precondition() -> None:
    assert plan({b"if-match": b'"x"', b"range": b"bytes=0-1"}) == (412, 0, {}, [])


def test_one_range() -> None:
    fields = WHOLE | {b"content-range": b"bytes 0-9/1000"}
    assert plan({b"range": b"bytes=0-9"}) == (206, 10, fields, [Span(0, 10)])


def test_several_ranges() -> None:
    status, length, fields, pieces = plan({b"range": b"bytes=0-9,500-509"})
    assert status == 206
    assert fields == WHOLE | {b"content-type": b"multipart/byteranges; boundary=xyz"}
    assert length == 20 + sum(len(piece) for piece in pieces if isinstance(piece, bytes))
    assert [piece for piece in pieces if isinstance(piece, Span)] == [Span(0, 10), Span(500, 510)]


def test_range_beyond_the_end() -> None:
    assert plan({b"range": b"bytes=1000-"}) == (416, 0, {b"content-range": b"bytes */1000"}, [])


@pytest.mark.parametrize(
    "conditions",
    [
        {b"range": b"lines=1-2"},
        {b"range": b"bytes=0-9", b"if-range": b'"old"'},
        {b"range": b"bytes=0-9", b"if-range": b"Sun, 06 Nov 1994 08:49:36 GMT"},
    ],
)
def test_range_that_does_not_apply_is_ignored(conditions: dict[bytes, bytes]) -> None:
    assert plan(conditions)[0] == 200


def test_range_of_a_head_is_ignored() -> None:
    assert plan({b"range": b"bytes=0-9"}, is_get=False)[:2] == (200, 1000)


def test_compressed_form_says_so_and_what_it_hung_on() -> None:
    facts = describe(
        size=1,
        validators=Validators(b'"z"', 0),
        media_type=b"text/css",
        cache=b"no-cache",
        coding=b"br",
        vary=b"accept-encoding",
    )
    assert facts.fields[-2:] == [b"content-encoding", b"br"]
    assert facts.kept_fields[-2:] == [b"vary", b"accept-encoding"]
    assert b"vary" in facts.fields


def test_fields_of_one_name_are_a_list() -> None:
    assert gather_conditions([b'if-none-match\n"a"', b"range\nbytes=0-1", b'if-none-match\n"b"']) == {
        b"if-none-match": b'"a", "b"',
        b"range": b"bytes=0-1",
    }
