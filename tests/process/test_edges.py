"""Edge processes that die, and what clients that come and go leave behind."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.process.load import APPLICATION, Connection, Load
from tests.process.server import DEADLINE, Authority, RawClient, serving, wait_until
from tests.process.test_control import ready, status
from tests.process.test_pool import ask


def test_no_connection_is_refused_while_edges_are_killed(tmp_path: Path, authority: Authority) -> None:
    refused: list[OSError] = []
    done = threading.Event()

    def knock(port: int) -> None:
        while not done.is_set():
            try:
                socket.create_connection(("127.0.0.1", port), DEADLINE).close()
            except OSError as error:
                refused.append(error)
            time.sleep(0.002)  # so that the backlog is not what refuses

    with serving(tmp_path, APPLICATION, "--edges", "2", authority=authority) as server:
        thread = threading.Thread(target=knock, args=(server.port,))
        thread.start()
        try:
            for _ in range(3):
                victim = wait_until(lambda: len(server.edges()) == 2 and server.edges()[0], "two edges run")
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda: victim not in server.edges(), "it is gone")  # noqa: B023
                with Connection(server.port, authority.client_context()) as client:
                    assert client.ask("GET", "/").status == 200
        finally:
            done.set()
            thread.join(DEADLINE)
    assert refused == []


@pytest.mark.skipif(sys.platform != "linux", reason="smaps_rollup, which says what is shared, is Linux's")
def test_edge_shares_most_of_its_memory_with_the_master(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, authority=authority) as server:
        with Connection(server.port, authority.client_context()) as client:
            assert client.ask("GET", "/").status == 200
        rows = Path(f"/proc/{server.edges()[0]}/smaps_rollup").read_text().splitlines()[1:]
        size = {name: int(value.split()[0]) for name, value in (row.split(":") for row in rows)}
        assert size["Shared_Dirty"] > size["Private_Dirty"]


def test_only_the_connections_of_a_killed_edge_break(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, "--edges", "2", "--workers", "2", authority=authority) as server:
        wait_until(lambda: len(ready(tmp_path)) == 2, "two workers are ready")
        workers = server.workers()
        with Load(server.port, authority.client_context(), kinds=("connect", "connect", "post")) as load:
            before = len(load.failures)
            os.kill(wait_until(lambda: len(server.edges()) == 2 and server.edges()[0], "two run"), signal.SIGKILL)
            wait_until(lambda: len(server.edges()) == 2, "another edge runs")
            load.wait_more(1) if not load.failures else None
        # Each client had one connection, so as many at most can have broken.
        assert before == 0
        assert len(load.failures) <= 3
        assert {code for _, code in load.statuses} == {200}
        assert server.workers() == workers
        with Load(server.port, authority.client_context(), kinds=("keep-alive", "stream")) as after:
            after.wait_more(2)
        assert after.failures == []


def left_behind(folder: Path) -> list[dict[str, Any]]:
    """What the processes hold that clients could have left."""
    found = status(folder)
    names = ("descriptors", "connections", "queue", "tasks", "in_flight")
    return [{name: item.get(name) for name in names} for item in (*found["edges"], *found["workers"])]


def settled(folder: Path) -> list[dict[str, Any]] | None:
    """What the processes hold when nothing is open, None while something is."""
    found = left_behind(folder)
    idle = not any(item["connections"] or item["in_flight"] for item in found)
    idle = idle and found[0]["connections"] is not None
    return found if idle and found == left_behind(folder) else None


def test_status_counts_what_runs_and_waits(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--worker-concurrency", "1") as server:
        [idle] = [worker["tasks"] for worker in status(tmp_path)["workers"]]
        clients = [RawClient(server.port) for _ in range(3)]
        for client in clients:
            client.send(b"GET /gate HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: status(tmp_path)["queue"] == 2, "two wait")
        found = status(tmp_path)
        assert [(worker["in_flight"], worker["tasks"]) for worker in found["workers"]] == [(1, idle + 1)]
        assert [item["connections"] for item in found["edges"]] == [3]
        (tmp_path / "open").touch()
        for client in clients:
            assert client.receive_response()[0] == 200
            client.sock.close()
        assert ask(server.port)[0] == 200
        wait_until(lambda: status(tmp_path)["workers"][0]["tasks"] == idle, "no task of a request is left")


def test_status_does_not_wait_for_a_worker_that_hangs(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--worker-timeout", "60") as server:
        [worker] = server.workers()
        os.kill(worker, signal.SIGSTOP)
        try:
            assert status(tmp_path)["workers"][0]["pid"] == worker
        finally:
            os.kill(worker, signal.SIGCONT)
        wait_until(lambda: status(tmp_path)["workers"][0]["tasks"] > 0, "it answers again")
