"""Datasette, an application that is also its own framework, behind a real `edge serve` over TLS."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.interop.conftest import Serve
from tests.process.server import Authority, Server

pytest.importorskip("datasette", reason="datasette is not installed")


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("site_datasette:app")


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[httpx.Client]:
    base = f"https://localhost:{server.port}"
    with httpx.Client(base_url=base, verify=authority.client_context(), trust_env=False, timeout=30) as client:
        yield client


def test_json_page_has_the_rows_and_links_with_the_public_address(client: httpx.Client, server: Server) -> None:
    page = client.get("/books/book.json?_shape=objects&_size=100").json()
    assert [row["title"] for row in page["rows"]] == [f"Volume {number}" for number in range(1, 101)]
    assert page["next_url"].startswith(f"https://localhost:{server.port}/books/book.json?")
    following = client.get(page["next_url"]).json()
    assert following["rows"][0]["title"] == "Volume 101"


def test_html_page_and_its_assets_are_served(client: httpx.Client) -> None:
    page = client.get("/books/book")
    assert page.status_code == 200
    assert "Volume 1" in page.text
    assert client.get("/-/static/app.css").headers["content-type"].startswith("text/css")


def test_csv_stream_of_all_rows_arrives_whole(client: httpx.Client) -> None:
    rows = client.get("/books/book.csv?_stream=1").text.splitlines()
    assert (len(rows), rows[0], rows[-1]) == (251, "id,title", "250,Volume 250")


def test_query_that_fails_is_a_400_of_the_application(client: httpx.Client) -> None:
    answer = client.get("/books.json?sql=select+*+from+nothing")
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
