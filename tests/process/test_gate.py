"""Pause and maintenance of a running server, by its commands."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.server import RawClient, Server, serving, wait_until
from tests.process.test_control import edge, status

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode() + body})
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, APPLICATION, "--trusted-proxy", "127.0.0.1", "--queue", "3") as server:
        yield server


def request(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


def ask(server: Server, path: str = "/", *fields: str) -> tuple[int, dict[bytes, bytes], bytes]:
    with RawClient(server.port) as client:
        client.send(request(path, *fields))
        return client.receive_response()


def waiting(folder: Path) -> Any:
    return status(folder)["queue"]


def test_requests_wait_while_the_server_is_paused_and_none_is_lost(server: Server, tmp_path: Path) -> None:
    assert edge(tmp_path, "pause", "--max", "10m") == "paused: new requests wait; edge resume lets them through\n"
    with RawClient(server.port) as first, RawClient(server.port) as second:
        first.send(request("/first"))
        second.send(b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
        wait_until(lambda: waiting(tmp_path) == 2, "two requests wait")
        second.send(b" way")
        # Probes are answered, and the balancer goes on sending.
        assert [ask(server, path)[0] for path in ("/.edge/health", "/.edge/ready")] == [200, 200]
        assert "paused: requests wait, at most 600 s" in edge(tmp_path, "status")
        assert "upgrade: paused" in edge(tmp_path, "upgrade", code=1)
        # It stays so over a reload, which replaces the worker.
        assert edge(tmp_path, "reload") == "reloaded: 1 worker\n"
        assert waiting(tmp_path) == 2
        with RawClient(server.port) as third, RawClient(server.port) as fourth:
            third.send(request("/third"))
            wait_until(lambda: waiting(tmp_path) == 3, "three requests wait")
            fourth.send(request("/fourth"))
            answered, fields, _ = fourth.receive_response()
            assert (answered, fields[b"retry-after"]) == (503, b"1")
            server.wait_error("paused: 3 requests wait, at most 3 allowed")
            assert edge(tmp_path, "resume") == "resumed: requests are let through\n"
            assert [client.receive_response()[2] for client in (first, second, third)] == [
                b"/first",
                b"/secondhalf way",
                b"/third",
            ]
    assert ask(server, "/after")[2] == b"/after"


def test_edge_that_is_replaced_stays_paused_and_the_time_to_wait_has_an_end(server: Server, tmp_path: Path) -> None:
    edge(tmp_path, "pause", "--max", "100ms")
    [before] = server.edges()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: server.edges() and server.edges() != [before], "another edge")
    answered, fields, _ = wait_until(lambda: ask(server), "an answer")
    assert (answered, fields[b"retry-after"]) == (503, b"1")
    server.wait_error(r"paused for longer than 0\.1 s")


def test_maintenance_lets_nobody_through_but_those_allowed(server: Server, tmp_path: Path) -> None:
    assert edge(tmp_path, "maintenance", "on", "--allow", "192.0.2.0/24", "--retry-after", "5m") == "maintenance: on\n"
    answered, fields, body = ask(server)
    assert (answered, fields[b"retry-after"], body[:23]) == (503, b"300", b"503 Service Unavailable")
    assert ask(server, "/in", "X-Forwarded-For: 192.0.2.7")[2] == b"/in"
    assert ask(server, "/.edge/health")[0] == 200
    assert "maintenance: requests get 503, but for 192.0.2.0/24" in edge(tmp_path, "status")
    assert edge(tmp_path, "maintenance", "off") == "maintenance: off\n"
    assert ask(server, "/out")[2] == b"/out"
    assert "maintenance" not in edge(tmp_path, "status")
    assert "not an address or network" in edge(tmp_path, "maintenance", "on", "--allow", "home", code=1)
