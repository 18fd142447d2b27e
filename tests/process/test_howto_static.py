"""docs/howto/static-files.md and single-page-app.md, typed as they stand there."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.server import ROOT, Server, clean_environment

_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (?P<command>[^\n]+)\n(?P<output>(?:(?!\$ )[^\n]*\n)*)", re.MULTILINE)

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    known = {"/hello": b"hello from the application\\n", "/api/users/7": b'{"id": 7}\\n'}
    body = known.get(scope["path"])
    await send({"type": "http.response.start", "status": 404 if body is None else 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b""})
"""


def _write(folder: Path) -> None:
    for name in ("app", "api"):
        (folder / f"{name}.py").write_text(APPLICATION)
    files = {
        "public/app.3f2a9c1b.js": b"console.log('hello');\n" * 50,
        "public/app.3f2a9c1b.js.gz": gzip.compress(b"console.log('hello');\n" * 50),
        "public/favicon.ico": b"icon",
        "public/guide.txt": b"First of all\n",
        "dist/index.html": b'<!doctype html><div id="app"></div>\n',
        "dist/assets/index-BX3k9_dQ.js": b"draw()\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("page", ["static-files", "single-page-app"])
def test_every_command_of_the_page_works(page: str, tmp_path: Path) -> None:
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    _write(tmp_path)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_WORKERS="1", EDGE_PORT="0")
    text = (ROOT / f"docs/howto/{page}.md").read_text()
    commands = [match for block in _CONSOLE.findall(text) for match in _COMMAND.finditer(block)]
    assert len(commands) >= 6
    with ExitStack() as servers:
        address = ""
        for match in commands:
            words = shlex.split(match["command"])
            if words[:2] == ["edge", "serve"]:
                server = servers.enter_context(Server(words[2:], cwd=tmp_path, environ=environ))
                address = f"127.0.0.1:{server.wait_ready().port}"
                continue
            command = match["command"].replace("127.0.0.1:8000", address)
            shell = ("bash", "-c", f"set -e; {command}")
            done = subprocess.run(
                shell, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
            )
            if words[0] == "ls":  # a terminal has columns
                assert done.stdout.split() == match["output"].split()
            else:
                assert done.stdout.removesuffix("\n") == match["output"].removesuffix("\n"), command
