"""A service manager around real servers: the test plays systemd, and systemd-socket-activate hands over a socket."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.cli import serve_command
from edge.cli_options import given_flags
from edge.envfile import read_settings
from tests.process.server import (
    DEADLINE,
    ROOT,
    Authority,
    RawClient,
    Server,
    clean_environment,
    running,
    wait_until,
)
from tests.process.service_manager import Manager
from tests.process.test_control import edge

APPLICATION = """
import json, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    body = json.dumps({**os.environ, "scheme": scope["scheme"]}).encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
"""
BROKEN = "raise RuntimeError('broken')"


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(f"edge-{os.getpid()}-{tmp_path.name}", getattr(request, "param", 0.0))
    yield manager
    manager.close()


def ask(port: int, context: Any = None) -> dict[str, str]:
    with RawClient(port, context) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, _, body = client.receive_response()
    assert status == 200
    return dict(json.loads(body))


def test_server_tells_when_it_serves_reloads_and_ends(tmp_path: Path, manager: Manager) -> None:
    folder = {"wrapper": manager.wrapper, "environ": manager.environ}
    with running(tmp_path, APPLICATION, "--port", "0", **folder) as server:  # type: ignore[arg-type]
        pid, said = manager.wait("READY")
        assert pid == server.process.pid
        assert re.fullmatch(rf"1 of 1 worker ready, http://127\.0\.0\.1:{server.port}", said["STATUS"])
        variables = ask(server.port)
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "SYSTEMD_EXEC_PID"} & variables.keys()

        edge(tmp_path, "reload")
        assert int(manager.wait("RELOADING")[1]["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert "1 of 1 worker ready" in manager.wait("READY")[1]["STATUS"]

        (tmp_path / "application.py").write_text(BROKEN)
        assert "reload given up" in edge(tmp_path, "reload", code=1)
        manager.wait("RELOADING")
        manager.wait("READY")
        assert server.stop() == 0
        assert manager.wait("STOPPING")[0] == pid


def test_start_that_fails_is_told_with_its_reason(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "application.py").write_text(BROKEN)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), **manager.environ)
    with Server(["--port", "0", "application:app"], cwd=tmp_path, environ=environ) as server:
        assert server.wait_end() == 1
    told = [said for _, said in manager.take()]
    assert not [said for said in told if "READY" in said]
    assert told[-1]["STOPPING"] == "1"
    assert "failed to start: RuntimeError: broken" in told[-1]["STATUS"]


@pytest.mark.parametrize("manager", [1.0], indirect=True)
def test_watchdog_hears_nothing_while_no_edge_answers(tmp_path: Path, manager: Manager) -> None:
    with running(tmp_path, APPLICATION, "--port", "0", environ=manager.environ) as server:
        manager.wait("READY")
        for _ in range(3):
            manager.wait("WATCHDOG")
        [stopped] = server.edges()
        os.kill(stopped, signal.SIGSTOP)
        try:
            # It may have answered before: one sign of life may come, and none after that.
            manager.take()
            passed = time.monotonic() + 3
            wait_until(lambda: time.monotonic() > passed, "six signs of life are due")
            assert sum("WATCHDOG" in said for _, said in manager.take()) <= 1
        finally:
            os.kill(stopped, signal.SIGCONT)
        manager.wait("WATCHDOG")


@pytest.mark.parametrize("manager", [2.0], indirect=True)
def test_upgrade_names_the_new_main_process_and_leaves_none_behind(tmp_path: Path, manager: Manager) -> None:
    environ = {**manager.environ, "EDGE_HOME": str(tmp_path / "home")}
    with running(tmp_path, APPLICATION, "--port", "0", wrapper=manager.wrapper, environ=environ) as server:
        old = server.process.pid
        assert manager.wait("READY")[0] == old
        edge(tmp_path, "upgrade")
        try:
            pid, said = manager.wait("MAINPID")
            new = int(said["MAINPID"])
            assert (pid, said["WATCHDOG"]) == (old, "1")
            assert manager.wait("READY")[0] == new
            assert server.process.wait(DEADLINE) == 0  # no stand-in: the service manager waits for the new one
            assert manager.wait("WATCHDOG")[0] == new
            assert ask(server.port)["scheme"] == "http"
            edge(tmp_path, "upgrade")
            again, said = manager.wait("MAINPID")
            assert again == new
            new = int(said["MAINPID"])
            assert manager.wait("READY")[0] == new
        finally:
            edge(tmp_path, "stop")
        assert manager.wait("STOPPING")[0] == new


@contextmanager
def activated(
    folder: Path, names: str, sockets: list[socket.socket], *arguments: str, ends: bool = False
) -> Iterator[Server]:
    """Serve as systemd starts it: with the sockets as the files 3, 4 and so on."""
    (folder / "application.py").write_text(APPLICATION)
    moves = " ".join(f"{3 + index}<&{sock.fileno()}" for index, sock in enumerate(sockets))
    script = f'LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names} exec "$@" {moves}'
    environ = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    command = [*arguments, "application:app"]
    files = [sock.fileno() for sock in sockets]
    with Server(command, cwd=folder, environ=environ, wrapper=("bash", "-c", script, "bash"), pass_fds=files) as server:
        yield server if ends else server.wait_ready()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Three sockets that listen, under numbers above those under which they are handed over."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        numbers = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 20) for sock in opened]
        yield [stack.enter_context(socket.socket(fileno=number)) for number in numbers]


def test_sockets_are_served_by_their_names(tmp_path: Path, authority: Authority, sockets: list[socket.socket]) -> None:
    ports = [sock.getsockname()[1] for sock in sockets]
    with activated(tmp_path, "metrics:http:https", sockets, "--cert", str(authority.cert)) as server:
        variables = ask(ports[2], authority.client_context())
        assert variables["scheme"] == "https"
        assert not [name for name in variables if name.startswith("LISTEN_")]
        with RawClient(ports[1]) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.receive_response()[0] == 308
        with RawClient(ports[0]) as client:
            client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"edge_uptime_seconds" in client.receive_response()[2]
        [worker] = server.workers()
        own = {f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in sockets}
        assert not own & {os.readlink(path) for path in Path(f"/proc/{worker}/fd").iterdir()}
        assert server.stop() == 0


def test_sockets_without_names_go_by_their_order_and_outlive_an_upgrade(
    tmp_path: Path, authority: Authority, sockets: list[socket.socket]
) -> None:
    ports = [sock.getsockname()[1] for sock in sockets]
    with activated(tmp_path, "edge.socket:edge.socket", sockets[:2], "--cert", str(authority.cert)) as server:
        assert server.ports("https") == [ports[0]]
        assert server.ports("http") == [ports[1]]
        edge(tmp_path, "upgrade")
        assert ask(ports[0], authority.client_context())["scheme"] == "https"
        assert server.stop() == 0


def test_bind_that_contradicts_what_is_handed_over_ends_the_start(tmp_path: Path, sockets: list[socket.socket]) -> None:
    with activated(tmp_path, "http", sockets[:1], "--bind", "127.0.0.1:0", ends=True) as server:
        assert server.wait_end() == 2
        assert server.errors == [
            "edge: --bind: a socket is handed over by the service manager (LISTEN_FDS) too; use one of them"
        ]


def test_systemd_socket_activate_hands_over_its_socket(tmp_path: Path) -> None:
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("needs systemd-socket-activate")
    (tmp_path / "application.py").write_text(APPLICATION)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "edge.sock"
        names = ("EDGE_HOME", "EDGE_WORKERS", "EDGE_EDGES", "PYTHONPATH", "PATH", "XDG_RUNTIME_DIR")
        environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
        options = [f"--setenv={name}={environ[name]}" for name in names if name in environ]
        wrapper = (program, f"--listen={path}", "--fdname=http", *options)
        with Server(["application:app"], cwd=tmp_path, environ=environ, wrapper=wrapper) as server:
            wait_until(path.is_socket, "systemd-socket-activate listens")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(DEADLINE)
                client.connect(str(path))  # which has it start the server
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b'"scheme": "http"' in answer
            assert f"listening on unix:{path}" in server.wait_error("listening on")
            assert server.stop() == 0


UNITS = ROOT / "examples/systemd"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The unit files, with a program that is there."""
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in sorted(UNITS.glob("edge*.*")):
        text = unit.read_text().replace("/opt/app/.venv/bin/edge", "/bin/true")
        (folder / unit.name).write_text(text.replace("WorkingDirectory=/opt/app", "WorkingDirectory=/"))
    return folder


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_unit_files_are_what_systemd_takes(units: Path) -> None:
    found = analyze("verify", "--man=no", *map(str, sorted(units.glob("edge*"))))
    assert (found.returncode, found.stderr) == (0, "")


