"""The edge's own answers, as clients get them: pages, problems and text; the application's stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.http2_client import Http2Client
from tests.process.server import Authority, RawClient, Server, running, wait_until
from tests.process.test_control import edge

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/broken":
        raise RuntimeError("on purpose")
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/x-own")]})
    await send({"type": "http.response.body", "body": b"own"})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("pages")
    pages = folder / "pages"
    pages.mkdir()
    (pages / "5xx.html").write_text("<h1>Sorry ({{status}})</h1><p>{{request_id}}</p>")
    (pages / "421.html").write_text("<h1>Nobody of this name</h1>")
    (pages / "417.html").write_text("<h1>Words</h1>")
    (pages / "README.txt").write_text("no page")
    arguments = ["--bind", "127.0.0.1:0", "--cert", str(authority.cert), "--error-pages", str(pages)]
    with running(folder, APPLICATION, *arguments, "--max-body", "10") as server:
        yield server, folder


def ask(server: Server, authority: Authority, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    with RawClient(server.port, authority.client_context()) as client:
        client.send(request)
        return client.receive_response()


def get(path: bytes, *fields: bytes, host: bytes = b"localhost") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: " + host, *fields, b"", b""])


def test_page_stands_for_an_answer_of_the_edge_and_has_the_id(
    server: tuple[Server, Path], authority: Authority
) -> None:
    status, fields, body = ask(server[0], authority, get(b"/broken"))
    assert (status, fields[b"content-type"], fields[b"vary"]) == (500, b"text/html; charset=utf-8", b"accept")
    assert body == b"<h1>Sorry (500)</h1><p>%b</p>" % fields[b"x-request-id"]
    status, _, body = ask(server[0], authority, get(b"/", host=b"elsewhere.example"))
    assert (status, body) == (421, b"<h1>Nobody of this name</h1>")


def test_answer_of_the_application_stays_as_it_is(server: tuple[Server, Path], authority: Authority) -> None:
    status, fields, body = ask(server[0], authority, get(b"/"))
    assert (status, fields[b"content-type"], body) == (404, b"text/x-own", b"own")
    assert b"vary" not in fields


def test_client_that_asks_for_json_gets_a_problem(server: tuple[Server, Path], authority: Authority) -> None:
    status, fields, body = ask(server[0], authority, get(b"/broken", b"Accept: application/json"))
    assert (status, fields[b"content-type"]) == (500, b"application/problem+json")
    request_id = fields[b"x-request-id"].decode()
    assert json.loads(body) == {"title": "Internal Server Error", "status": 500, "request_id": request_id}


def test_status_without_a_page_is_text_also_where_the_request_cannot_be_read(
    server: tuple[Server, Path], authority: Authority
) -> None:
    for request in (b"BROKEN\r\n\r\n", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n"):
        status, fields, body = ask(server[0], authority, request)
        assert status in (400, 413)
        assert fields[b"content-type"] == b"text/plain; charset=utf-8"
        assert body.startswith(b"%d " % status)


def test_http2_has_the_same_pages(server: tuple[Server, Path], authority: Authority) -> None:
    with Http2Client(server[0], authority) as client:
        page = client.ask("/broken")
        problem = client.ask("/broken", (b"accept", b"application/problem+json"))
    assert page.fields[b"content-type"] == b"text/html; charset=utf-8"
    assert page.body.startswith(b"<h1>Sorry (500)</h1>")
    assert problem.json()["status"] == 500


def test_pages_are_read_again_by_a_reload(server: tuple[Server, Path], authority: Authority) -> None:
    running, folder = server
    page = folder / "pages/417.html"  # no other test gets that status

    def shown() -> bytes:
        return ask(running, authority, get(b"/", b"Expect: nothing"))[2]

    assert shown() == b"<h1>Words</h1>"
    page.write_text("<h1>Other words</h1>")
    assert shown() == b"<h1>Words</h1>"
    edge(folder, "reload")
    wait_until(lambda: shown() == b"<h1>Other words</h1>", "the new page")
    page.write_bytes(b"\xff")
    assert "417.html': not UTF-8; save it as UTF-8" in edge(folder, "reload", code=1)
    assert shown() == b"<h1>Other words</h1>"
