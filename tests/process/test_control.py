"""The commands for a server that runs, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edge import control
from tests.process.server import RawClient, Server, clean_environment, serving, wait_until
from tests.process.test_pool import ask

APPLICATION = """
import asyncio, os
VALUE = open("value").read()

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    while scope["path"] == "/wait" and not os.path.exists("go"):
        await asyncio.sleep(0.005)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": VALUE.encode()})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "value").write_text("old")
    return tmp_path


def edge(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run an `edge` command with the EDGE_HOME of the test's servers; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "edge", *arguments],
        check=False,
        cwd=folder,
        env=clean_environment(EDGE_HOME=str(folder / "home")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def status(folder: Path) -> dict[str, Any]:
    """What `edge status --json` says."""
    server = control.find_server({"EDGE_HOME": str(folder / "home")})
    return control.ask(server, "status")


def ready(folder: Path) -> list[int]:
    """The numbers of the workers that are ready."""
    return [worker["number"] for worker in status(folder)["workers"] if worker["state"] == "ready"]


def test_status_tells_of_workers_edges_and_queue(folder: Path) -> None:
    with serving(folder, APPLICATION, "--workers", "2") as server:
        wait_until(lambda: len(ready(folder)) == 2, "two workers are ready")
        for _ in range(6):
            assert ask(server.port)[0] == 200
        wait_until(lambda: sum(worker["requests"] for worker in status(folder)["workers"]) == 6, "six are counted")
        found = json.loads(edge(folder, "status", "--json"))
        assert (found["pid"], found["state"], found["size"]) == (server.process.pid, "serving", 2)
        assert found["listening"] == server.addresses
        assert sorted(worker["pid"] for worker in found["workers"]) == sorted(server.workers())
        assert all(worker["memory"] > 2**20 and worker["in_flight"] == 0 for worker in found["workers"])
        assert [item["pid"] for item in found["edges"]] == server.edges()
        text = edge(folder, "status")
        assert f"serving: process {server.process.pid}, up " in text
        assert text.count(" ready ") == 2
        assert "2 workers wanted, 0 restarted, 0 requests wait" in text


def test_reload_serves_new_code_and_returns_when_it_does(folder: Path) -> None:
    with serving(folder, APPLICATION, "--workers", "2") as server:
        (folder / "value").write_text("new")
        assert ask(server.port)[1] == b"old"
        assert edge(folder, "reload") == "reloaded: 2 workers\n"
        assert {ask(server.port)[1] for _ in range(8)} == {b"new"}


def test_reload_that_cannot_start_leaves_the_old_code_and_says_why(folder: Path) -> None:
    with serving(folder, APPLICATION) as server:
        (folder / "application.py").write_text("raise RuntimeError('no database')")
        message = "application 'application:app' failed to start: RuntimeError: no database"
        said = edge(folder, "reload", code=1)
        assert said == f"edge: reload given up: {message}; the old workers go on serving\n"
        assert message in server.wait_error("reload given up: ")
        assert ask(server.port)[1] == b"old"
        (folder / "application.py").write_text(APPLICATION.replace("old", "x"))
        (folder / "value").write_text("mended")
        assert control.reload({"EDGE_HOME": str(folder / "home")}) == 1
        assert ask(server.port)[1] == b"mended"


def test_reload_is_done_when_edges_have_left_the_old_workers(folder: Path) -> None:
    with serving(folder, APPLICATION) as server:
        assert ask(server.port)[1] == b"old"
        (folder / "value").write_text("new")
        [edge_process] = server.edges()
        running = control.find_server({"EDGE_HOME": str(folder / "home")})
        os.kill(edge_process, signal.SIGSTOP)
        try:
            with control.connect(running) as asked:
                asked.sendall(b'{"command": "reload"}\n')
                server.wait_error("reload: done, every worker is new")
                status(folder)  # what the master had to say before it has said by now
                assert select.select([asked], [], [], 0)[0] == []
                os.kill(edge_process, signal.SIGCONT)
                assert json.loads(asked.recv(4096)) == {"ok": True, "workers": 1}
                assert ask(server.port)[1] == b"new"
        finally:
            os.kill(edge_process, signal.SIGCONT)


def test_scale_and_its_signals_start_and_end_workers(folder: Path) -> None:
    with serving(folder, APPLICATION) as server:
        assert edge(folder, "scale", "3") == "workers: 1 before, 3 now\n"
        wait_until(lambda: len(ready(folder)) == 3, "three workers are ready")
        server.process.send_signal(signal.SIGTTOU)
        wait_until(lambda: len(server.workers()) == 2, "two workers are left")
        server.process.send_signal(signal.SIGTTIN)
        wait_until(lambda: len(ready(folder)) == 3, "three workers are ready")
        assert "'0'" not in edge(folder, "scale", "0", code=1)
        edge(folder, "scale", "1")
        wait_until(lambda: len(server.workers()) == 1, "one worker is left")
        server.process.send_signal(signal.SIGTTOU)
        assert ask(server.port)[0] == 200
        assert status(folder)["size"] == 1


@pytest.mark.parametrize("command", [["stop"], ["stop", "--now"], ["drain"]])
def test_stop_and_drain_return_when_the_server_has_ended(folder: Path, command: list[str]) -> None:
    with serving(folder, APPLICATION) as server:
        assert edge(folder, *command) == f"process {server.process.pid} has ended\n"
        assert server.wait_end(5) == 0


def test_several_servers_are_told_apart_by_their_pid_files(folder: Path) -> None:
    files = [folder / "one.pid", folder / "two.pid"]
    with (
        serving(folder, APPLICATION, "-p", str(files[0])) as one,
        serving(folder, APPLICATION, "-p", str(files[1])) as two,
    ):
        said = edge(folder, "status", code=1)
        assert said.startswith("edge: 2 servers run with this EDGE_HOME, as processes ")
        for file, server in zip(files, (one, two), strict=True):
            assert file.read_text() == f"{server.process.pid}\n"
            assert json.loads(edge(folder, "status", "--json", "-p", str(file)))["pid"] == server.process.pid
        edge(folder, "stop", "-p", str(files[0]))
        assert not files[0].exists()
        assert one.wait_end(5) == 0
        assert status(folder)["pid"] == two.process.pid


def test_command_without_a_server_says_what_to_do(folder: Path) -> None:
    said = edge(folder, "status", code=1)
    assert said == (
        "edge: no server runs with this EDGE_HOME; start one with edge serve, or name its pid file with -p\n"
    )
    (folder / "no.pid").write_text("nothing")
    assert "no process id in it" in edge(folder, "status", "-p", "no.pid", code=1)
    (folder / "no.pid").write_text(str(os.getpid()))
    assert f"no server of yours runs as process {os.getpid()}" in edge(folder, "status", "-p", "no.pid", code=1)


def test_run_directory_of_a_killed_server_is_removed_by_the_next_start(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as run:
        with serving(folder, APPLICATION, XDG_RUNTIME_DIR=run) as first:
            [left] = Path(run).iterdir()
            first.process.kill()
            first.wait_end()
        assert left.is_dir()
        with serving(folder, APPLICATION, XDG_RUNTIME_DIR=run) as second:
            wait_until(lambda: not left.exists() or second.process.poll() is not None, "it is removed")
            [own] = Path(run).iterdir()
            assert own != left
            assert (own / "control.sock").stat().st_mode & 0o777 == 0o600


def test_command_that_is_none_is_refused_and_hurts_nobody(folder: Path) -> None:
    with serving(folder, APPLICATION) as server:
        running = control.find_server({"EDGE_HOME": str(folder / "home")})
        for data in (b"\n", b"[]\n", b"{}\n", b"no\n", b"1\n"):
            with control.connect(running) as sock:
                sock.sendall(data)
                assert b"not a command" in sock.recv(4096)
        with pytest.raises(control.ControlError, match="'no': unknown command; use status"):
            control.ask(running, "no")
        with pytest.raises(control.ControlError, match="True: not a number of workers"):
            control.ask(running, "scale", workers=True)
        with control.connect(running) as sock:
            sock.sendall(b"x" * 200_000)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        assert ask(server.port)[0] == 200


def test_reload_of_settings_that_are_wrong_now_changes_nothing(folder: Path) -> None:
    folder_of_app = folder / "of_app"
    folder_of_app.mkdir()
    (folder_of_app / "other.py").write_text(APPLICATION)
    environ = clean_environment(EDGE_HOME=str(folder / "home"))
    arguments = ["--port", "0", "--workers", "1", "--app-dir", str(folder_of_app), "other:app"]
    with Server(arguments, cwd=folder, environ=environ) as server:
        server.wait_ready()
        folder_of_app.rename(folder / "moved")
        said = edge(folder, "reload", code=1)
        wrong = f"--app-dir {str(folder_of_app)!r}: no such directory; use one that exists"
        assert said == f"edge: settings not reloaded: {wrong}\n"
        assert ask(server.port)[0] == 200


GREETING = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": os.environ["GREETING"].encode()})
"""


def test_reload_reads_the_env_file_for_workers_and_for_options(folder: Path) -> None:
    env = folder / ".env"
    env.write_text("GREETING=hello\n")
    with serving(folder, GREETING, "--env-file", str(env)) as server:
        assert ask(server.port)[1] == b"hello"
        [edge_before] = server.edges()
        env.write_text("GREETING=moin\nEDGE_MAX_BODY=10\n")
        with RawClient(server.port) as client:
            server.process.send_signal(signal.SIGHUP)
            # An option of the edges: another edge takes the connections that come, this one announces its close.
            fields: dict[bytes, bytes] = {}
            while b"connection" not in fields:
                client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                code, fields, body = client.receive_response()
                assert (code, body in (b"hello", b"moin")) == (200, True)
        server.wait_error("reload: done, every worker is new")
        assert ask(server.port)[1] == b"moin"
        assert ask(server.port, "/", "POST", b"x" * 11)[0] == 413
        wait_until(lambda: len(server.edges()) == 1 and edge_before not in server.edges(), "the old edge has ended")
        env.write_text("GREETING=moin\nEDGE_MAX_BODY=ten\n")
        said = edge(folder, "reload", code=1)
        assert said.startswith("edge: settings not reloaded: EDGE_MAX_BODY='ten': not a size")
        assert ask(server.port)[1] == b"moin"


def test_idle_connection_of_an_edge_that_makes_way_is_closed(folder: Path) -> None:
    env = folder / ".env"
    env.write_text("GREETING=hello\n")
    with serving(folder, GREETING, "--env-file", str(env)) as server, RawClient(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.receive_response()
        env.write_text("GREETING=hello\nEDGE_QUEUE=7\n")
        server.process.send_signal(signal.SIGHUP)
        assert client.sock.recv(1) == b""
        server.wait_error("reload: done, every worker is new")


def test_addresses_that_change_need_a_restart(folder: Path) -> None:
    env = folder / ".env"
    env.write_text("EDGE_BACKLOG=100\n")
    with serving(folder, APPLICATION, "--env-file", str(env)) as server:
        env.write_text("EDGE_BACKLOG=200\n")
        assert "listening addresses have changed; restart" in edge(folder, "reload", code=1)
        assert ask(server.port)[0] == 200


def test_server_that_is_ending_refuses_to_begin_anything(folder: Path) -> None:
    with serving(folder, APPLICATION) as server, RawClient(server.port) as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: status(folder)["workers"][0]["in_flight"] == 1, "the request runs")
        running = control.find_server({"EDGE_HOME": str(folder / "home")})
        control.ask(running, "drain")
        wait_until(lambda: status(folder)["state"] == "draining", "it drains")
        for command in ("reload", "upgrade"):
            with pytest.raises(control.ControlError, match="ending"):
                control.ask(running, command)
        (folder / "go").touch()
        assert client.receive_response()[0] == 200
        client.sock.close()
        assert server.wait_end() == 0


def test_reload_while_the_first_worker_starts_is_for_the_next_one(folder: Path) -> None:
    slow = APPLICATION + "\nimport time\nopen('began', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    (folder / "application.py").write_text(slow)
    environ = clean_environment(EDGE_HOME=str(folder / "home"))
    with Server(["--port", "0", "--workers", "1", "application:app"], cwd=folder, environ=environ) as server:
        wait_until((folder / "began").exists, "the application starts")
        (folder / "application.py").write_text(APPLICATION)
        server.process.send_signal(signal.SIGHUP)
        server.wait_ready()
        assert ask(server.port)[1] == b"old"
        server.wait_error("reload: done, every worker is new")