def test_unit_file_leaves_little_to_whoever_breaks_in(units: Path) -> None:
    found = analyze("security", "--offline=yes", "--threshold=20", str(units / "edge.service"))
    assert found.returncode == 0, found.stdout


def test_unit_whose_master_is_root_is_what_systemd_takes(units: Path) -> None:
    [change] = re.findall(
        r"^```ini\n(.*?)^```$", (ROOT / "docs/howto/systemd.md").read_text(), re.MULTILINE | re.DOTALL
    )
    folder = units / "edge.service.d"
    folder.mkdir()
    (folder / "override.conf").write_text(change.replace("/opt/app/.venv/bin/edge", "/bin/true"))
    found = analyze("verify", "--man=no", str(units / "edge.service"))
    assert (found.returncode, found.stderr) == (0, "")
    [*_, line] = re.findall(r"^ExecStart=\S+ serve (.*)$", change, re.MULTILINE)
    context = serve_command.make_context("edge serve", line.split())
    assert read_settings(given_flags(context.params), {}).run.user == "edge"


def test_unit_file_starts_what_the_command_line_takes() -> None:
    [line] = re.findall(r"^ExecStart=(.*)$", (UNITS / "edge.service").read_text(), re.MULTILINE)
    program, command, *arguments = line.split()
    assert (program, command) == ("/opt/app/.venv/bin/edge", "serve")
    context = serve_command.make_context("edge serve", arguments)
    settings = read_settings(given_flags(context.params), {})
    assert settings.acme.certificates == (("example.com",),)
    assert not settings.listen.binds  # the socket unit has them
