"""What loses no request, under load from clients of every kind: reload, recycling, scaling."""

from __future__ import annotations

import signal
from collections import Counter
from functools import partial
from pathlib import Path

from edge import control
from tests.process.load import APPLICATION, Load
from tests.process.server import Authority, serving, wait_until
from tests.process.test_control import ready, status


def posts_seen(folder: Path) -> Counter[str]:
    """How often the application has seen each POST."""
    path = folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.split()[1] for line in lines if line.startswith("POST"))


def assert_nothing_lost(load: Load, folder: Path) -> None:
    assert load.failures == []
    assert {code for _, code in load.statuses} <= {200, 101}
    assert set(posts_seen(folder).values()) == {1}


def test_twenty_reloads_lose_no_request(tmp_path: Path, authority: Authority) -> None:
    environ = {"EDGE_HOME": str(tmp_path / "home")}
    with serving(tmp_path, APPLICATION, "--workers", "2", authority=authority) as server:
        with Load(server.port, authority.client_context()) as load:
            for number in range(20):
                assert control.reload(environ, timeout=60) == 2
                others = [line for line in server.access_lines() if line["status"] not in (200, 101)]
                assert load.failures == [], (number, others, server.errors[-10:])
            load.wait_more(1)
        assert_nothing_lost(load, tmp_path)
        assert min(ready(tmp_path)) >= 40
        assert status(tmp_path)["restarts"] == 0


def test_reloads_while_workers_start_lose_no_request(tmp_path: Path, authority: Authority) -> None:
    def newest() -> int:
        return max(int(worker["number"]) for worker in status(tmp_path)["workers"])

    with serving(tmp_path, APPLICATION, "--workers", "2", authority=authority) as server:
        with Load(server.port, authority.client_context()) as load:
            for _ in range(8):
                last = newest()
                server.process.send_signal(signal.SIGHUP)
                wait_until(partial(lambda last: newest() > last, last), "another worker starts")
            assert control.reload({"EDGE_HOME": str(tmp_path / "home")}, timeout=60) == 2
            load.wait_more(1)
        assert_nothing_lost(load, tmp_path)
        assert status(tmp_path)["restarts"] == 0


def test_reloads_lose_no_request_where_none_may_wait(tmp_path: Path, authority: Authority) -> None:
    environ = {"EDGE_HOME": str(tmp_path / "home")}
    settings = tmp_path / "edge.toml"
    settings.write_text("")
    arguments = ("-c", str(settings), "--workers", "1", "--queue", "0")
    with serving(tmp_path, APPLICATION, *arguments, authority=authority) as server:
        with Load(server.port, authority.client_context()) as load:
            for number in range(10):
                # Every other time the edges change, too: new ones are told who serves, and find them.
                settings.write_text(f"[limits]\nmax_connections = {1000 + number // 2}\n")
                assert control.reload(environ, timeout=60) == 1
                load.wait_more(1)
        assert_nothing_lost(load, tmp_path)


def test_workers_that_are_replaced_every_50_requests_lose_none(tmp_path: Path, authority: Authority) -> None:
    arguments = ("--workers", "2", "--max-requests", "50", "--max-requests-jitter", "20")
    with serving(tmp_path, APPLICATION, *arguments, authority=authority) as server:
        with Load(server.port, authority.client_context()) as load:
            wait_until(lambda: load.failures or min(ready(tmp_path), default=0) >= 6, "six workers were replaced")
        assert_nothing_lost(load, tmp_path)
        server.wait_error(r"worker 0: replaced: [0-9]+ requests; it finishes what runs")


def test_workers_that_have_lived_long_enough_are_replaced_before_they_go(tmp_path: Path, authority: Authority) -> None:
    arguments = ("--workers", "2", "--max-worker-lifetime", "1s")
    serve = serving(tmp_path, APPLICATION, *arguments, authority=authority)
    with serve as server, Load(server.port, authority.client_context()) as load:
        wait_until(lambda: len(ready(tmp_path)) == 2, "both workers are ready")
        counts = []

        def are_replaced() -> bool:
            numbers = ready(tmp_path)
            counts.append(len(numbers))
            return bool(load.failures) or min(numbers) >= 4

        wait_until(are_replaced, "four workers were replaced")
        assert min(counts) >= 2  # at no time fewer than there should be
    assert_nothing_lost(load, tmp_path)
    server.wait_error(r"worker 0: replaced: 1 s of life; it finishes what runs")


def test_scaling_up_and_down_loses_no_request(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2", authority=authority) as server:
        with Load(server.port, authority.client_context()) as load:
            for size, number in ((3, signal.SIGTTIN), (2, signal.SIGTTOU), (1, signal.SIGTTOU), (2, signal.SIGTTIN)):
                server.process.send_signal(number)
                wait_until(lambda: len(server.workers()) == len(ready(tmp_path)) == size, f"{size} workers")  # noqa: B023
            load.wait_more(1)
        assert_nothing_lost(load, tmp_path)
