import importlib
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from edge_backend.importing import find_file_senders, try_import
from edge_backend.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


def settings_for(folder: Path, target: str) -> WorkerSettings:
    return WorkerSettings(
        target=target,
        app_dir=str(folder),
        factory=False,
        root_path="",
        lifespan="auto",
        number=0,
        log_level="info",
        drain_timeout=1.0,
        ws_max_size=1,
        ws_ping_interval=0.0,
        ws_ping_timeout=0.0,
        ws_per_message_deflate=False,
        python_path=(str(folder / "more"),),
    )


@pytest.fixture(autouse=True)
def restored_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("async def app(scope, receive, send): ...", ""),
        ("app = 1", "'int' cannot be called"),
        ("raise RuntimeError('no database\\nat all')", "failed to start: RuntimeError: no database"),
        ("raise SystemExit(3)", "failed to start: SystemExit: 3"),
        ("import helper_of_importing\napp = helper_of_importing.app", ""),
    ],
)
def test_import_says_what_a_worker_would_say(tmp_path: Path, source: str, problem: str) -> None:
    name = f"imported_{zlib.crc32(source.encode())}"
    (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/helper_of_importing.py").write_text("async def app(scope, receive, send): ...")
    found = try_import(settings_for(tmp_path, f"{name}:app"))
    assert problem in found if problem else found == ""
    assert "\n" not in found


def test_process_answers_in_one_line_whatever_the_application_prints_and_starts(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import threading, time\n"
        "print('hello')\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "app = print\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "edge_backend.importing"],
        input=settings_for(tmp_path, "loud:app").encode(),
        capture_output=True,
        env={"PYTHONPATH": str(ROOT / "backend"), "PYTHONUNBUFFERED": "1"},
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == {"problem": "", "file_senders": []}
    assert done.stderr == b"hello\n"


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("FIELDS = {'X-Sendfile': '/a'}", True),
        ("FIELDS = [(b'x-accel-redirect', b'/a')]", True),
        ("# x-sendfile\nTEXT = 'as X-Sendfile does'", False),
        ("FIELDS = {'X-Accel-Buffering': 'no', 1: 2}", False),
    ],
)
def test_modules_that_have_files_sent_are_told(tmp_path: Path, source: str, is_found: bool) -> None:
    name = f"sends_{zlib.crc32(source.encode())}"
    for folder in (tmp_path / "app", tmp_path / "app/venv/site-packages", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / f"{name}_{folder.name.replace('-', '_')}.py").write_text(source)
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    for where in ("app", "site_packages", "other"):
        importlib.import_module(f"{name}_{where}")
    assert find_file_senders(str(tmp_path / "app")) == [str(tmp_path / f"app/{name}_app.py")] * is_found


def test_module_that_is_gone_or_changed_tells_nothing(tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    for name, left in (("sends_gone", None), ("sends_changed", "no python")):
        (tmp_path / f"{name}.py").write_text("FIELD = 'x-sendfile'")
        importlib.import_module(name)
        (tmp_path / f"{name}.py").unlink() if left is None else (tmp_path / f"{name}.py").write_text(left)
    assert find_file_senders(str(tmp_path)) == []
