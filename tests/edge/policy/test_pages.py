"""What the edge says by itself: text, pages of the operator, and problems in JSON for who asks for that."""

from __future__ import annotations

import json

import pytest

from edge.policy.pages import HTML, NO_PAGES, PROBLEM, TEXT, ErrorPages, error_page, wants_json

PAGES = ErrorPages(
    {
        "404.html": "<p>not here</p>",
        "5xx.html": "<p>{{status}} {{ reason }}: {{request_id}}</p>",
        "error.html": "{{ request_id }} {{other}} {status}",
    }
)


@pytest.mark.parametrize(
    ("status", "page"),
    [
        (400, b"400 Bad Request\nrequest id: id-1\n"),
        (413, b"413 Content Too Large\nrequest id: id-1\n"),
        (503, b"503 Service Unavailable\nrequest id: id-1\n"),
        (599, b"599 Unknown\nrequest id: id-1\n"),
    ],
)
def test_text_has_the_phrase_and_the_id(status: int, page: bytes) -> None:
    assert error_page(status, b"id-1") == page
    assert NO_PAGES.render(status, b"id-1") == (TEXT, page)


@pytest.mark.parametrize(
    ("status", "page"),
    [
        (404, b"<p>not here</p>"),
        (503, b"<p>503 Service Unavailable: id-1</p>"),
        (421, b"id-1 {{other}} {status}"),
    ],
)
def test_page_of_the_status_comes_before_that_of_its_hundred_and_that_for_all(status: int, page: bytes) -> None:
    assert PAGES.render(status, b"id-1") == (HTML, page)


def test_status_without_a_page_is_text() -> None:
    assert ErrorPages({"5xx.html": "page"}).render(404, b"id-1") == (TEXT, error_page(404, b"id-1"))
    assert PAGES.render(308, b"id-1") == (TEXT, error_page(308, b"id-1"))


@pytest.mark.parametrize("request_id", [b"<script>alert(1)</script>", b"{{status}}", b"\"&'", b"\xff"])
def test_id_is_text_in_a_page_whatever_a_proxy_made_of_it(request_id: bytes) -> None:
    _, page = PAGES.render(421, request_id)
    assert page.isascii() or request_id == b"\xff"
    assert b"<" not in page
    assert not {b'"'[0], b"'"[0]} & set(page)
    assert page.endswith(b" {{other}} {status}")


def test_problem_is_that_of_rfc_9457() -> None:
    media_type, content = PAGES.render(503, b"id-1", [b"accept\napplication/json"])
    assert media_type == PROBLEM
    assert json.loads(content) == {"title": "Service Unavailable", "status": 503, "request_id": "id-1"}
    assert json.loads(NO_PAGES.render(500, b'"\n\xff', [b"accept\napplication/json"])[1])["request_id"] == '"\n\xff'


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"application/json", True),
        (b"Application/JSON", True),
        (b"application/problem+json", True),
        (b"application/vnd.api+json", True),
        (b"application/json, text/plain, */*", True),
        (b"application/json, text/javascript, */*; q=0.01", True),
        (b"text/html;q=0.5 , application/json ; q=0.9", True),
        (b"application/json;charset=utf-8;q=1.0", True),
        (b"", False),
        (b"*/*", False),
        (b"application/*", False),
        (b"text/plain, application/json", False),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (b"text/*, application/json;q=0.9", False),
        (b"application/json;q=0", False),
        (b"application/json;q=0.0, text/html;q=0", False),
        (b"application/jsonp", False),
        (b"application/json+x", False),
        (b",;q=1,", False),
        (b"image/png", False),
    ],
)
def test_json_is_for_who_asks_for_it(accept: bytes, expected: bool) -> None:
    assert wants_json([b"host\nshop.example", b"accept\n" + accept]) is expected


def test_fields_of_one_name_are_one_list() -> None:
    assert wants_json([b"accept\ntext/html;q=0.3", b"accept\napplication/json;q=0.4"])
    assert not wants_json([])
    assert not wants_json([b"accept-language\napplication/json"])
