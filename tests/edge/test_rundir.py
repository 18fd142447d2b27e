"""The run directory: who has it, who finds it, and what a killed server leaves."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.rundir import RunDirectory, Running, run_directory, running_servers, server_of_process


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where run directories are, with an EDGE_HOME."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
        yield Path(folder)


def found() -> list[Path]:
    return [server.path for server in running_servers(os.environ)]


def left_by_a_killed_server(base: Path) -> Path:
    """A folder whose lock nobody holds."""
    path = base / "edge-left"
    path.mkdir(mode=0o700)
    (path / "lock").touch()
    (path / "edge.json").write_text(json.dumps({"pid": 1, "home": os.environ["EDGE_HOME"], "current": True}))
    return path


def test_server_is_found_from_taking_to_giving_up(base: Path) -> None:
    with run_directory() as directory:
        assert found() == []
        directory.take()
        assert found() == [directory.path]
        assert server_of_process(os.getpid(), os.environ) == Running(os.getpid(), directory.path)
        assert running_servers(os.environ)[0].control == directory.path / "control.sock"
        directory.give_up()
        assert found() == []
    assert list(base.iterdir()) == []


def test_service_has_its_run_directory_where_systemd_made_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{base}:/run/other")
    with run_directory() as directory:
        directory.take()
        assert directory.path.parent == base
        assert found() == [directory.path]


def test_commands_look_where_a_unit_has_its_run_directory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.rundir.SERVICE_DIRECTORY", base)
    with run_directory() as directory:
        directory.take()
        assert found() == [directory.path]
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert found() == [directory.path]


def test_servers_that_come_and_go_hide_no_other(base: Path) -> None:
    def come_and_go() -> None:
        while not is_over.is_set():
            path = Path(tempfile.mkdtemp(prefix="edge-", dir=base))
            (path / "lock").touch()
            shutil.rmtree(path)

    is_over = threading.Event()
    with run_directory() as directory, ThreadPoolExecutor(2) as threads:
        directory.take()
        others = [threads.submit(come_and_go) for _ in range(2)]
        try:
            assert [found() for _ in range(300)] == [[directory.path]] * 300
        finally:
            is_over.set()
        assert [other.result() for other in others] == [None, None]


def test_server_of_another_home_is_found_by_its_process_only(base: Path, tmp_path: Path) -> None:
    with run_directory() as directory:
        directory.take()
        other = {**os.environ, "EDGE_HOME": str(tmp_path / "other")}
        assert running_servers(other) == []
        assert server_of_process(os.getpid(), other) is not None
        assert server_of_process(1, other) is None


def test_folder_that_nobody_holds_is_no_server_and_is_removed_by_the_next(base: Path) -> None:
    left = left_by_a_killed_server(base)
    assert found() == []
    with run_directory() as directory:
        assert not left.exists()
        assert directory.path.is_dir()


@pytest.mark.parametrize("change", ["mode", "no lock", "link"])
def test_folder_that_is_not_ours_stays(base: Path, tmp_path: Path, change: str) -> None:
    left = left_by_a_killed_server(base)
    if change == "mode":
        left.chmod(0o755)
    elif change == "no lock":
        (left / "lock").unlink()
    else:
        left.rename(tmp_path / "elsewhere")
        left.symlink_to(tmp_path / "elsewhere")
    with run_directory():
        assert left.exists()


@pytest.mark.parametrize("content", ["", "{}", '{"pid": "x", "home": "", "current": true}'])
def test_folder_without_an_owner_is_no_server(base: Path, content: str) -> None:
    with run_directory() as directory:
        (directory.path / "edge.json").write_text(content)
        assert found() == []


def test_pid_file_is_there_from_taking_to_the_end(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "edge.pid"
    with run_directory(str(file)) as directory:
        assert not file.exists()
        directory.take()
        assert file.read_text() == f"{os.getpid()}\n"
    assert not file.exists()


def test_pid_file_that_another_has_taken_over_stays(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "edge.pid"
    with run_directory(str(file)) as directory:
        directory.take()
        file.write_text("1\n")
    assert file.read_text() == "1\n"


def test_pid_file_that_cannot_be_written_is_refused(base: Path, tmp_path: Path) -> None:
    wrong = str(tmp_path / "no" / "edge.pid")
    with (
        pytest.raises(ConfigError, match=r"pid file '.*': no such file or directory; use another path"),
        run_directory(wrong) as directory,
    ):
        directory.take()


def test_owner_is_replaced_in_one_step(base: Path) -> None:
    with run_directory() as directory:
        assert isinstance(directory, RunDirectory)
        directory.take()
        assert [path.name for path in sorted(directory.path.iterdir())] == ["edge.json", "lock"]
