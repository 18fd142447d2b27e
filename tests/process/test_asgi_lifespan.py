"""Lifespan and the start and end of an application, one row of the table a test, with real processes."""

from __future__ import annotations

import http.client
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.process.server import Server, clean_environment, serving, wait_until

LIFESPAN = """
import asyncio, os, sys

def note(text):
    with open("notes", "a") as notes:
        notes.write(f"{text} {os.getpid()}\\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        note("scope " + scope["asgi"]["version"] + " " + scope["asgi"]["spec_version"])
        assert (await receive())["type"] == "lifespan.startup"
        note("startup")
        scope["state"]["answer"] = b"42"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        note("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200})
    if scope["path"] == "/slow":
        note("slow")
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": scope["state"].get("answer", b"none")})
    note("answered")
"""

ANSWER = """
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"served"})
"""


def run(folder: Path, source: str, *arguments: str, target: str = "application:app") -> tuple[int, list[str]]:
    """Run a server that cannot start to its end: exit code and what it said on standard error."""
    (folder / "application.py").write_text(source)
    options = ["--host", "127.0.0.1", "--port", "0", "--workers", "2", "--edges", "1", *arguments, target]
    with Server(options, cwd=folder, environ=environment(folder)) as server:
        code = server.wait_end()
    return code, server.errors


def environment(folder: Path) -> Mapping[str, str]:
    return clean_environment(EDGE_HOME=str(folder / "home"))


def get(port: int, path: str = "/") -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", path)
    response = client.getresponse()
    answer = response.status, response.read()
    client.close()
    return answer


def notes(folder: Path) -> list[str]:
    """What the application noted, without the process ids."""
    path = folder / "notes"
    return [line.rpartition(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_lifespan_runs_once_in_each_worker_and_its_state_reaches_requests(tmp_path: Path) -> None:
    with serving(tmp_path, LIFESPAN, "--workers", "2") as server:
        assert get(server.port) == (200, b"42")
        wait_until(lambda: notes(tmp_path).count("startup") == 2, "both workers start")
    lines = (tmp_path / "notes").read_text().splitlines()
    started = {line.split()[1] for line in lines if line.startswith("startup")}
    stopped = {line.split()[1] for line in lines if line.startswith("shutdown")}
    assert len(started) == 2
    assert started == stopped
    assert "scope 3.0 2.0" in notes(tmp_path)


def test_shutdown_comes_after_the_last_answer(tmp_path: Path) -> None:
    with serving(tmp_path, LIFESPAN) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        client.request("GET", "/slow")
        wait_until(lambda: "slow" in notes(tmp_path), "the request runs")
        server.process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        assert client.getresponse().read() == b"42"
        client.close()
        assert server.wait_end() == 0
    assert notes(tmp_path)[-2:] == ["answered", "shutdown"]


@pytest.mark.parametrize(
    "body", ['    assert scope["type"] == "http"', '    if scope["type"] != "http":\n        return']
)
def test_application_without_lifespan_is_served(tmp_path: Path, body: str) -> None:
    source = f"async def app(scope, receive, send):\n{body}\n{ANSWER}"
    with serving(tmp_path, source) as server:
        assert get(server.port) == (200, b"served")
        assert not [line for line in server.errors if "Traceback" in line]


def test_lifespan_off_never_calls_the_application_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, LIFESPAN, "--lifespan", "off") as server:
        assert get(server.port) == (200, b"none")
    assert notes(tmp_path) == ["answered"]


def test_lifespan_on_makes_an_exception_the_end_with_its_traceback(tmp_path: Path) -> None:
    source = "async def app(scope, receive, send):\n    raise KeyError('nothing here')\n"
    code, errors = run(tmp_path, source, "--lifespan", "on")
    assert code == 1
    assert any(line.startswith("KeyError: 'nothing here'") for line in errors)
    assert errors[-1] == "edge: application 'application:app' failed to start: KeyError: 'nothing here'"


def test_startup_failed_ends_the_server_with_its_message_and_exit_code_1(tmp_path: Path) -> None:
    source = (
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database at db.example'})\n"
    )
    code, errors = run(tmp_path, source)
    assert code == 1
    assert errors[-1] == "edge: application 'application:app' failed to start: no database at db.example"
    assert len([line for line in errors if line.startswith("edge: ")]) == 1


def test_exception_in_the_lifespan_of_starlette_shows_its_traceback_and_one_line(tmp_path: Path) -> None:
    source = """
import contextlib
from starlette.applications import Starlette

@contextlib.asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database at db.example")
    yield

app = Starlette(lifespan=lifespan)
"""
    code, errors = run(tmp_path, source)
    assert code == 1
    assert any('application.py", line 7, in lifespan' in line for line in errors)
    assert errors[-1] == "edge: application 'application:app' failed to start: RuntimeError: no database at db.example"


def test_startup_that_never_completes_ends_at_the_time_limit(tmp_path: Path) -> None:
    source = "import asyncio\nasync def app(scope, receive, send):\n    await asyncio.Event().wait()\n"
    code, errors = run(tmp_path, source, "--startup-timeout", "1")
    assert code == 1
    assert any("not ready within 1 s" in line for line in errors)


@pytest.mark.parametrize(
    "source", ["raise ImportError('no driver')", "import missing_module_of_the_application", "def app(:"]
)
def test_application_that_cannot_be_imported_prints_its_traceback_and_one_line(tmp_path: Path, source: str) -> None:
    code, errors = run(tmp_path, source + "\n")
    assert code == 1
    assert any(re.search(r'application\.py", line 1', line) for line in errors)
    assert errors[-1].startswith("edge: application 'application:app' failed to start: ")
    assert not [line for line in errors if "importlib" in line or "edge_backend" in line]
    assert sum(line.startswith("Traceback") for line in errors) <= 1


def test_application_that_exits_while_it_is_imported_ends_the_start(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "import sys\nsys.exit('set DATABASE_URL')\n")
    assert code == 1
    assert errors[-1] == "edge: application 'application:app' failed to start: SystemExit: set DATABASE_URL"


def test_application_that_exits_in_its_lifespan_ends_the_start(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "async def app(scope, receive, send):\n    raise SystemExit(5)\n")
    assert code == 1
    assert errors[-1] == "edge: application 'application:app' failed to start: SystemExit: 5"


def test_worker_that_dies_while_it_starts_ends_the_start(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert code == 1
    assert "ended before it was ready: killed by SIGKILL" in errors[-1]


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        ("missing:app", "", "no module named 'missing'"),
        ("application:missing", "", "module 'application' has no attribute 'missing'"),
        ("application", "value = 1", "none of app, application, asgi, wsgi can be called there"),
        ("application:value", "value = 1", "'int' cannot be called"),
        ("application.inner:app", "", "no module named 'application.inner'"),
    ],
)
def test_name_that_leads_nowhere_is_one_line_and_exit_code_2(
    tmp_path: Path, target: str, source: str, message: str
) -> None:
    code, errors = run(tmp_path, source + "\n", target=target)
    assert code == 2
    assert errors[-1].startswith(f"edge: application '{target}")
    assert message in errors[-1]
    assert not [line for line in errors if "Traceback" in line]


