"""How it ends: what runs is finished, nothing new is taken, and nothing outlives the master."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.server import Authority, RawClient, Server, clean_environment, running, serving, wait_until

# `/wait` answers when the file named `go` is there, `/stream` sends a first piece, then waits for it too.
WAITING = """
import asyncio, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        pathlib.Path("shutdown").write_text("done")
        await send({"type": "lifespan.shutdown.complete"})
        return
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/stream":
        await send(start)
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    pathlib.Path("began").write_text("")
    while scope["path"] != "/" and not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    if scope["path"] != "/stream":
        await send(start)
    await send({"type": "http.response.body", "body": b"done"})
"""
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


def is_running(pid: int) -> bool:
    """Tell whether the process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@contextlib.contextmanager
def request_in_flight(server: Server, folder: Path, path: bytes = b"/wait") -> Iterator[RawClient]:
    """Send a request and wait until the application has it."""
    with RawClient(server.port) as client:
        client.send(GET % path)
        wait_until((folder / "began").exists, "the application has the request")
        yield client


def is_refused(port: int) -> bool:
    with contextlib.closing(socket.socket()) as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_request_in_flight_is_finished_and_the_exit_code_is_0(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING) as server, request_in_flight(server, tmp_path) as client:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(server.port), "new connections are refused")
        assert server.process.poll() is None
        (tmp_path / "go").touch()
        assert client.receive_response()[::2] == (200, b"done")
        client.sock.close()
        assert server.wait_end() == 0
        assert (tmp_path / "shutdown").read_text() == "done"


def test_stream_in_flight_is_finished(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING) as server, request_in_flight(server, tmp_path, b"/stream") as client:
        client.receive_until(b"first ")
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: is_refused(server.port), "new connections are refused")
        (tmp_path / "go").touch()
        assert client.receive_rest().endswith(b"done\r\n0\r\n\r\n")
        client.sock.close()
        assert server.wait_end() == 0


def test_idle_connections_are_closed_at_once(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(tmp_path, WAITING, authority=authority) as server,
        RawClient(server.port, authority.client_context()) as client,
        RawClient(server.port, authority.client_context()) as silent,
    ):
        client.send(GET % b"/")
        client.receive_response()
        server.process.send_signal(signal.SIGTERM)
        # A close_notify, then the end: a client sees that nothing is missing.
        assert client.sock.recv(1) == b""
        assert silent.sock.recv(1) == b""
        assert server.wait_end(5) == 0


def test_answer_during_the_drain_announces_the_close(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING) as server, RawClient(server.port) as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: localhost\r\nX-Part: ")
        with request_in_flight(server, tmp_path):
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_refused(server.port), "new connections are refused")
            client.send(b"2\r\n\r\n")
            (tmp_path / "go").touch()
            answer = client.receive_rest()
            client.sock.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert server.wait_end() == 0


def test_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING) as server, request_in_flight(server, tmp_path) as client:
        children = server.children()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(server.port), "new connections are refused")
        started = time.monotonic()
        # Signals that come together are one: wait for what ends it, not for a time.
        wait_until(lambda: _signal_again(server), "the second signal ends it")
        assert server.wait_end() == 0
        assert time.monotonic() - started < 10
        assert client.receive_rest().startswith(b"HTTP/1.1 503 ")
        assert not [pid for pid in children if is_running(pid)]


def _signal_again(server: Server) -> bool:
    server.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(Exception):
        server.process.wait(0.3)
    return server.process.poll() is not None


def test_signal_that_comes_twice_at_once_still_lets_requests_finish(tmp_path: Path) -> None:
    arguments = ("--port", "0")
    with (
        running(tmp_path, WAITING, *arguments, start_new_session=True) as server,
        request_in_flight(server, tmp_path) as client,
    ):
        # As timeout(1) does: the process, then its group.
        server.process.send_signal(signal.SIGTERM)
        os.killpg(server.process.pid, signal.SIGTERM)
        wait_until(lambda: is_refused(server.port), "new connections are refused")
        (tmp_path / "go").touch()
        assert client.receive_response()[::2] == (200, b"done")
        client.sock.close()
        assert server.wait_end() == 0


def test_drain_timeout_cuts_off_what_still_runs(tmp_path: Path) -> None:
    with (
        serving(tmp_path, WAITING, "--drain-timeout", "300ms") as server,
        request_in_flight(server, tmp_path) as client,
    ):
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_end(10) == 0
        assert client.receive_rest().startswith(b"HTTP/1.1 503 ")
    assert [line for line in server.errors if "drain: 0.3 s are over; what still runs is cut off" in line]


def test_nothing_outlives_a_master_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING, "--workers", "2", "--edges", "2") as server:
        children = wait_until(lambda: len(server.children()) == 4 and server.children(), "all processes run")
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not [pid for pid in children if is_running(pid)], "edges and workers end")
        assert is_refused(server.port)


def test_killed_edge_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING) as server:
        [edge] = wait_until(server.edges, "an edge runs")
        os.kill(edge, signal.SIGKILL)
        wait_until(lambda: server.edges() not in ([edge], []), "another edge runs")
        assert f"edge process {edge} ended; replaced in" in server.wait_error("ended")
        with RawClient(server.port) as client:
            client.send(GET % b"/")
            client.receive_until(b"done")


def test_edge_that_dies_again_and_again_is_replaced_once_a_second(tmp_path: Path) -> None:
    with serving(tmp_path, WAITING) as server:
        [edge] = wait_until(server.edges, "an edge runs")
        os.kill(edge, signal.SIGKILL)
        [second] = wait_until(lambda: server.edges() != [edge] and server.edges(), "another edge runs")
        killed_at = time.monotonic()
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: server.edges() not in ([second], []), "a third edge runs")
        assert time.monotonic() - killed_at > 0.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_run_folder_and_unix_socket_are_removed_at_the_end(tmp_path: Path, short_folder: Path, number: int) -> None:
    run = short_folder / "run"
    run.mkdir()
    path = short_folder / "edge.sock"
    environ = {"XDG_RUNTIME_DIR": str(run)}
    with running(tmp_path, WAITING, "--bind", f"unix:{path}", environ=environ) as server:
        assert [folder.stat().st_mode & 0o777 for folder in run.iterdir()] == [0o700]
        assert path.is_socket()
        assert server.stop(number) == 0
    assert not list(run.iterdir())
    assert not path.exists()


def test_signal_while_the_application_starts_ends_it_soon(tmp_path: Path) -> None:
    starting = """
import asyncio, pathlib

async def app(scope, receive, send):
    pathlib.Path("began").touch()
    await asyncio.sleep(60)
"""
    (tmp_path / "application.py").write_text(starting)
    arguments = ("--port", "0", "--workers", "1", "application:app")
    with Server(arguments, cwd=tmp_path, environ=clean_environment(EDGE_HOME=str(tmp_path))) as server:
        wait_until((tmp_path / "began").exists, "the application starts")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_end(10) == 0
    assert server.errors == []
