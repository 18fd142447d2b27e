"""Which form of a file a client gets."""

from __future__ import annotations

import pytest

from edge.static.negotiate import accepts_html, choose_coding

ALL = (b"br", b"zstd", b"gzip")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip, zstd", b"zstd"),
        (b"br;q=0.5, gzip;q=0.8", b"gzip"),
        (b"br; q=0.5 , gzip; q = 0.4", b"br"),
        (b"br;q=0, gzip", b"gzip"),
        (b"gzip;q=0", b""),
        (b"*", b"br"),
        (b"*;q=0", b""),
        (b"*;q=0, gzip", b"gzip"),
        (b"br;q=0, *", b"zstd"),
        (b"identity", b""),
        (b"identity;q=0.5, gzip;q=0.2", b""),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"identity;q=0, gzip", b"gzip"),
        (b"identity;q=0", b""),  # as it is, all the same: better than nothing
        (b"gzip;q=2", b""),  # no weight
        (b"gzip;q=", b""),
        (b"deflate", b""),
        (b",,gzip,", b"gzip"),
    ],
)
def test_coding(accepted: bytes, coding: bytes) -> None:
    assert choose_coding(accepted, ALL) == coding


def test_without_a_choice_there_is_none() -> None:
    assert choose_coding(b"gzip, br", ()) == b""


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        (b"TEXT/HTML;charset=utf-8;q=0.1", True),
        (b"*/*", False),
        (b"", False),
        (b"application/json", False),
        (b"text/html;q=0", False),
    ],
)
def test_page_is_wanted_by_who_names_html(accepted: bytes, wanted: bool) -> None:
    assert accepts_html(accepted) is wanted
