"""`edge uvicorn` and `edge gunicorn` for real: the line is printed, and what it says is served."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.process.server import DEADLINE, Server, clean_environment, wait_until

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello from ASGI"})

def make():
    return app
"""
WSGI = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from WSGI, " + os.environ["SHOP"].encode()]
"""
FILE = """
bind = "127.0.0.1:0"
raw_env = ["SHOP=open"]
accesslog = "access.log"
errorlog = "error.log"
def post_fork(server, worker):
    raise SystemExit("called")
"""


def start(arguments: Sequence[str], folder: Path) -> Server:
    environment = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_EDGES="1")
    # The harness says `python -m edge serve ...`; a shell takes the word away.
    shell = 'python=$1; shift 4; exec "$python" -m edge "$@"'
    return Server(arguments, cwd=folder, environ=environment, wrapper=["sh", "-c", shell, "sh"])


def get(port: int) -> str:
    with httpx.Client(trust_env=False) as client:
        return client.get(f"http://127.0.0.1:{port}/").text


def test_uvicorns_command_line_is_served(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(ASGI)
    with start(["uvicorn", "shop:make", "--factory", "--port", "0", "--http", "h11"], tmp_path) as server:
        server.wait_ready()
        assert get(server.port) == "hello from ASGI"
        line = "edge serve --bind 127.0.0.1:0 --workers 1 --proxy-headers --factory shop:make"
        assert f"edge: uvicorn: this amounts to: {line}" in server.errors
        assert any(re.fullmatch("edge: uvicorn --http: left out: .*", item) for item in server.errors)
        assert len(server.workers()) == 1


def test_gunicorns_file_is_served_with_its_logs(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WSGI)
    (tmp_path / "gunicorn.conf.py").write_text(FILE)
    with start(["gunicorn", "shop"], tmp_path) as server:
        own = tmp_path / "error.log"
        port = int(_wait(own, r"edge: listening on http://127\.0\.0\.1:(\d+)"))
        assert get(port) == "hello from WSGI, open"
        assert _wait(tmp_path / "access.log", r'^(127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 200 21 "-" "python-httpx)')
    left_out = "edge: gunicorn post_fork: left out: not called; what it does at a worker's start or end belongs into"
    assert server.errors[0].startswith(left_out)
    assert server.errors[-1].endswith("shop 2>>error.log")


def _wait(path: Path, pattern: str) -> str:
    def found() -> str | None:
        match = re.search(pattern, path.read_text(), re.MULTILINE) if path.exists() else None
        return match[1] if match else None

    text: str = wait_until(found, f"{pattern!r} in {path.name}")
    return text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["uvicorn", "--print", "a:b", "--port", "1"], "edge serve --bind 127.0.0.1:1 --workers 1 --proxy-headers a:b"),
        (
            ["gunicorn", "a:b", "-k", "asgi", "--print-config"],
            "edge serve --bind 127.0.0.1:8000 --workers 1 --proxy-headers --no-access-log a:b",
        ),
    ],
)
def test_line_is_printed_alone_where_that_was_asked_for(tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge", *arguments],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (expected + "\n", "")


def test_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge", "gunicorn", "--error-logfile", "nosuch/error.log", "shop:app"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    reason = "edge: nosuch/error.log: no such file or directory; use a file that this user may write"
    assert done.stderr.splitlines()[-1] == reason


@pytest.mark.parametrize(("app", "code"), [("shop:app", 0), ("shop:nosuch", 2)])
def test_configuration_of_gunicorn_is_checked_with_its_application(tmp_path: Path, app: str, code: int) -> None:
    (tmp_path / "shop.py").write_text(ASGI)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "gunicorn", "--check-config", "-b", "127.0.0.1:0", app],
        cwd=tmp_path, env=clean_environment(EDGE_HOME=str(tmp_path / "home")), capture_output=True, text=True,
        timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "nosuch" not in done.stdout + done.stderr if code == 0 else "has no attribute 'nosuch'" in done.stdout
