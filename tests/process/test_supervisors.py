"""Several servers that share one socket: Supervisor's fcgi-program and Circus's sockets, with the real programs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.process.server import DEADLINE, clean_environment, wait_until

COPIES = 4
SOURCE = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b"%d" % os.getppid()})
"""

# As the guides have them, but for the port and for copies that stay away once they have been ended.
SUPERVISOR = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
[fcgi-program:asgi]
socket = tcp://127.0.0.1:{port}
command = {python} -m edge serve --fd 0 application:app
numprocs = 4
process_name = asgi-%(process_num)d
directory = {folder}
stdout_logfile = {folder}/copy-%(process_num)d.log
redirect_stderr = true
autorestart = false
"""
CIRCUS = """
[circus]
endpoint = ipc://{folder}/endpoint
pubsub_endpoint = ipc://{folder}/pubsub
[watcher:web]
cmd = {python} -m edge serve --fd $(circus.sockets.web) application:app
use_sockets = True
numprocesses = 4
respawn = False
copy_env = True
working_dir = {folder}
stderr_stream.class = FileStream
stderr_stream.filename = {folder}/copies.log
[socket:web]
host = 127.0.0.1
port = {port}
"""


def script(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed beside this Python")
    return str(path)


def supervisor(folder: Path, port: int) -> Sequence[str]:
    (folder / "supervisord.conf").write_text(SUPERVISOR.format(folder=folder, python=sys.executable, port=port))
    return [script("supervisord"), "-c", str(folder / "supervisord.conf")]


def circus(folder: Path, port: int) -> Sequence[str]:
    (folder / "circus.ini").write_text(CIRCUS.format(folder=folder, python=sys.executable, port=port))
    return [script("circusd"), str(folder / "circus.ini")]


def said(folder: Path) -> list[str]:
    """What all copies have said that they listen on."""
    text = "".join(path.read_text() for path in folder.glob("cop*.log"))
    return re.findall(r"listening on (\S+)", text)


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody gets by chance: bound and not listening, it leaves room for who asks for it by its number."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("program", [supervisor, circus])
def test_copies_share_the_socket_and_each_of_them_serves(tmp_path: Path, program: object, port: int) -> None:
    assert callable(program)
    (tmp_path / "application.py").write_text(SOURCE)
    environment = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    process = subprocess.Popen(
        program(tmp_path, port), cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: len(said(tmp_path)) == COPIES, "all copies listen")
        [address] = set(said(tmp_path))
        assert address == f"http://127.0.0.1:{port}"
        served: list[int] = []
        with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
            for _ in range(COPIES):
                # Whoever takes the connection is ended; the next one has to be taken by another.
                served.append(int(client.get(f"{address}/").text))
                os.kill(served[-1], signal.SIGTERM)
                wait_until(lambda: not _is_running(served[-1]), f"copy {served[-1]} ends")
        assert len(set(served)) == COPIES
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _is_running(pid: int) -> bool:
    """False also for one that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter between open and read
        return False
