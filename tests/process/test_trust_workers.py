"""What `edge trust` does to workers that run, and what `--trust-strict` does to those that start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import trustme

from tests.process.server import DEADLINE, clean_environment, serving
from tests.process.tls_proxy import site

APPLICATION = """
import asyncio
from urllib.parse import unquote
import requests

def call(url):
    try:
        return requests.get(url, timeout=20).text
    except requests.exceptions.SSLError as error:
        return f"refused: {error}"

async def app(scope, receive, send):
    text = await asyncio.to_thread(call, unquote(scope["query_string"].decode()))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""


def edge_trust(*arguments: str, environ: dict[str, str]) -> str:
    command = [sys.executable, "-m", "edge", "trust", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(port: int, url: str) -> str:
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        return client.get(f"http://127.0.0.1:{port}/?{quote(url, safe='')}").text


def test_add_and_remove_with_reload_reach_workers_that_run(tmp_path: Path) -> None:
    corporate = trustme.CA()
    corporate.cert_pem.write_to_path(str(tmp_path / "corp.pem"))
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with site(corporate, "localhost") as port, serving(tmp_path, APPLICATION) as server:
        url = f"https://localhost:{port}/"
        before = server.workers()
        assert "CERTIFICATE_VERIFY_FAILED" in ask(server.port, url)
        added = edge_trust("add", str(tmp_path / "corp.pem"), "--reload", environ=environ)
        assert added.endswith("\nreloaded: 1 worker\n")
        assert ask(server.port, url) == "ok"
        assert not set(before) & set(server.workers())
        removed = json.loads(edge_trust("remove", "corp", "--reload", "--json", environ=environ))
        assert (len(removed["removed"]), removed["reloaded"]) == (1, 1)
        assert "CERTIFICATE_VERIFY_FAILED" in ask(server.port, url)
    unchanged = edge_trust("remove", "corp", "--reload", environ=environ)
    assert unchanged.endswith("\nreloaded: no server runs\n")


STRICT = """
import ssl

async def app(scope, receive, send):
    flags = ssl.create_default_context().verify_flags
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(bool(flags & ssl.VERIFY_X509_STRICT)).encode()})
"""


@pytest.mark.parametrize(("value", "is_strict", "lines"), [("auto", sys.version_info >= (3, 13), 0), ("off", False, 1)])
def test_workers_are_as_strict_as_their_python_unless_that_is_turned_off(
    value: str, is_strict: bool, lines: int, tmp_path: Path
) -> None:
    with serving(tmp_path, STRICT, "--trust-strict", value) as server:
        assert ask(server.port, "") == str(is_strict)
    assert sum("--trust-strict off" in line for line in server.errors) == lines
