"""Where the server stands, and what its workers find there: --chdir, --env, --pythonpath, --loop, --log-level trace."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.server import Server, clean_environment, running, wait_until

SOURCE = """
import asyncio, json, os, sys
import beside

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    found = {
        "folder": os.getcwd(), "variable": os.environ.get("SHOP"), "file": os.environ.get("FROM_FILE"),
        "loop": type(asyncio.get_running_loop()).__module__, "beside": beside.NAME, "pid": os.getpid(),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})
"""


def make_project(folder: Path) -> Path:
    (folder / "src" / "lib").mkdir(parents=True)
    (folder / "src" / "application.py").write_text(SOURCE)
    (folder / "src" / "lib" / "beside.py").write_text("NAME = 'found'\n")
    (folder / "src" / ".env").write_text("FROM_FILE=yes\nSHOP=file\n")
    return folder


@contextlib.contextmanager
def serving_from(project: Path) -> Iterator[Server]:
    options = ["--chdir", "src", "--uds", "edge.sock", "--uds-permissions", "600", "--env-file", ".env", "--loop"]
    options += ["asyncio", "-e", "SHOP=a=b,c", "--pythonpath", "lib", "--log-level", "trace", "-k", "gthread"]
    environment = clean_environment(EDGE_HOME=str(project / "home"), EDGE_WORKERS="1", EDGE_EDGES="1", SHOP="outer")
    with Server([*options, "application:app"], cwd=project, environ=environment) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    with serving_from(project) as server:
        yield server


def ask(project: Path) -> dict[str, object]:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(project / "src" / "edge.sock")), trust_env=False) as client:
        found: dict[str, object] = client.get("http://localhost/").json()
    return found


def test_workers_stand_in_the_directory_and_find_what_they_were_given(server: Server, project: Path) -> None:
    found = ask(project)
    assert found.pop("pid") in server.workers()
    assert found == {
        "folder": str(project / "src"),
        "variable": "a=b,c",
        "file": "yes",
        "loop": "asyncio.unix_events",
        "beside": "found",
    }


def test_socket_has_its_permissions(server: Server, project: Path) -> None:
    assert (project / "src" / "edge.sock").stat().st_mode & 0o777 == 0o600
    server.wait_error("edge.sock: its owner may connect .mode 0600.")


def test_messages_are_traced_and_the_ignored_flag_is_said_once(server: Server, project: Path) -> None:
    ask(project)
    server.wait_error("TRACE edge.worker: call [0-9]+ begins: http /")
    server.wait_error("TRACE edge.worker: call [0-9]+ sends type: 'http.response.body', body: [0-9]+ bytes")
    lines = [line for line in server.errors if "--worker-class gthread: ignored" in line]
    assert len(lines) == 1
    assert " INFO " in lines[0]


def test_reload_and_upgrade_find_the_directory_again(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    with serving_from(project) as server:
        before = ask(project)["pid"]
        server.process.send_signal(signal.SIGHUP)
        again = wait_until(lambda: (found := ask(project))["pid"] != before and found, "the worker is replaced")
        server.process.send_signal(signal.SIGUSR2)
        upgraded = wait_until(lambda: (found := ask(project))["pid"] != again["pid"] and found, "the upgrade serves")
    assert upgraded["folder"] == again["folder"] == str(project / "src")
    assert upgraded["variable"] == "a=b,c"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--chdir", "no/such"], "edge: --chdir no/such: no such file or directory; use a directory that this user"),
        (["--loop", "nosuch:make"], "edge: --loop nosuch:make: No module named 'nosuch'; name it as MODULE:ATTRIBUTE"),
    ],
)
def test_what_is_not_there_is_refused_with_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    environment = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_PORT="0", EDGE_EDGES="1")
    with Server([*arguments, "application:app"], cwd=tmp_path, environ=environment) as server:
        assert server.wait_end() == 2
    assert [found for found in server.errors if found.startswith(line)], server.errors


def test_ipv6_any_address_takes_ipv4_as_well(tmp_path: Path) -> None:
    source = SOURCE.replace("import beside", "class beside: NAME = ''")
    with running(tmp_path, source, "--host", "::", "--port", "0") as server, httpx.Client(trust_env=False) as client:
        for host in ("127.0.0.1", "[::1]"):
            assert client.get(f"http://{host}:{server.port}/").status_code == 200


def test_listener_is_handed_on_by_its_number(tmp_path: Path) -> None:
    source = SOURCE.replace("import beside", "class beside: NAME = ''")
    with socket.create_server(("127.0.0.1", 0)) as sock, httpx.Client(trust_env=False) as client:
        number = sock.fileno()
        with running(tmp_path, source, "--fd", str(number), pass_fds=(number,)) as server:
            assert client.get(f"http://127.0.0.1:{sock.getsockname()[1]}/").status_code == 200
            assert server.port == sock.getsockname()[1]
