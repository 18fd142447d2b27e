"""Worker processes as the master sees them: real processes, their reports and their end."""

from __future__ import annotations

import os
import select
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_backend import wire
from edge_backend.supervisor import Report, WorkerProcess
from tests.backend.test_settings import SETTINGS
from tests.process.server import clean_environment, wait_until

HELLO = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # the path of a Unix socket is short
        yield Path(folder)


def start(run_dir: Path, folder: Path, source: str) -> WorkerProcess:
    (folder / "supervised.py").write_text(source)
    settings = replace(SETTINGS, target="supervised:app", app_dir=str(folder), factory=False, root_path="", number=5)
    return WorkerProcess(settings, run_dir, clean_environment())


def wait_report(worker: WorkerProcess) -> Report:
    """Wait for what the worker says first."""
    select.select([worker.control], [], [], 20)
    report = worker.read_report()
    assert report is not None
    return report


def end(worker: WorkerProcess) -> str:
    """Wait for the process to end, and release it."""
    how: str = wait_until(worker.poll, "the worker ends")
    worker.release()
    return how


def test_worker_reports_ready_serves_and_stops(run_dir: Path, tmp_path: Path) -> None:
    worker = start(run_dir, tmp_path, HELLO)
    assert worker.number == 5
    assert worker.read_report() is None
    assert worker.poll() is None
    assert wait_report(worker) == Report(True)
    frames: list[wire.Frame] = []
    reader = wire.FrameReader()
    with socket.socket(socket.AF_UNIX) as edge:
        edge.settimeout(10)
        edge.connect(worker.path)
        parts = [b"GET", b"/", b"1.1", b"http", b"", b"0", b"localhost", b"80"]
        edge.sendall(wire.encode_frame(wire.REQUEST, wire.END, 1, wire.join_request(parts, 8)))
        while len(frames) < 3:
            frames += reader.receive(edge.recv(65536))
    assert [frame[0] for frame in frames] == [wire.HELLO, wire.READY, wire.RESPONSE]
    assert wire.decode_hello(frames[0][3]) == (worker.process.pid, 5)
    assert frames[2][4] == b"hello"
    worker.stop()
    assert end(worker) == "exit code 0"
    assert not Path(worker.path).exists()


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("", 2, "application 'supervised:app': module 'supervised' has no attribute 'app'"),
        ("raise RuntimeError('two\\nlines')", 1, "application 'supervised:app' failed to start: RuntimeError: two"),
    ],
)
def test_worker_that_cannot_start_reports_code_and_reason(
    run_dir: Path, tmp_path: Path, source: str, code: int, message: str
) -> None:
    worker = start(run_dir, tmp_path, source)
    report = wait_report(worker)
    assert (report.ready, report.code) == (False, code)
    assert report.message.startswith(message)
    wait_until(lambda: worker.process.poll() is not None, "the worker ends")
    with pytest.raises(EOFError):
        worker.read_report()
    assert end(worker) == f"exit code {code}"


def test_worker_that_is_killed_says_by_what(run_dir: Path, tmp_path: Path) -> None:
    worker = start(run_dir, tmp_path, HELLO)
    wait_report(worker)
    worker.kill()
    assert end(worker) == "killed by SIGKILL"
    worker.kill()
    worker.stop()


def test_worker_ends_when_its_master_is_gone(run_dir: Path, tmp_path: Path) -> None:
    worker = start(run_dir, tmp_path, HELLO)
    wait_report(worker)
    worker.control.shutdown(socket.SHUT_RDWR)
    assert end(worker) == "exit code 0"


def test_worker_does_not_obey_the_signals_of_a_process_group(run_dir: Path, tmp_path: Path) -> None:
    worker = start(run_dir, tmp_path, HELLO)
    wait_report(worker)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.process.pid, number)
    worker.stop()
    assert end(worker) == "exit code 0"


def test_worker_of_another_version_counts_as_failed(run_dir: Path, tmp_path: Path) -> None:
    worker = start(run_dir, tmp_path, HELLO + "from edge_backend import wire\nwire.VERSION = 999\n")
    found = f"the installed edge speaks version 999 of the wire, the running one {wire.VERSION}; use edge upgrade"
    assert wait_report(worker) == Report(False, 1, found)
    worker.stop()
    assert end(worker) == "exit code 0"


def test_worker_writes_its_stacks_when_told_and_goes_on(
    run_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = start(run_dir, tmp_path, HELLO)
    wait_report(worker)
    written = ""
    worker.dump()

    def is_written() -> bool:
        nonlocal written
        written += capfd.readouterr().err
        return "edge_backend/process.py" in written

    wait_until(is_written, "the stacks")
    assert "most recent call first" in written
    assert worker.memory > 2**20
    assert worker.descriptors > 3
    worker.stop()
    assert end(worker) == "exit code 0"
    assert worker.memory == worker.descriptors == 0
