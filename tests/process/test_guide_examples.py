"""What guides to uvicorn show, done with edge: twenty command lines, and the programs that start a server themselves.

The commands are uvicorn's, behind `edge`; `--port 0` stands for each port, so that tests do not meet.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.process.server import DEADLINE, Authority, Server, clean_environment, wait_until

# Tells what the examples are about.
MYAPP = """
import asyncio, json, os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"].endswith("/held"):
        await asyncio.sleep(0.5)
    seen = {
        "pid": os.getpid(),
        "loop": type(asyncio.get_running_loop()).__module__,
        "root_path": scope["root_path"],
        "scheme": scope["scheme"],
        "setting": os.environ.get("SETTING"),
        "version": 1,
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})

def create_app():
    return app
"""
# The harness says `python -m edge serve ...`; a shell takes the words away that are not meant.
_COMMAND = 'python=$1; shift 4; exec "$python" -m edge "$@"'
_SCRIPT = 'python=$1; shift 4; exec "$python" "$@"'


@contextlib.contextmanager
def typed(folder: Path, command: str, *, shell: str = _COMMAND, **popen: Any) -> Iterator[Server]:
    """Run the command as it would be typed in the folder, until it serves."""
    environ = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_EDGES="1")
    wrapper = ["sh", "-c", shell, "sh"]
    with Server(command.split(), cwd=folder, environ=environ, wrapper=wrapper, **popen) as server:
        yield server.wait_ready()


def script(folder: Path, name: str, source: str) -> contextlib.AbstractContextManager[Server]:
    """Write a program and run it."""
    (folder / name).write_text(source)
    return typed(folder, name, shell=_SCRIPT)


def save(path: Path, source: str) -> None:
    """As careful editors do: the whole file at once."""
    path.with_suffix(".new").write_text(source)
    path.with_suffix(".new").rename(path)


def ask(server: Server, path: str = "/", **options: Any) -> httpx.Response:
    """Send a request to the first address."""
    url = server.addresses[0].replace("0.0.0.0", "127.0.0.1")
    with httpx.Client(trust_env=False, timeout=DEADLINE, **options) as client:
        return client.get(url + path)


def uvicorn(folder: Path, flags: str, target: str = "myapp:app", **popen: Any) -> Any:
    """`uvicorn TARGET FLAGS`, with edge before it."""
    (folder / "myapp.py").write_text(MYAPP)
    return typed(folder, f"uvicorn {target} {flags}", **popen)


# Twenty command lines.


def test_01_basic_application(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--port 0") as server:
        assert server.addresses[0].startswith("http://127.0.0.1:")
        assert ask(server).json()["scheme"] == "http"


def test_02_host_and_port(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--host 0.0.0.0 --port 0") as server:
        assert server.addresses[0].startswith("http://0.0.0.0:")
        assert ask(server).status_code == 200


@pytest.mark.parametrize("flags", ["", " --reload-dir ./src"], ids=["03", "04"])
def test_03_04_reload(tmp_path: Path, flags: str) -> None:
    (tmp_path / "src").mkdir()
    with uvicorn(tmp_path, f"--port 0 --reload{flags}") as server:
        server.wait_error("reload: watching ")
        assert ask(server).json()["version"] == 1
        save(tmp_path / "myapp.py", MYAPP.replace('"version": 1', '"version": 2'))
        if flags:  # what changes there is looked at, and nothing else
            (tmp_path / "src" / "part.py").write_text("changed = True\n")
        wait_until(lambda: ask(server).json()["version"] == 2, "the new code answers")


def test_05_several_workers(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--port 0 --workers 2") as server:
        wait_until(lambda: len({ask(server).json()["pid"] for _ in range(4)}) == 2, "both answer")


def test_06_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "uvicorn.sock"
    with uvicorn(tmp_path, f"--uds {path}"), httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/").status_code == 200
    assert not path.exists()


def test_07_open_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number = sock.fileno()
        with uvicorn(tmp_path, f"--fd {number}", pass_fds=(number,)) as server:
            assert server.port == sock.getsockname()[1]
            assert ask(server).status_code == 200


def test_08_to_13_implementations_logs_headers_and_root_path(tmp_path: Path) -> None:
    pytest.importorskip("uvloop", reason="needs uvloop")
    flags = "--loop uvloop --http httptools --log-level debug --no-access-log --no-server-header --root-path /api"
    with uvicorn(tmp_path, f"--port 0 {flags}") as server:
        answer = ask(server)
        assert (answer.json()["loop"], answer.json()["root_path"]) == ("uvloop", "/api")
        assert "server" not in answer.headers
        server.wait_error(" DEBUG edge")
    assert server.output == []


def test_14_15_19_limits_and_an_application_factory(tmp_path: Path) -> None:
    flags = "--factory --port 0 --limit-concurrency 100 --limit-max-requests 3"
    with uvicorn(tmp_path, flags, "myapp:create_app()") as server:
        first = {ask(server).json()["pid"] for _ in range(3)}
        wait_until(lambda: ask(server).json()["pid"] not in first, "another worker answers")
    assert not [line for line in server.errors if "--factory" in line and "WARNING" in line]


def test_16_17_18_tls_and_files_of_variables_and_for_logs(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "cert.pem").write_bytes(authority.cert.read_bytes())
    (tmp_path / "key.pem").write_bytes(authority.key.read_bytes())
    (tmp_path / ".env").write_text("SETTING=from the file\n")
    config = {
        "formatters": {"plain": {"format": "OWN %(name)s %(message)s"}},
        "handlers": {"own": {"class": "logging.FileHandler", "filename": "own.log", "formatter": "plain"}},
        "loggers": {name: {"handlers": ["own"], "level": "INFO"} for name in ("uvicorn.error", "uvicorn.access")},
    }
    (tmp_path / "logging.yaml").write_text(json.dumps(config))  # which is YAML, too
    flags = "--ssl-keyfile=./key.pem --ssl-certfile=./cert.pem --env-file .env --log-config ./logging.yaml"
    with uvicorn(tmp_path, f"--port 0 {flags}") as server:
        seen = ask(server, verify=authority.client_context()).json()
        assert (seen["scheme"], seen["setting"]) == ("https", "from the file")
    assert "OWN uvicorn.access" in (tmp_path / "own.log").read_text()


def test_20_program_that_wants_to_reload_its_own_object(tmp_path: Path) -> None:
    source = MYAPP + "import edge as uvicorn\nuvicorn.run(app, host='0.0.0.0', port=0, log_level='info', reload=True)\n"
    (tmp_path / "run_app.py").write_text(source)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with Server(["run_app.py"], cwd=tmp_path, environ=environ, wrapper=["sh", "-c", _SCRIPT, "sh"]) as server:
        # As with uvicorn, which the guides did not try.
        assert server.wait_end() == 3
    message = "You must pass the application as an import string to enable 'reload' or 'workers'."
    assert server.errors == [f"edge: {message}"]


# Programs.

MAIN = """
{source}
if __name__ == "__main__":
    {start}