def test_exception_in_shutdown_is_logged_and_the_end_goes_on(tmp_path: Path) -> None:
    source = f"""
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        raise RuntimeError("in shutdown")
{ANSWER}"""
    with serving(tmp_path, source) as server:
        assert get(server.port) == (200, b"served")
        assert server.stop() == 0
    assert any("RuntimeError: in shutdown" in line for line in server.errors)


def test_shutdown_failed_is_logged(tmp_path: Path) -> None:
    source = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "cannot flush"})
"""
    with serving(tmp_path, source) as server:
        assert server.stop() == 0
    assert any("lifespan shutdown failed: cannot flush" in line for line in server.errors)


def test_factory_is_called_and_its_result_served(tmp_path: Path) -> None:
    source = f"def make():\n    return inner\n\nasync def inner(scope, receive, send):\n{ANSWER}\n"
    (tmp_path / "made").mkdir()
    (tmp_path / "application.py").write_text(source)
    options = ["--host", "127.0.0.1", "--port", "0", "--workers", "1", "--edges", "1", "--factory", "application:make"]
    with Server(options, cwd=tmp_path, environ=environment(tmp_path)) as server:
        assert get(server.wait_ready().port)[0] == 200


def test_modules_of_the_application_hide_no_module_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('not yours')\n")
    (tmp_path / "asyncio").mkdir()
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "__init__.py").write_text("NAME = b'mine'\n")
    source = (
        "from backend import NAME\nasync def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': NAME})\n"
    )
    # `python -m edge`, as the tests run it, puts the working directory first; the command `edge` does not.
    with serving(tmp_path, source, PYTHONSAFEPATH="1") as server:
        assert get(server.port) == (200, b"mine")
