"""Preconditions in the order of RFC 9110 section 13.2.2, and what they compare."""

from __future__ import annotations

import pytest

from edge.static.conditional import (
    Outcome,
    Validators,
    evaluate,
    format_date,
    make_validators,
    parse_date,
    range_applies,
)

# Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110.
AT = 784111777
FILE = Validators(b'"abc"', AT)
SAME, BEFORE, AFTER = (format_date(AT + seconds) for seconds in (0, -1, 1))
SEND, UNCHANGED, FAILED = Outcome.SEND, Outcome.NOT_MODIFIED, Outcome.FAILED


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        ({}, SEND),
        ({b"if-match": b'"abc"'}, SEND),
        ({b"if-match": b"*"}, SEND),
        ({b"if-match": b'"x", "abc"'}, SEND),
        ({b"if-match": b'"x"'}, FAILED),
        ({b"if-match": b'W/"abc"'}, FAILED),  # a strong comparison
        ({b"if-match": b"abc"}, FAILED),
        ({b"if-match": b'"x"', b"if-none-match": b'"abc"'}, FAILED),  # it comes first
        ({b"if-match": b'"abc"', b"if-unmodified-since": BEFORE}, SEND),  # and counts alone
        ({b"if-unmodified-since": SAME}, SEND),
        ({b"if-unmodified-since": AFTER}, SEND),
        ({b"if-unmodified-since": BEFORE}, FAILED),
        ({b"if-unmodified-since": b"yesterday"}, SEND),
        ({b"if-none-match": b'"abc"'}, UNCHANGED),
        ({b"if-none-match": b'W/"abc"'}, UNCHANGED),  # a weak comparison
        ({b"if-none-match": b"*"}, UNCHANGED),
        ({b"if-none-match": b' "a,b" , "abc",'}, UNCHANGED),
        ({b"if-none-match": b'"x"'}, SEND),
        ({b"if-none-match": b'"x" "abc"'}, SEND),  # no list
        ({b"if-none-match": b'"x"', b"if-modified-since": SAME}, SEND),  # it counts alone
        ({b"if-none-match": b"", b"if-modified-since": SAME}, SEND),
        ({b"if-modified-since": SAME}, UNCHANGED),
        ({b"if-modified-since": AFTER}, UNCHANGED),
        ({b"if-modified-since": BEFORE}, SEND),
        ({b"if-modified-since": b"99"}, SEND),
        ({b"if-match": b'"abc"', b"if-none-match": b'"abc"'}, UNCHANGED),
    ],
)
def test_outcome(conditions: dict[bytes, bytes], outcome: Outcome) -> None:
    assert evaluate(conditions, FILE) is outcome


@pytest.mark.parametrize(
    ("value", "now", "applies"),
    [
        (None, AT + 9, True),
        (b'"abc"', AT + 9, True),
        (b'"abd"', AT + 9, False),
        (b'W/"abc"', AT + 9, False),
        (SAME, AT + 9, True),
        (SAME, AT, False),  # it may be written again within this second
        (AFTER, AT + 9, False),  # no "not since", but the very version
        (b"abc", AT + 9, False),
    ],
)
def test_if_range(value: bytes | None, now: int, applies: bool) -> None:
    conditions = {} if value is None else {b"if-range": value}
    assert range_applies(conditions, FILE, now) is applies


@pytest.mark.parametrize(
    "text", [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"]
)
def test_all_three_formats_of_a_date_are_read(text: bytes) -> None:
    assert parse_date(text) == AT


@pytest.mark.parametrize("text", [b"", b"\xff", b"Sun, 99 Zzz 1994 08:49:37 GMT", b"06 Nov 99999999999 08:49:37 GMT"])
def test_what_is_no_date_is_none(text: bytes) -> None:
    assert parse_date(text) is None


def test_tag_is_strong_and_differs_with_each_part() -> None:
    tags = {make_validators(*parts).tag for parts in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))}
    assert len(tags) == 4
    assert all(tag.startswith(b'"') and tag.endswith(b'"') and len(tag) == 18 for tag in tags)
    assert make_validators(1, 2, 3_999_999_999).modified == 3
