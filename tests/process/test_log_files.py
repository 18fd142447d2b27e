"""Where the logs go for real: --access-logfile with SIGUSR1, --access-log-format, --log-config."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.process.server import Server, clean_environment, running, wait_until

SOURCE = """
import logging

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    logging.getLogger("shop").warning("sold")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-shop", b"open")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
FILE = """
version: 1
disable_existing_loggers: true
formatters:
  default: {"()": uvicorn.logging.DefaultFormatter, fmt: "%(levelprefix)s %(name)s %(message)s", use_colors: true}
  access: {"()": uvicorn.logging.AccessFormatter, fmt: '%(client_addr)s "%(request_line)s" %(status_code)s'}
handlers:
  default: {class: logging.FileHandler, formatter: default, filename: own.log}
  access: {class: logging.FileHandler, formatter: access, filename: access.log}
loggers:
  uvicorn: {handlers: [default], level: INFO, propagate: false}
  uvicorn.access: {handlers: [access], level: INFO, propagate: false}
root: {handlers: [default], level: WARNING}
"""


def get(server: Server, path: str = "/") -> int:
    with httpx.Client(trust_env=False) as client:
        return client.get(f"http://127.0.0.1:{server.port}{path}", headers={"User-Agent": "test"}).status_code


def lines_of(path: Path, count: int) -> list[str]:
    def found() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        return lines if len(lines) >= count else []

    lines: list[str] = wait_until(found, f"{count} lines in {path.name}")
    return lines


def test_access_log_goes_to_its_file_in_its_format_and_begins_anew(tmp_path: Path) -> None:
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    line = '%(h)s "%(r)s" %(s)s %(B)s "%(a)s" %({x-shop}o)s %({Content-Length}o)s'
    options = ["--access-logfile", "access.log", "--access-log-format", line]
    with running(tmp_path, SOURCE, "--port", "0", *options) as server:
        assert get(server, "/a?token=x") == 200
        [first] = lines_of(log, 1)
        assert first == '127.0.0.1 "GET /a?token=[redacted] HTTP/1.1" 200 5 "test" open 5'
        log.rename(moved)
        server.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists, "the file is begun anew")
        assert get(server, "/b") == 200
        assert '"GET /b HTTP/1.1" 200' in lines_of(log, 1)[0]
        assert len(moved.read_text().splitlines()) == 1
    assert server.output == []


def test_file_of_uvicorn_says_where_everything_goes(tmp_path: Path) -> None:
    (tmp_path / "log.yaml").write_text(FILE)
    with running(tmp_path, SOURCE, "--port", "0", "--log-config", "log.yaml", "-k", "sync") as server:
        assert get(server, "/a") == 200
        assert lines_of(tmp_path / "access.log", 1) == ['127.0.0.1 "GET /a HTTP/1.1" 200 OK']
        own = "\n".join(lines_of(tmp_path / "own.log", 2))
        assert "\033[33mWARNING\033[0m:  shop sold" in own
        assert re.search("INFO\033.*edge.server --worker-class sync: ignored", own)
    assert server.output == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--log-config", "nosuch.yaml"], "edge: --log-config nosuch.yaml: no such file or directory; use a file that"),
        (["--access-logfile", "no/a.log"], "no/a.log: no such file or directory; use a file that this user may write"),
    ],
)
def test_file_of_no_use_is_refused_before_anything_starts(tmp_path: Path, arguments: list[str], line: str) -> None:
    environment = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_PORT="0")
    with Server([*arguments, "application:app"], cwd=tmp_path, environ=environment) as server:
        assert server.wait_end() == 2
    [found] = server.errors
    assert line in found
