"""The pool with real processes: who gets a request, who waits, who is refused, and what a dead worker costs."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.process.server import Authority, RawClient, Server, clean_environment, serving, wait_until

APPLICATION = """
import asyncio, os, subprocess, time

def note(text):
    with open("notes", "a") as notes:
        notes.write(f"{text} {os.getpid()}\\n")

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    path = scope["path"]
    if path.startswith("/gate"):
        note(scope["method"] + path)
        while not os.path.exists("open" + path.replace("/", "-")):
            await asyncio.sleep(0.005)
    elif path == "/read":
        content, more = b"", True
        while more:
            message = await receive()
            content += message["body"]
            more = message["more_body"]
        note("read %d" % len(content))
    elif path == "/block":
        note("block")
        while not os.path.exists("open-block"):
            time.sleep(0.005)
    elif path == "/child":
        child = subprocess.Popen(["sleep", "60"])
        child.terminate()
        content = str(child.wait(10)).encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": content})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def ask(port: int, path: str = "/", method: str = "GET", body: bytes | None = None) -> tuple[int, bytes, str | None]:
    """Send a request on a connection of its own: status, content and Retry-After."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request(method, path, body)
    response = client.getresponse()
    answer = response.status, response.read(), response.headers["retry-after"]
    client.close()
    return answer


def notes(folder: Path) -> list[tuple[str, int]]:
    """What the application noted, and in which process."""
    path = folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in lines]


def wait_notes(folder: Path, count: int) -> list[tuple[str, int]]:
    wait_until(lambda: len(notes(folder)) >= count, f"{count} notes of the application")
    return notes(folder)


def wait_workers(server: Server, count: int) -> list[int]:
    """Wait until so many workers answer."""
    found: set[int] = set()

    def all_answer() -> bool:
        found.clear()
        found.update(int(ask(server.port)[1]) for _ in range(4 * count))
        return len(found) == count

    wait_until(all_answer, f"{count} workers answer")
    return sorted(found)


def wait_for_edge(server: Server) -> None:
    """Wait until the edge has read what was sent before: it answers this without a worker."""
    with RawClient(server.port) as client:
        client.send(b"no request\r\n\r\n")
        assert client.receive_response()[0] == 400


@pytest.fixture
def threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(32)


def test_least_busy_worker_gets_the_request(tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "3") as server, threads:
        wait_workers(server, 3)
        running = [threads.submit(ask, server.port, "/gate") for _ in range(9)]
        counts = Counter(pid for _, pid in wait_notes(tmp_path, 9))
        (tmp_path / "open-gate").touch()
        assert all(future.result()[0] == 200 for future in running)
    assert sorted(counts.values()) == [3, 3, 3]


def test_blocked_worker_does_not_hold_up_what_others_can_serve(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server, threads:
        wait_workers(server, 2)
        blocked = threads.submit(ask, server.port, "/block")
        [(_, stuck)] = wait_notes(tmp_path, 1)
        pids = {int(ask(server.port)[1]) for _ in range(20)}
        (tmp_path / "open-block").touch()
        assert blocked.result()[0] == 200
    assert stuck not in pids
    assert len(pids) == 1


def test_worker_gets_no_more_than_its_share_and_the_rest_waits(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--worker-concurrency", "2") as server, threads:
        running = [threads.submit(ask, server.port, "/gate") for _ in range(6)]
        wait_notes(tmp_path, 2)
        with RawClient(server.port) as client:
            # Whatever is asked behind the six waits behind them: the application sees two only.
            client.send(b"GET /gate HTTP/1.1\r\nHost: x\r\n\r\n")
            client.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
            assert len(notes(tmp_path)) == 2
            (tmp_path / "open-gate").touch()
            client.sock.settimeout(20)
            assert client.receive_response()[0] == 200
        assert [future.result()[0] for future in running] == [200] * 6


def test_full_queue_is_answered_with_503_and_retry_after(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    arguments = ("--worker-concurrency", "1", "--queue", "2")
    with serving(tmp_path, APPLICATION, *arguments) as server, threads:
        running = [threads.submit(ask, server.port, "/gate")]
        wait_notes(tmp_path, 1)
        running += [threads.submit(ask, server.port, "/gate") for _ in range(3)]
        done, rest = concurrent.futures.wait(running, 20, concurrent.futures.FIRST_COMPLETED)
        [(status, _, retry_after)] = [future.result() for future in done]
        assert (status, retry_after) == (503, "1")
        server.wait_error("refused with 503: queue full: 2 requests wait, at most 2 allowed")
        (tmp_path / "open-gate").touch()
        assert [future.result()[0] for future in rest] == [200] * 3


def test_wait_in_the_queue_ends_with_503_and_retry_after(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    arguments = ("--worker-concurrency", "1", "--queue-timeout", "0.2")
    with serving(tmp_path, APPLICATION, *arguments) as server, threads:
        running = threads.submit(ask, server.port, "/gate")
        wait_notes(tmp_path, 1)
        status, _, retry_after = ask(server.port)
        assert (status, retry_after) == (503, "1")
        server.wait_error("refused with 503: no worker had room in time")
        (tmp_path / "open-gate").touch()
        assert running.result()[0] == 200


def test_content_that_comes_while_the_request_waits_reaches_the_application(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--worker-concurrency", "1") as server, threads:
        running = threads.submit(ask, server.port, "/gate")
        wait_notes(tmp_path, 1)
        with RawClient(server.port) as client:
            client.send(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
            wait_for_edge(server)
            client.send(b"x" * 1_000)
            wait_for_edge(server)
            (tmp_path / "open-gate").touch()
            client.send(b"x" * 299_000)
            assert client.receive_response()[0] == 200
        assert running.result()[0] == 200
    assert "read 300000" in [text for text, _ in notes(tmp_path)]


def test_client_that_leaves_the_queue_is_not_served(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--worker-concurrency", "1") as server, threads:
        running = threads.submit(ask, server.port, "/gate")
        wait_notes(tmp_path, 1)
        with RawClient(server.port) as client:
            client.send(b"GET /gate/left HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: [line for line in server.access_lines() if line["status"] == 499], "it is logged")
        (tmp_path / "open-gate").touch()
        assert running.result()[0] == 200
        assert ask(server.port)[0] == 200
    assert [text for text, _ in notes(tmp_path)] == ["GET/gate"]


def test_dead_worker_is_replaced_at_once_and_then_more_slowly(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        pids = []
        for _ in range(3):
            [pid] = wait_workers(server, 1)
            pids.append(pid)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: pid not in server.workers(), "the worker is gone")  # noqa: B023
        wait_workers(server, 1)
        delays = [line.rpartition("replaced in ")[2] for line in server.errors if "killed by SIGKILL; replaced" in line]
    assert len(set(pids)) == 3
    assert delays == ["0.0 s", "0.1 s", "0.2 s"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_idempotent_request_on_a_killed_worker_is_served_by_another(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor, method: str
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server, threads:
        wait_workers(server, 2)
        running = threads.submit(ask, server.port, "/gate", method, b"content" if method == "PUT" else None)
        [(_, first)] = wait_notes(tmp_path, 1)
        os.kill(first, signal.SIGKILL)
        [_, (_, second)] = wait_notes(tmp_path, 2)
        (tmp_path / "open-gate").touch()
        status, body, _ = running.result()
    assert status == 200
    assert second != first
    assert body == (b"" if method == "HEAD" else str(second).encode())


def test_idempotent_request_survives_its_only_worker(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION) as server, threads:
        running = threads.submit(ask, server.port, "/gate")
        [(_, first)] = wait_notes(tmp_path, 1)
        os.kill(first, signal.SIGKILL)
        wait_notes(tmp_path, 2)
        (tmp_path / "open-gate").touch()
        assert running.result()[0] == 200


def test_request_that_kills_two_workers_gets_502(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server, threads:
        wait_workers(server, 2)
        running = threads.submit(ask, server.port, "/gate")
        for count in (1, 2):
            os.kill(wait_notes(tmp_path, count)[-1][1], signal.SIGKILL)
        assert running.result()[0] == 502
    assert len(notes(tmp_path)) == 2


@pytest.mark.parametrize("content", [None, b"x" * 10])
def test_post_on_a_killed_worker_gets_502_and_is_never_seen_twice(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor, content: bytes | None
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server, threads:
        wait_workers(server, 2)
        running = threads.submit(ask, server.port, "/gate", "POST", content)
        [(_, first)] = wait_notes(tmp_path, 1)
        os.kill(first, signal.SIGKILL)
        assert running.result()[0] == 502
        server.wait_error("POST '/gate' refused with 502: worker [0-9]+ died")
        wait_workers(server, 2)
    assert notes(tmp_path) == [("POST/gate", first)]


def test_requests_during_a_crash_are_all_answered(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server, threads:
        [victim, _] = wait_workers(server, 2)
        running = [threads.submit(ask, server.port) for _ in range(100)]
        os.kill(victim, signal.SIGKILL)
        running += [threads.submit(ask, server.port) for _ in range(100)]
        assert {future.result()[0] for future in running} == {200}


def test_children_of_the_application_obey_sigterm(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        assert ask(server.port, "/child")[1] == b"-15"


def test_worker_ignores_signals_that_are_the_masters(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        [pid] = wait_workers(server, 1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        assert [int(ask(server.port)[1]) for _ in range(3)] == [pid] * 3


def test_no_worker_outlives_a_killed_master(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server:
        wait_workers(server, 2)
        pids = server.children()
        server.process.kill()
        server.wait_end()
        wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "every process has ended")


def test_worker_knows_neither_key_nor_file_of_the_certificate(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, authority=authority) as server:
        [pid] = wait_until(server.workers, "a worker runs")
        files = {os.path.realpath(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert str(authority.key) not in files
        assert authority.key.name not in Path(f"/proc/{pid}/cmdline").read_text()


def test_run_directory_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    # A short path: the name of a Unix socket has 107 bytes.
    with tempfile.TemporaryDirectory() as run, serving(tmp_path, APPLICATION, XDG_RUNTIME_DIR=run) as server:
        [folder] = Path(run).iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert server.stop() == 0
        assert list(Path(run).iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [("x" * 120, "its path has "), ("missing", "no such file or directory")])
def test_run_directory_that_cannot_be_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    long = tmp_path / name
    if name != "missing":
        long.mkdir()
    environment = clean_environment(XDG_RUNTIME_DIR=str(long), EDGE_HOME=str(tmp_path / "home"))
    with Server(["--port", "0", "application:app"], cwd=tmp_path, environ=environment) as server:
        assert server.wait_end() == 2
        [line] = server.errors
    assert line.startswith(f"edge: run directory in {str(long)!r}: {message}")
    assert "set XDG_RUNTIME_DIR" in line
