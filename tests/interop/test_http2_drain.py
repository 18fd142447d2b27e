"""Other people's clients with requests under way when `edge` reloads, stops or ends a connection: none is lost."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edge.net.farewell import QUIET
from tests.interop.http2_tools import curl, run
from tests.process.http2_client import APPLICATION, Http2Client
from tests.process.server import Authority, Server, serving, wait_until

Client = Callable[[str, Authority], int]


def count_curl(url: str, authority: Authority) -> int:
    options = ["--parallel", "--parallel-max", "10", "--no-progress-meter", "-o", "/dev/null"]
    told = curl(*options, "-w", "%{http_version} %{http_code}\n", f"{url}?[1-10]", authority=authority)
    return told.splitlines().count("2 200")


def count_nghttp(url: str, authority: Authority) -> int:
    return len(re.findall(r"\s200\s", run("nghttp", "-n", "-s", "-m", "10", url, authority=authority)))


def count_h2load(url: str, authority: Authority) -> int:
    told = run("h2load", "-n", "10", "-c", "2", "-m", "5", url, authority=authority)
    [succeeded] = re.findall(r"(\d+) succeeded, 0 failed, 0 errored", told) or ["0"]
    return int(succeeded)


def count_httpx(url: str, authority: Authority) -> int:
    with httpx.Client(http2=True, verify=authority.client_context(), trust_env=False, timeout=60) as client:
        return int(client.get(url).status_code == 200)


@pytest.mark.parametrize(
    ("number", "counts"),
    [
        pytest.param(signal.SIGHUP, {count_curl: 10, count_nghttp: 10, count_h2load: 10, count_httpx: 1}, id="reload"),
        # Not httpx: what it has had under way for a second it gives up when it is told of the end.
        pytest.param(signal.SIGTERM, {count_curl: 10, count_nghttp: 10, count_h2load: 10}, id="stop"),
    ],
)
def test_no_client_loses_what_is_under_way(
    tmp_path: Path, authority: Authority, number: signal.Signals, counts: dict[Client, int]
) -> None:
    with serving(tmp_path, APPLICATION, authority=authority) as server, ThreadPoolExecutor(len(counts)) as threads:
        url = f"https://localhost:{server.port}/waits/key"
        try:
            found = {count: threads.submit(count, url, authority) for count in counts}
            with Http2Client(server, authority) as client:
                all_run = sum(counts.values())
                wait_until(lambda: client.ask("/calls").json()["running"].get("waits") == all_run, "all are under way")
            workers = set(server.workers())
            server.process.send_signal(number)
            wait_until(lambda: _has_begun(server, number, workers), "it has begun")
        finally:
            (tmp_path / "go").write_text("")
        assert {count: future.result() for count, future in found.items()} == counts


def _has_begun(server: Server, number: signal.Signals, workers: set[int]) -> bool:
    """Tell whether new workers are there, or nobody is listened to any more."""
    if number == signal.SIGHUP:
        return bool(set(server.workers()) - workers)
    try:
        httpx.get(f"http://127.0.0.1:{server.port}/", trust_env=False)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False
    return False


def test_httpx_with_one_request_at_a_time_loses_none_when_connections_end(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(tmp_path, APPLICATION, "--keepalive-requests", "2", authority=authority) as server,
        httpx.Client(http2=True, verify=authority.client_context(), trust_env=False, timeout=60) as client,
    ):
        for _ in range(10):
            began = time.monotonic()
            try:
                answer = client.get(f"https://localhost:{server.port}/large/50000")
            except httpx.RemoteProtocolError:
                assert time.monotonic() - began > QUIET, "told of the end before the answer was whole"
                continue
            assert (answer.status_code, len(answer.content)) == (200, 50_000)
