"""The cookie by which a client is known again."""

from __future__ import annotations

import pytest

from edge.policy.affinity import encode_cookie, find_value, is_all, is_ours

VALUE = b"abcdefghijklmnopqrstu0"
OTHER = b"ABCDEFGHIJKLMNOPQRS-_9"
OURS = b"edge-affinity=" + VALUE


@pytest.mark.parametrize(
    "cookie",
    [
        OURS,
        b"session=1; " + OURS,
        OURS + b"; session=1",
        b"a=1;" + OURS + b";b=2",
        b"a=1; \t" + OURS,
        OURS + b"; edge-affinity=" + OTHER,
        b"edge-affinity=short; " + OURS,
    ],
)
def test_value_is_found_beside_other_cookies(cookie: bytes) -> None:
    assert find_value([b"host\nlocalhost", b"cookie\n" + cookie, b"accept\n*/*"]) == VALUE


@pytest.mark.parametrize(
    "line",
    [
        b"cookie\n",
        b"cookie\nedge-affinity=",
        b"cookie\nedge-affinity=" + VALUE[1:],
        b"cookie\nedge-affinity=" + VALUE + b"1",
        b"cookie\nedge-affinity=" + VALUE[1:] + b"=",
        b'cookie\nedge-affinity="' + VALUE + b'"',
        b"cookie\nEdge-Affinity=" + VALUE,
        b"cookie\nmy-edge-affinity=" + VALUE,
        b"cookie\na=" + OURS,
        b"cookie\na=1, " + OURS,
        b"cookie\na=1 " + OURS,
        b"x-cookie\n" + OURS,
        b"referer\nhttp://localhost/;" + OURS,
    ],
)
def test_what_is_not_a_cookie_of_ours_is_none(line: bytes) -> None:
    assert find_value([line]) == b""


def test_value_is_looked_for_in_every_cookie_field() -> None:
    assert find_value([b"cookie\na=1", b"cookie\n" + OURS]) == VALUE
    assert find_value([]) == b""


def test_long_near_miss_costs_one_pass() -> None:
    assert find_value([b"cookie\n" + b";" + b" " * 200_000 + b"e"]) == b""
    assert find_value([b"cookie\n" + b"; edge-affinity=" * 20_000]) == b""


@pytest.mark.parametrize(
    ("secure", "expected"),
    [
        (False, OURS + b"; Path=/; HttpOnly; SameSite=Lax"),
        (True, OURS + b"; Path=/; HttpOnly; SameSite=Lax; Secure"),
    ],
)
def test_cookie_is_out_of_reach_of_scripts_and_of_other_sites(secure: bool, expected: bytes) -> None:
    assert encode_cookie(VALUE, secure=secure) == expected
    assert is_ours(expected)


@pytest.mark.parametrize(
    "field", [b"", b"a=1", OURS, OURS + b"; Path=/", encode_cookie(VALUE, secure=True) + b", session=1"]
)
def test_other_set_cookies_are_not_ours(field: bytes) -> None:
    assert not is_ours(field)


def test_cookie_field_with_ours_alone_is_told_from_one_with_more() -> None:
    assert is_all(OURS)
    assert not is_all(OURS + b"; a=1")
    assert not is_all(b"a=1")
    assert not is_all(b"")
