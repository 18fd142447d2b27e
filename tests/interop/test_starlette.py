"""Starlette behind a real `edge serve` over TLS: mounts, sessions, static files, redirects, WebSocket endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.interop.conftest import Serve
from tests.process.server import DEADLINE, Authority, Server

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("itsdangerous", reason="itsdangerous is not installed: no sessions")

ASSET = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    files = tmp_path_factory.mktemp("static") / "public"
    files.mkdir()
    files.with_name("secret.txt").write_text("secret")
    (files / "index.html").write_text("<h1>index</h1>")
    (files / "large.bin").write_bytes(ASSET)
    return serve("site_starlette:app", STATIC_FILES=str(files), EDGE_SERVER_NAME="*")


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[httpx.Client]:
    base = f"https://localhost:{server.port}"
    with httpx.Client(base_url=base, verify=authority.client_context(), trust_env=False, timeout=30) as client:
        yield client


def test_mounted_application_sees_its_root_path(client: httpx.Client, server: Server) -> None:
    seen = client.get("/sub/where?x=1").json()
    assert seen == {
        "url": f"https://localhost:{server.port}/sub/where?x=1",
        "root_path": "/sub",
        "path": "/sub/where",
    }


def test_session_cookie_for_https_only_lasts_from_request_to_request(client: httpx.Client) -> None:
    assert [client.get("/count").json()["visits"] for _ in range(3)] == [1, 2, 3]


def test_static_file_arrives_whole_and_in_ranges(client: httpx.Client) -> None:
    whole = client.get("/static/large.bin")
    assert (whole.content, whole.headers["content-length"]) == (ASSET, str(len(ASSET)))
    part = client.get("/static/large.bin", headers={"range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, ASSET[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(ASSET)}"


def test_unchanged_static_file_is_a_304_without_content(client: httpx.Client) -> None:
    etag = client.get("/static/").headers["etag"]
    again = client.get("/static/", headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/static/").text == "<h1>index</h1>"


def test_head_of_a_static_file_has_its_length_and_no_content(client: httpx.Client) -> None:
    answer = client.head("/static/large.bin")
    assert (answer.headers["content-length"], answer.content) == (str(len(ASSET)), b"")
    # The connection is still in step.
    assert client.get("/static/").status_code == 200


@pytest.mark.parametrize(("path", "location"), [("/go", "/count"), ("/sub/slash", "/sub/slash/")])
def test_redirect_carries_https_and_the_host_that_was_asked(
    client: httpx.Client, server: Server, path: str, location: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (307, f"https://localhost:{server.port}{location}")


def test_host_that_the_application_does_not_allow_is_refused_by_it(client: httpx.Client) -> None:
    answer = client.get("/count", headers={"host": "evil.example"})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")


def test_websocket_endpoint_answers(server: Server, authority: Authority) -> None:
    address = f"wss://localhost:{server.port}/shout"

    async def talk() -> str | bytes:
        async with connect(address, ssl=authority.client_context(), proxy=None) as socket:
            await socket.send("hello")
            return await socket.recv()

    assert asyncio.run(asyncio.wait_for(talk(), DEADLINE)) == "HELLO"


@pytest.mark.parametrize("path", ["/static/../secret.txt", "/static/%2e%2e/secret.txt", "/static/..%2fsecret.txt"])
def test_file_beside_the_static_files_is_not_reached(client: httpx.Client, path: str) -> None:
    target = httpx.URL(scheme="https", host="localhost", port=client.base_url.port, raw_path=path.encode())
    answer = client.get(target)
    assert answer.status_code == 404
    assert "secret" not in answer.text