"""
SIMPLE = "uvicorn.run('main:app', host='127.0.0.1', port=0, log_level='info')"
SERVER = """config = uvicorn.Config('main:app', host='127.0.0.1', port=0, log_level='info')
    server = uvicorn.Server(config)
    server.run()"""
ASYNCHRONOUS = """import asyncio
    async def main():
        server = uvicorn.Server(uvicorn.Config('main:app', host='127.0.0.1', port=0, log_level='info'))
        await server.serve()
    asyncio.run(main())"""


@pytest.mark.parametrize("start", [SIMPLE, SERVER, ASYNCHRONOUS], ids=["run", "server", "asynchronous"])
def test_program_starts_a_server(tmp_path: Path, start: str) -> None:
    source = MAIN.format(source="import edge as uvicorn\n" + MYAPP, start=start)
    with script(tmp_path, "main.py", source) as server:
        assert ask(server).json()["scheme"] == "http"
        own = ask(server).json()["pid"] == server.process.pid
        assert own is (start != SIMPLE)  # the name is for workers with processes of their own


FASTAPI = """
import asyncio, edge as uvicorn
from fastapi import BackgroundTasks, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

app = FastAPI()

@app.get("/")
async def index():
    await asyncio.sleep(0.01)
    return {"greeting": "hello", "version": 1}

@app.get("/items/{number}")
async def item(number: int, q: str | None = None):
    return {"number": number, "q": q}

def note(text: str):
    with open("notes.txt", "a") as file:
        file.write(text + "\\n")

@app.get("/notify")
async def notify(tasks: BackgroundTasks, email: str):
    tasks.add_task(note, f"told {email}")
    return {"told": "soon"}

@app.get("/chat", response_class=HTMLResponse)
async def chat():
    return "<script>new WebSocket('ws://' + location.host + '/ws')</script>"

@app.websocket("/ws")
async def talk(websocket: WebSocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("you said: " + await websocket.receive_text())
    except WebSocketDisconnect:
        note("left")
"""


def test_fastapi_program_with_everything_and_one_worker_that_reloads(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs fastapi")
    notes = tmp_path / "notes.txt"
    start = "uvicorn.run('main:app', host='0.0.0.0', port=0, workers=4, reload=True)"
    source = MAIN.format(source=FASTAPI, start=start)
    with script(tmp_path, "main.py", source) as server:
        server.wait_error('"workers" flag is ignored when reloading is enabled.')
        assert ask(server, "/items/7?q=x").json() == {"number": 7, "q": "x"}
        assert "openapi" in ask(server, "/docs").text
        assert "/ws" in ask(server, "/chat").text
        assert ask(server, "/notify?email=user@shop.test").json() == {"told": "soon"}
        wait_until(lambda: notes.exists() and notes.read_text() == "told user@shop.test\n", "the task has run")
        with connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as websocket:
            websocket.send("hello")
            assert websocket.recv(DEADLINE) == "you said: hello"
        wait_until(lambda: notes.read_text().endswith("left\n"), "the application hears that the client has left")
        server.wait_error("reload: watching ")
        save(tmp_path / "main.py", source.replace('"version": 1', '"version": 2'))
        wait_until(lambda: ask(server).json()["version"] == 2, "the new code answers")
        wait_until(lambda: len(server.workers()) == 1, "the old worker has ended")


def test_package_in_a_folder_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "myservice").mkdir()
    (tmp_path / "myservice" / "main.py").write_text(MYAPP + "api = app\n")
    options = (
        "host='127.0.0.1', port=0, workers=1, proxy_headers=True, forwarded_allow_ips='*', root_path='', "
        "timeout_keep_alive=5, headers=[('X-Served-By', 'edge')], log_level='debug', reload_dirs=['myservice']"
    )
    with script(
        tmp_path, "start.py", f"import edge as uvicorn\nuvicorn.run('myservice.main:api', {options})"
    ) as server:
        answer = ask(server, headers={"X-Forwarded-Proto": "https"})
        assert (answer.json()["scheme"], answer.headers["x-served-by"]) == ("https", "edge")
    assert server.process.returncode == 0
