"""A new version takes over while the old one serves."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.process.load import APPLICATION, Load
from tests.process.server import Authority, RawClient, Server, running, serving, wait_until
from tests.process.test_control import edge, status
from tests.process.test_drain import is_running
from tests.process.test_no_loss import assert_nothing_lost
from tests.process.test_pool import ask


def upgraded(folder: Path, server: Server) -> int:
    """Have a new master take over; return its process id."""
    said = edge(folder, "upgrade")
    pid = int(status(folder)["pid"])
    assert said == f"upgraded: process {pid} serves\n"
    return pid


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_upgrade_loses_no_request(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, "--workers", "2", "--edges", "2", authority=authority) as server:
        children = wait_until(lambda: len(server.children()) == 4 and server.children(), "all processes run")
        with Load(server.port, authority.client_context()) as load:
            for _ in range(2):
                pid = upgraded(tmp_path, server)
                assert pid != server.process.pid
            load.wait_more(1)
            wait_until(lambda: not [child for child in children if is_running(child)], "the old processes have ended")
            load.wait_more(1)
        assert_nothing_lost(load, tmp_path)
        # What was started first stands in for the new master: it takes its signals, and ends with its code.
        wait_until(lambda: b"standin.py" in command_of(server.process.pid), "the old master has become the stand-in")
        assert is_running(pid)
        assert server.stop() == 0
        assert not is_running(pid)


def test_signal_starts_an_upgrade_and_the_old_master_finishes_what_runs(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "-p", str(tmp_path / "edge.pid")) as server, RawClient(server.port) as client:
        client.send(b"POST /gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        wait_until((tmp_path / "notes").exists, "the application has the request")
        server.process.send_signal(signal.SIGUSR2)
        server.wait_error("upgrade: process [0-9]+ has taken over; what runs here is finished")
        pid = status(tmp_path)["pid"]
        assert pid != server.process.pid
        assert (tmp_path / "edge.pid").read_text() == f"{pid}\n"
        assert ask(server.port)[0] == 200
        (tmp_path / "open").touch()
        assert client.receive_response()[0] == 200
        wait_until(lambda: b"standin.py" in command_of(server.process.pid), "the old master has become the stand-in")
        assert edge(tmp_path, "stop") == f"process {pid} has ended\n"
        assert server.wait_end() == 0
        assert not (tmp_path / "edge.pid").exists()


def test_new_version_that_does_not_start_leaves_the_old_one(tmp_path: Path) -> None:
    pid_file = tmp_path / "edge.pid"
    with serving(tmp_path, APPLICATION, "-p", str(pid_file)) as server:
        (tmp_path / "application.py").write_text("raise RuntimeError('not today')")
        said = edge(tmp_path, "upgrade", code=1)
        assert said.startswith("edge: upgrade given up: the new server ended before it served")
        server.wait_error("failed to start: RuntimeError: not today")
        assert status(tmp_path)["pid"] == server.process.pid
        assert pid_file.read_text() == f"{server.process.pid}\n"
        assert ask(server.port)[0] == 200
        (tmp_path / "application.py").write_text(APPLICATION)
        assert upgraded(tmp_path, server) != server.process.pid


def test_what_an_upgrade_would_undo_is_refused_meanwhile_and_a_stop_ends_both(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        (tmp_path / "application.py").write_text("import time; open('began', 'w'); time.sleep(60)")
        server.process.send_signal(signal.SIGUSR2)
        wait_until((tmp_path / "began").exists, "the new version starts")
        assert "another one is under way" in edge(tmp_path, "upgrade", code=1)
        for command in (("pause",), ("maintenance", "on")):
            assert "an upgrade is under way" in edge(tmp_path, *command, code=1)
        assert edge(tmp_path, "resume").startswith("resumed")
        children = server.children()
        assert len(children) == 3  # an edge, a worker, and the new master
        assert server.stop() == 0
        assert not [pid for pid in children if is_running(pid)]


def test_stop_during_an_upgrade_ends_the_new_server_and_finishes_what_runs(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server, RawClient(server.port) as client:
        client.send(b"POST /gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        wait_until((tmp_path / "notes").exists, "the application has the request")
        before = set(server.children())
        (tmp_path / "application.py").write_text("import time; open('began', 'w'); time.sleep(60)")
        server.process.send_signal(signal.SIGUSR2)
        wait_until((tmp_path / "began").exists, "the new version starts")
        [successor] = set(server.children()) - before
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_running(successor), "the new server has ended")
        (tmp_path / "open").touch()
        assert client.receive_response()[0] == 200
        assert server.wait_end() == 0


def test_unix_socket_is_handed_on_and_removed_at_the_end(tmp_path: Path, short_folder: Path) -> None:
    path = short_folder / "edge.sock"
    with running(tmp_path, APPLICATION, "--bind", f"unix:{path}") as server:
        inode = path.stat().st_ino
        upgraded(tmp_path, server)
        wait_until(lambda: b"standin.py" in command_of(server.process.pid), "the old master has become the stand-in")
        assert path.stat().st_ino == inode
        assert server.stop() == 0
        assert not path.exists()
