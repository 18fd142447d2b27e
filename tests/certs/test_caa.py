from __future__ import annotations

import pytest

from edge_certs.caa import CaaRecord, Wish, find_refusal

HERE = CaaRecord(0, "issue", "ca.example")
ELSEWHERE = CaaRecord(0, "issue", "other.example")


def wish(
    *kinds: str, is_wildcard: bool = False, identities: tuple[str, ...] = ("ca.example", "www.ca.example")
) -> Wish:
    return Wish(identities, kinds or ("http-01",), is_wildcard)


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([], wish()),
        ([HERE], wish()),
        ([ELSEWHERE, HERE], wish()),
        ([CaaRecord(0, "ISSUE", "CA.example ; accounturi=x")], wish()),
        ([CaaRecord(0, "iodef", "mailto:a@example.com")], wish()),
        ([CaaRecord(128, "iodef", "mailto:a@example.com"), HERE], wish()),
        ([CaaRecord(0, "future", "x"), HERE], wish()),
        ([CaaRecord(0, "issuewild", ";")], wish()),
        ([HERE], wish(is_wildcard=True)),
        ([ELSEWHERE, CaaRecord(0, "issuewild", "ca.example")], wish(is_wildcard=True)),
        ([CaaRecord(0, "issue", "ca.example; validationmethods=dns-01,http-01")], wish()),
    ],
)
def test_authority_may_sign(records: list[CaaRecord], wanted: Wish) -> None:
    assert find_refusal(records, wanted) == ""


@pytest.mark.parametrize(
    ("records", "wanted", "refusal"),
    [
        (
            [ELSEWHERE],
            wish(),
            '0 issue "other.example" let nobody else sign, and the authority is ca.example or www.ca.example',
        ),
        (
            [CaaRecord(0, "issue", ";")],
            wish(identities=()),
            '0 issue ";" let nobody else sign, and the authority is nobody by that name',
        ),
        (
            [HERE, CaaRecord(0, "issuewild", ";")],
            wish(is_wildcard=True),
            '0 issuewild ";" let nobody else sign, and the authority is ca.example or www.ca.example',
        ),
        (
            [CaaRecord(0, "issue", "ca.example; validationmethods=dns-01")],
            wish("http-01", "tls-alpn-01"),
            '0 issue "ca.example; validationmethods=dns-01" let nobody else sign, and the authority is '
            "ca.example or www.ca.example",
        ),
        (
            [CaaRecord(128, "future", "x"), HERE],
            wish(),
            '128 future "x" is critical and of a kind that authorities do not know',
        ),
    ],
)
def test_authority_may_not_sign(records: list[CaaRecord], wanted: Wish, refusal: str) -> None:
    assert find_refusal(records, wanted) == refusal
