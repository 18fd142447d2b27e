"""`edge.run()` from a program of one's own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, clean_environment

HELLO = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def start(folder: Path, script: str, **environ: str) -> subprocess.Popen[str]:
    """Run a script of this text, `program/main.py`, from `folder`."""
    program = folder / "program"
    program.mkdir()
    (program / "application.py").write_text(HELLO)
    # A shell without job control has SIGINT ignored in what it runs in the background, and in all that this starts.
    own = "import edge, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (program / "main.py").write_text(f"{own}{script}\n")
    environment = clean_environment(EDGE_HOME=str(folder), EDGE_WORKERS="1", EDGE_EDGES="1", **environ)
    return subprocess.Popen(
        [sys.executable, "program/main.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def request_and_stop(process: subprocess.Popen[str]) -> tuple[bytes, str]:
    """Wait until it listens, send a request, stop it; return the answer and standard output."""
    assert process.stderr is not None
    match = re.search(r"listening on http://127\.0\.0\.1:(\d+)", process.stderr.readline())
    try:
        assert match is not None
        with socket.create_connection(("127.0.0.1", int(match[1])), DEADLINE) as sock:
            sock.sendall(GET)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE)
    return answer, output


def test_run_serves_and_returns_none(tmp_path: Path) -> None:
    script = 'print("returned", edge.run("application:app", port=0, access_log=False))'
    process = start(tmp_path, script)
    answer, output = request_and_stop(process)
    assert answer.endswith(b"\r\n\r\nhello")
    assert (process.returncode, output) == (0, "returned None\n")


def test_environment_counts_for_what_is_not_given(tmp_path: Path) -> None:
    process = start(tmp_path, 'edge.run("application:app")', EDGE_PORT="0", EDGE_LOG_FORMAT="json")
    _, output = request_and_stop(process)
    assert '"status":200' in output


@pytest.mark.parametrize(
    ("call", "code", "error"),
    [
        ('"nosuch:app", port=0', 2, r"application 'nosuch:app': no module named 'nosuch' in '.*/program'; .*"),
        ('"application:app", prot=0', 2, "prot: unknown option; did you mean port"),
        ('"application:app", max_body="10mb"', 2, "max_body='10mb': unknown unit 'mb'; .*"),
        ('"application:app", port=0, cert="no.pem"', 2, r"certificate no\.pem: no such file; .*"),
        ("1, port=0", 2, "application: 'int' cannot be called; name an ASGI or WSGI application"),
        ("broken, factory=True, port=0", 1, "application 'application' failed to start: .*: division by zero"),
        ("broken, port=0, pid='x'", 2, "pid: a server inside a program has none; use edge serve, or an import string"),
        ('"broken:app", port=0', 1, "application 'broken:app' failed to start: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(tmp_path: Path, call: str, code: int, error: str) -> None:
    script = f"open('program/broken.py', 'w').write('1 / 0')\ndef broken(): return 1 / 0\nedge.run({call})"
    process = start(tmp_path, script)
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (code, "")
    [line] = [line for line in errors.splitlines() if line.startswith("edge: ")]
    assert re.fullmatch(f"edge: {error}", line)
    assert code == 1 or errors == line + "\n"


def test_application_folder_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.py").write_text(HELLO)
    process = start(tmp_path, 'edge.run("other:app", port=0)', EDGE_APP_DIR="elsewhere")
    answer, _ = request_and_stop(process)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_import_of_edge_loads_nothing_else() -> None:
    command = "import sys; before = set(sys.modules); import edge; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout == "edge\n"


APPLICATION = """
import asyncio, os, sys, time
from application import app as hello

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/held":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"held ", "more_body": True})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
        return
    await hello(scope, receive, send)
"""


def test_application_itself_is_served_by_this_process(tmp_path: Path) -> None:
    process = start(tmp_path, APPLICATION + 'print("returned", edge.run(app, port=0, access_log=False))')
    answer, output = request_and_stop(process)
    assert answer.endswith(b"\r\n\r\nhello")
    assert (process.returncode, output) == (0, "shutdown\nreturned None\n")


@pytest.mark.parametrize("option", ["reload=True", "workers=2"])
def test_application_itself_is_not_for_processes(tmp_path: Path, option: str) -> None:
    process = start(tmp_path, APPLICATION + f"edge.run(app, port=0, {option})")
    output, errors = process.communicate(timeout=DEADLINE)
    message = "edge: You must pass the application as an import string to enable 'reload' or 'workers'.\n"
    assert (process.returncode, output, errors) == (3, "", message)


SERVE = """
async def main():
    try:
        await edge.Server(edge.Config(app, port=0, access_log=False)).serve()
    finally:
        print("program goes on", flush=True)
asyncio.run(main())
"""
RUN = "edge.Server(edge.Config(app, port=0, access_log=False)).run()"


@pytest.mark.parametrize("how", [SERVE, RUN], ids=["serve", "run"])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, ""), (signal.SIGINT, "KeyboardInterrupt")])
def test_signal_ends_the_server_first_and_the_program_then(tmp_path: Path, how: str, number: int, error: str) -> None:
    code = -number
    process = start(tmp_path, APPLICATION + how)
    assert process.stderr is not None
    match = re.search(r"listening on http://127\.0\.0\.1:(\d+)", process.stderr.readline())
    answer = b""
    try:
        assert match is not None
        with socket.create_connection(("127.0.0.1", int(match[1])), DEADLINE) as sock:
            sock.sendall(GET.replace(b"GET /", b"GET /held"))
            while b"held" not in answer:
                answer += sock.recv(65536)
            process.send_signal(number)
            number = signal.SIGCONT  # a second one would end it at once
            answer += b"".join(iter(lambda: sock.recv(65536), b""))
    finally:
        process.send_signal(number)
        output, errors = process.communicate(timeout=DEADLINE)
    assert str(process.pid).encode() in answer
    assert output.startswith("shutdown\n")
    assert process.returncode == code
    assert error in errors


def test_name_that_is_not_there_is_an_attribute_error() -> None:
    import edge

    assert edge.__version__
    with pytest.raises(AttributeError, match="module 'edge' has no attribute 'nothing'"):
        _ = edge.nothing
