"""What a worker that dies, hangs or stands still costs: exactly what is promised."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.process.load import APPLICATION, Answer, Connection, Load
from tests.process.server import Authority, RawClient, Server, clean_environment, serving, wait_until
from tests.process.test_control import ready, status
from tests.process.test_no_loss import posts_seen
from tests.process.test_pool import ask, wait_notes, wait_workers


@pytest.fixture
def threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(32)


def errors(server: Server, text: str) -> list[str]:
    return [line for line in list(server.errors) if text in line]


def test_killed_workers_lose_no_idempotent_request_and_answer_the_others_at_once(
    tmp_path: Path, authority: Authority
) -> None:
    kinds = ("keep-alive", "pipeline", "post", "upload", "connect")
    with serving(tmp_path, APPLICATION, "--workers", "3", authority=authority) as server:
        wait_until(lambda: len(ready(tmp_path)) == 3, "three workers are ready")
        with Load(server.port, authority.client_context(), kinds=kinds) as load:
            for _ in range(5):
                victim = server.workers()[0]
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda: victim not in server.workers() and len(ready(tmp_path)) == 3, "it is replaced")  # noqa: B023
                load.wait_more(2)
        assert load.failures == []
        failed = {(kind, code): count for (kind, code), count in load.statuses.items() if code != 200}
        assert set(failed) <= {("post", 502), ("upload", 502)}
        # Each refusal is a request that a worker had when it died, and the log says which.
        assert len(errors(server, "refused with 502: worker")) == sum(failed.values())
        assert status(tmp_path)["restarts"] == 5
    assert set(posts_seen(tmp_path).values()) == {1}


def test_each_request_in_flight_that_may_not_be_repeated_is_a_502_and_no_other(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2") as server, threads:
        wait_workers(server, 2)
        running = [threads.submit(ask, server.port, f"/gate{number}", "POST") for number in range(6)]
        running += [threads.submit(ask, server.port, "/gate") for _ in range(6)]
        gated = wait_notes(tmp_path, 12 + 6)
        victim = gated[0][1]
        lost = sum(text == "gate POST" and pid == victim for text, pid in gated)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(errors(server, "refused with 502")) == lost, "the answers to what cannot be repeated")
        (tmp_path / "open").touch()
        codes = Counter(future.result()[0] for future in running)
    assert 0 < lost < 6
    assert codes == {200: 12 - lost, 502: lost}
    assert set(posts_seen(tmp_path).values()) == {1}


# Its first worker stands still as soon as the loop runs again after its start: before an edge has heard of it.
STANDS_STILL = """
import asyncio, os, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if not os.path.exists("once"):
            open("once", "w").close()
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, time.sleep, 1000)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


