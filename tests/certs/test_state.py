"""What is known of a certificate, as a file has it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from edge_certs.ari import Window
from edge_certs.errors import CertificateError
from edge_certs.state import Advice, CertificateState, Issuance, Status, decode_instant, need_instant
from tests.certs.forge import NOW

ISSUANCE = Issuance(("shop.example", "*.shop.example"), "https://ca.example/dir", ("dns-01",))
ADVICE = Advice("a.b", Window(NOW, NOW + timedelta(days=2), "https://ca.example/why"), NOW + timedelta(days=1))
BARE = CertificateState(ISSUANCE, Status.MISSING, 0.25)
FULL = CertificateState(
    Issuance(("192.0.2.1",), "https://ca.example/dir", ("http-01",), "rsa2048", "shortlived", "Root", "/bin/hook"),
    Status.FAILED,
    1.0,
    next_at=NOW,
    reason="one third of the lifetime left",
    last_error="it said no; try again",
    fingerprint="ab",
    not_after=NOW + timedelta(days=30),
    origin="https://ca.example/dir",
    advice=ADVICE,
    ask_at=NOW + timedelta(hours=6),
)


@pytest.mark.parametrize("state", [BARE, FULL], ids=["bare", "full"])
def test_state_comes_back_as_it_was_written(state: CertificateState) -> None:
    assert CertificateState.decode(state.encode()) == state


def test_file_is_json_that_says_when_and_why() -> None:
    content = json.loads(FULL.encode())
    assert content["next_at"] == "2027-03-01T12:00:00+00:00"
    assert content["reason"] == "one third of the lifetime left"
    assert content["status"] == "failed"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        BARE.encode().replace(b"missing", b"elsewhere"),
        FULL.encode().replace(b"2027-03-01T12:00:00+00:00", b"2027-03-01T12:00:00"),
        FULL.encode().replace(b'"window_start": "2027-03-01T12:00:00+00:00"', b'"window_start": null'),
        FULL.encode().replace(b'"ask_at"', b'"asked"'),
    ],
)
def test_damaged_state_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(CertificateError, match=r"^damaged; remove the file: it is made anew, and the certificate stay"):
        CertificateState.decode(content)


def test_state_of_another_version_is_refused() -> None:
    content = BARE.encode().replace(b'"version": 1', b'"version": 2')
    with pytest.raises(CertificateError, match=r"^of version 2, this edge reads 1; use the edge that wrote it$"):
        CertificateState.decode(content)


def test_instants_have_an_offset() -> None:
    assert decode_instant(None) is None
    assert need_instant("2027-03-01T13:00:00+01:00") == NOW
    with pytest.raises(ValueError, match="without an offset"):
        need_instant(datetime(2027, 3, 1, 12).isoformat())
