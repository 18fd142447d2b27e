"""Rows of test_rows.py that no other test shows, on the command of the guides for a container."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.process.server import Server, running, wait_until

SOURCE = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/never":
        await asyncio.Event().wait()
    body = f"{os.getpid()} {scope['scheme']} {scope['client'][0]}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ["--host", "127.0.0.1", "--port", "0", "--workers", "4", "--proxy-headers", "--log-level", "info"]
    options += ["--backlog", "77", "--timeout-request", "1", "--timeout-graceful-shutdown", "1"]
    with running(tmp_path_factory.mktemp("rows"), SOURCE, *options) as server:
        wait_until(lambda: len(server.workers()) == 4, "four workers run")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client


def test_c4_four_workers_serve(server: Server, client: httpx.Client) -> None:
    assert int(client.get("/").text.split()[0]) in server.workers()
    assert len(set(server.workers())) == 4


def test_f5_proxy_headers_take_the_word_of_this_machine(client: httpx.Client) -> None:
    answer = client.get("/", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    assert answer.text.split()[1:] == ["https", "203.0.113.9"]


def test_f20_backlog_is_the_systems(server: Server) -> None:
    listing = subprocess.run(["ss", "-Hltn", f"sport = :{server.port}"], capture_output=True, text=True, check=True)
    # Of a listening socket, this column is what may wait (ss(8)).
    assert listing.stdout.split()[2] == "77"


def test_f27_request_that_takes_too_long_is_504(client: httpx.Client) -> None:
    assert client.get("/never", timeout=30).status_code == 504
