"""`edge.toml` and the running server: found, read again, and refused with its lines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import control
from tests.process.server import RawClient, Server, clean_environment, wait_until

APPLICATION = """
import os

async def app(scope, receive, send):
    body = f"{os.environ.get('NAME', '')} {scope['root_path']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""

FILE = """\
[listen]
bind = "127.0.0.1:0"

[pool]
workers = 1
edges = 1

[limits]
max_body = "4KiB"

[[site]]
hosts = ["shop.example"]

[[site.route]]
app = "application:app"
env = {{ NAME = "shop" }}
workers = {workers}

[[site.route]]
path = "/admin"
app = "application:app"
env = {{ NAME = "admin" }}
strip = true

[[site]]

[[site.route]]
redirect = "https://shop.example"
keep_path = true
"""


def edge(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run an `edge` command beside the file; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "edge", *arguments],
        check=False,
        cwd=folder,
        env=clean_environment(EDGE_HOME=str(folder / "home")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "edge.toml").write_text(FILE.format(workers=1))
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with Server([], cwd=tmp_path, environ=environ) as started:
        yield started.wait_ready()


def ask(server: Server, host: str, path: str, body: bytes = b"") -> tuple[int, dict[bytes, bytes], bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    with RawClient(server.port) as client:
        client.send(head.encode() + body)
        return client.receive_response()


def status(folder: Path) -> dict[str, Any]:
    return control.ask(control.find_server({"EDGE_HOME": str(folder / "home")}), "status")


def test_file_of_the_current_directory_is_served_and_read_again(server: Server, tmp_path: Path) -> None:
    server.wait_error(r"edge: settings from edge\.toml$")
    assert ask(server, "shop.example", "/a")[2] == b"shop  /a"
    assert ask(server, "shop.example", "/admin/b")[2] == b"admin /admin /admin/b"
    code, fields, _ = ask(server, "other.example", "/c?d=e")
    assert (code, fields[b"location"]) == (308, b"https://shop.example/c?d=e")
    assert ask(server, "shop.example", "/a", b"x" * 5000)[0] == 413

    file = tmp_path / "edge.toml"
    file.write_text(FILE.format(workers=2).replace("4KiB", "8KiB").replace('"shop"', '"SHOP"'))
    edge(tmp_path, "reload")
    large = b"x" * 5000
    wait_until(
        lambda: ask(server, "shop.example", "/a", large)[2] == b"SHOP  /a", "the new limit, and the new variable"
    )
    assert len(status(tmp_path)["workers"]) == 3

    file.write_text(FILE.format(workers=2).replace("4KiB", "4kb").replace("workers = 1", "worker = 1"))
    assert edge(tmp_path, "reload", code=1).splitlines() == [
        "edge: settings not reloaded: edge.toml:5: pool.worker: unknown key; did you mean pool.workers",
        "edge: edge.toml:9: limits.max_body = '4kb': unknown unit 'kb'; use KiB, MiB, GiB or a number of bytes",
    ]
    server.wait_error(r"settings not reloaded: edge\.toml:5: .*; edge\.toml:9: .*; the old ones go on serving")
    assert ask(server, "shop.example", "/a", large)[2] == b"SHOP  /a"

    file.unlink()
    assert "edge.toml: no such file or directory" in edge(tmp_path, "reload", code=1)
    assert ask(server, "shop.example", "/a")[2] == b"SHOP  /a"


def test_wrong_file_starts_nothing_and_says_every_line(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "edge.toml").write_text('[limits]\nmax_body = "10mb"\nmax_headers = 0\n[pool]\nworker = 2\n')
    refused = edge(tmp_path, "serve", "-c", "conf/edge.toml", "--queue", "x", "application:app", code=2).splitlines()
    assert sorted(refused) == [
        "edge: --queue 'x': not a whole number; use 0 to 1000000",
        "edge: conf/edge.toml:2: limits.max_body = '10mb': unknown unit 'mb'; use KiB, MiB, GiB or a number of bytes",
        "edge: conf/edge.toml:3: limits.max_headers = 0: out of range; use 1 to 10000",
        "edge: conf/edge.toml:5: pool.worker: unknown key; did you mean pool.workers",
    ]
    (folder / "edge.toml").write_text("[limits\n")
    assert edge(tmp_path, "serve", "--config", "conf/edge.toml", code=2).startswith(
        "edge: conf/edge.toml:1: not TOML: "
    )