def test_worker_that_hangs_right_after_its_start_is_replaced(tmp_path: Path) -> None:
    with serving(
        tmp_path, STANDS_STILL, "--workers", "1", "--worker-timeout", "1s", "--queue-timeout", "60s"
    ) as server:
        with RawClient(server.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.receive_response()[0] == 200
        server.wait_error("worker 0: its event loop has shown no sign of life for [0-9]+ s; the stacks of its threads")


@pytest.mark.parametrize("stands_still", [False, True], ids=["time.sleep", "SIGSTOP"])
def test_worker_that_hangs_gets_nothing_new_is_dumped_and_replaced(
    tmp_path: Path, authority: Authority, stands_still: bool
) -> None:
    context = authority.client_context()
    arguments = ("--workers", "2", "--worker-timeout", "4s")
    with (
        serving(tmp_path, APPLICATION, *arguments, authority=authority) as server,
        Connection(server.port, context) as victim,
        Connection(server.port, context) as other,
    ):
        wait_until(lambda: len(ready(tmp_path)) == 2, "two workers are ready")
        victim.send("POST", "/gate" if stands_still else "/hang")
        stuck = wait_notes(tmp_path, 2)[-1][1]
        if stands_still:
            os.kill(stuck, signal.SIGSTOP)
        server.wait_error("worker [0-9]+: no sign of life for [0-9.]+ s; no new requests")
        assert stuck not in {int(other.ask("GET", "/").body) for _ in range(20)}
        assert stuck in server.workers()
        with Load(server.port, context, kinds=("keep-alive", "connect", "post", "pipeline")) as load:
            server.wait_error("its event loop has shown no sign of life for [0-9]+ s; the stacks of its threads follow")
            server.wait_error("its event loop has shown no sign of life for [0-9]+ s; killed")
            assert Answer(victim).status == 502
            wait_until(lambda: stuck not in server.workers() and len(ready(tmp_path)) == 2, "it is replaced")
            load.wait_more(1)
        assert load.failures == []
        assert {code for _, code in load.statuses} == {200}
        # A process that stands still runs no handler; of one that sleeps, the log says where.
        assert bool(errors(server, 'application.py", line')) is not stands_still


def test_worker_that_comes_back_in_time_is_not_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        [pid] = wait_workers(server, 1)
        os.kill(pid, signal.SIGSTOP)
        server.wait_error("no sign of life for [0-9.]+ s; no new requests")
        os.kill(pid, signal.SIGCONT)
        assert ask(server.port)[1] == str(pid).encode()
        server.wait_error("shows signs of life again")
        wait_until(lambda: status(tmp_path)["workers"][0]["silent"] == 0, "the status knows it")
        assert server.workers() == [pid]


def test_crash_loop_is_told_and_what_still_serves_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2", "--max-crashes", "3") as server:
        stays, victim = wait_workers(server, 2)
        (tmp_path / "application.py").write_text("import os; os._exit(7)")
        os.kill(victim, signal.SIGKILL)
        server.wait_error("crash loop: 3 workers have died within 60 s; 1 serve")
        assert {ask(server.port)[1] for _ in range(5)} == {str(stays).encode()}
        (tmp_path / "application.py").write_text(APPLICATION)
        wait_workers(server, 2)


def test_server_ends_when_nothing_can_serve_any_more(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--max-crashes", "3") as server:
        [pid] = wait_workers(server, 1)
        (tmp_path / "application.py").write_text("import os; os._exit(7)")
        os.kill(pid, signal.SIGKILL)
        assert server.wait_end() == 1
    assert server.errors[-1] == "edge: no worker serves, and 3 in a row did not get ready"


def test_stuck_worker_does_not_slow_the_others_down(
    tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "4") as server, threads:
        [victim, *_] = wait_workers(server, 4)
        # A busy machine slows one run or the other down: what the stuck worker costs, it would cost in each pair.
        assert any(is_fair(server, threads, tmp_path, victim) for _ in range(4))


def is_fair(server: Server, threads: concurrent.futures.ThreadPoolExecutor, folder: Path, victim: int) -> bool:
    """Tell whether requests take at most half as long again while a worker stands still."""

    def silent() -> float:
        return float(max(worker["silent"] for worker in status(folder)["workers"]))

    wait_until(lambda: not silent(), "all workers show signs of life")
    before = percentile_99(server, threads)
    os.kill(victim, signal.SIGSTOP)
    try:
        wait_until(silent, "one of them does not")
        return percentile_99(server, threads) < 1.5 * before
    finally:
        os.kill(victim, signal.SIGCONT)


def percentile_99(server: Server, threads: concurrent.futures.ThreadPoolExecutor) -> float:
    """Return the time under which 99 of 100 requests are answered, each of which takes the application 50 ms."""

    def measure(_: int) -> float:
        started = time.monotonic()
        assert ask(server.port, "/slow")[0] == 200
        return time.monotonic() - started

    return sorted(threads.map(measure, range(300)))[296]


def test_application_that_takes_too_long_is_a_504(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--app-timeout", "300ms", "--disconnect-grace", "100ms") as server:
        assert ask(server.port, "/gate")[0] == 504
        server.wait_error("GET '/gate' refused with 504: no answer of the application within 0.3 s")
        # The application's call is cancelled after the grace, and no longer counts as one of the worker's.
        wait_until(lambda: status(tmp_path)["workers"][0]["in_flight"] == 0, "nothing runs")
        assert ask(server.port, "/slow")[0] == 200


def test_overload_is_answered_at_once(tmp_path: Path, threads: concurrent.futures.ThreadPoolExecutor) -> None:
    with serving(tmp_path, APPLICATION, "--worker-concurrency", "2", "--queue", "2") as server, threads:
        # Until the edge has reached the worker, all four would wait, and two of them would be too many.
        assert ask(server.port)[0] == 200
        running = [threads.submit(ask, server.port, "/gate") for _ in range(4)]
        try:
            wait_until(lambda: status(tmp_path)["queue"] == 2, "two requests wait")
            started = time.monotonic()
            assert [ask(server.port)[::2] for _ in range(20)] == [(503, "1")] * 20
            took = time.monotonic() - started
        finally:
            (tmp_path / "open").touch()
        assert took < 10  # what a single one would have waited in the queue
        assert {future.result()[0] for future in running} == {200}


def test_worker_over_its_memory_or_time_is_replaced(tmp_path: Path) -> None:
    source = APPLICATION + "\nweight = bytearray(os.urandom(1) * 100 * 2**20)\n"
    (tmp_path / "other.py").write_text(source)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    arguments = [
        "--port",
        "0",
        "--workers",
        "1",
        "--max-worker-rss",
        "100MiB",
        "--max-worker-lifetime",
        "1h",
        "other:app",
    ]
    with Server(arguments, cwd=tmp_path, environ=environ) as server:
        server.wait_ready()
        server.wait_error("worker 0: replaced: [0-9]+ bytes of memory, at most 104857600 allowed")
        wait_until(lambda: 0 not in [worker["number"] for worker in status(tmp_path)["workers"]], "it has ended")
        assert ask(server.port)[0] == 200
