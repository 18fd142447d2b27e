"""The process that keeps certificates, as the master sees it: a real process, and a clock of the test's."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from edge.keeper import LAST_PAUSE, NEVER, KeeperProcess
from edge_certs.settings import AuthoritySettings, KeeperSettings
from edge_certs.state import Issuance
from tests.process.server import clean_environment, wait_until


def settings(home: Path) -> KeeperSettings:
    """One certificate, from an authority at a port of this machine where nobody listens."""
    directory = "https://127.0.0.1:1/dir"
    wanted = Issuance(("shop.test",), directory, ("http-01",))
    return KeeperSettings(home, AuthoritySettings(directory), (wanted,), "critical")


def children() -> set[int]:
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    own = {int(pid) for pid in text.split()}
    return {pid for pid in own if b"edge_certs" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def the_process() -> int:
    # Between its start and its first instruction it has no command line.
    [pid] = wait_until(children, "the process runs")
    return int(pid)


def test_nothing_runs_where_nothing_is_kept() -> None:
    keeper = KeeperProcess(None, {})
    keeper.begin(1.0)
    assert keeper.deadline == NEVER
    keeper.due(2.0)
    keeper.reap(3.0)
    keeper.end(0.0)
    assert children() == set()


def test_process_waits_for_the_listeners(tmp_path: Path) -> None:
    keeper = KeeperProcess(settings(tmp_path), clean_environment())
    assert keeper.deadline == NEVER
    keeper.due(1.0)
    assert children() == set()
    keeper.begin(2.0)
    assert keeper.deadline == 2.0
    keeper.due(2.0)
    try:
        assert the_process()
        assert keeper.deadline == NEVER
    finally:
        keeper.end(30.0)
    assert children() == set()


def test_process_that_dies_is_started_again_more_and_more_slowly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = KeeperProcess(settings(tmp_path), clean_environment())
    keeper.begin(0.0)
    now, pauses = 0.0, []
    with caplog.at_level(logging.ERROR, "edge.master"):
        for _ in range(3):
            keeper.due(now)
            os.kill(the_process(), signal.SIGKILL)

            def ended(now: float = now) -> bool:
                keeper.reap(now)
                return keeper.deadline < NEVER

            wait_until(ended, "its end is seen")
            pauses.append(keeper.deadline - now)
            now = keeper.deadline
    assert pauses == [2.0, 4.0, 8.0]
    assert caplog.messages[0] == (
        "certificates: the process that renews them ended with killed by SIGKILL; again in 2 s"
    )
    # One that ran for long did not fail at its start.
    keeper.due(now)
    pid = the_process()
    os.kill(pid, signal.SIGKILL)

    def ended_later() -> bool:
        keeper.reap(now + LAST_PAUSE + 1)
        return keeper.deadline < NEVER

    wait_until(ended_later, "its end is seen")
    assert keeper.deadline == now + LAST_PAUSE + 2.0


def test_process_that_hangs_is_killed_at_the_end(tmp_path: Path) -> None:
    keeper = KeeperProcess(settings(tmp_path), clean_environment())
    keeper.begin(0.0)
    keeper.due(0.0)
    pid = the_process()
    os.kill(pid, signal.SIGSTOP)
    keeper.end(0.1)
    assert children() == set()
