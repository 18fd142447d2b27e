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
    (program / "main.py").write_text(f"import edge\n{script}\n")
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
        ("print, port=0", 2, ".*: workers import the application by its name; use 'MODULE:ATTR'"),
        ('"broken:app", port=0', 1, "application 'broken:app' failed to start: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(tmp_path: Path, call: str, code: int, error: str) -> None:
    process = start(tmp_path, f"open('program/broken.py', 'w').write('1 / 0')\nedge.run({call})")
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
