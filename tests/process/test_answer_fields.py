"""What the edge adds to answers, and what it takes: --header, --no-server-header, --no-date-header, --ws none."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.server import Authority, RawClient, Server, serving

SOURCE = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    own = [(b"server", b"own"), (b"date", b"own"), (b"x-app", b"1")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": own})
    await send({"type": "http.response.body", "body": scope["client"][0].encode()})
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    options = ["--header", "X-Frame-Options: DENY", "--header", "Server:shop", "--no-date-header", "--ws", "none"]
    options += ["--forwarded-allow-ips", "*", "--forwarded-hops", "1", "--http2", "on"]
    with serving(tmp_path_factory.mktemp("served"), SOURCE, *options, authority=authority) as server:
        yield server


def get(server: Server, authority: Authority, path: str, *, http2: bool) -> httpx.Response:
    with httpx.Client(http2=http2, verify=authority.client_context(), trust_env=False) as client:
        response = client.get(
            f"https://localhost:{server.port}{path}", headers={"X-Forwarded-For": "9.9.9.9, 8.8.8.8, 7.7.7.7"}
        )
    assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    return response


@pytest.mark.parametrize("http2", [False, True])
def test_answer_has_the_given_fields_and_no_date(server: Server, authority: Authority, http2: bool) -> None:
    response = get(server, authority, "/", http2=http2)
    assert response.headers.get_list("x-frame-options") == ["DENY"]
    assert response.headers.get_list("server") == ["shop"]
    assert "date" not in response.headers
    assert len(response.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("http2", [False, True])
def test_the_applications_own_fields_win(server: Server, authority: Authority, http2: bool) -> None:
    response = get(server, authority, "/own", http2=http2)
    assert response.headers.get_list("server") == ["own"]
    assert response.headers.get_list("date") == ["own"]
    assert response.headers["x-frame-options"] == "DENY"


def test_hops_bound_whose_word_counts_where_everyone_is_trusted(server: Server, authority: Authority) -> None:
    assert get(server, authority, "/", http2=False).text == "7.7.7.7"


def test_websocket_is_refused_and_the_connection_goes_on(server: Server, authority: Authority) -> None:
    key = base64.b64encode(bytes(16)).decode()
    upgrade = f"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    with RawClient(server.port, authority.client_context()) as client:
        client.send(f"GET / HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n".encode())
        status, fields, _ = client.receive_response()
        assert (status, fields[b"x-frame-options"]) == (403, b"DENY")


def test_refusals_have_the_fields_too(server: Server, authority: Authority) -> None:
    with RawClient(server.port, authority.client_context()) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        status, fields, _ = client.receive_response()
        assert (status, fields[b"server"], b"date" in fields) == (400, b"shop", False)


def test_servers_name_can_be_left_out(tmp_path: Path) -> None:
    with serving(tmp_path, SOURCE, "--no-server-header") as server, httpx.Client(trust_env=False) as client:
        response = client.get(f"http://127.0.0.1:{server.port}/")
        assert "server" not in response.headers
        assert "date" in response.headers
