"""PasteDeploy files: `--paste`, and `egg:edge-serve#main` as a program such as pserve uses it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from tests.process.server import DEADLINE, ROOT, Server, clean_environment

INI = """
[DEFAULT]
greeting = hello
[server:main]
use = egg:gunicorn#main
host = 127.0.0.1
port = 8080
[app:main]
paste.app_factory = shop:make
[app:other]
paste.app_factory = shop:make
own = other
"""
SHOP = """
def make(global_config, **local):
    greeting = local.get("own") or global_config["greeting"]

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [greeting.encode()]
    return app
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paste")
    (folder / "development.ini").write_text(INI)
    (folder / "shop.py").write_text(SHOP)
    return folder


def environment(folder: Path) -> dict[str, str]:
    return clean_environment(EDGE_HOME=str(folder / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")


@pytest.mark.parametrize(
    ("arguments", "greeting"),
    [
        (["--paste", "development.ini", "--paste-global", "greeting=hi"], "hi"),
        (["--paste", "development.ini#other"], "other"),
    ],
)
def test_application_of_the_file_is_served(project: Path, arguments: list[str], greeting: str) -> None:
    with Server(["--port", "0", *arguments], cwd=project, environ=environment(project)) as server:
        server.wait_ready()
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"http://127.0.0.1:{server.port}/").text == greeting


def test_missing_file_is_refused(project: Path) -> None:
    with Server(["--port", "0", "--paste", "nosuch.ini"], cwd=project, environ=environment(project)) as server:
        assert server.wait_end() == 2
    assert any(line.endswith("nosuch.ini: no such file; use one that exists") for line in server.errors)


def test_server_section_may_name_us(project: Path) -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["paste.server_runner"][
        "main"
    ]
    program = f"""
import importlib
module, name = {entry!r}.split(":")
getattr(importlib.import_module(module), name)(None, {{"__file__": "development.ini"}}, host="127.0.0.1", port="0")
"""
    done = subprocess.Popen(
        [sys.executable, "-c", program], cwd=project, env=environment(project), stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert done.stderr is not None
        address = next(line.split()[-1] for line in done.stderr if "listening on" in line)
        with httpx.Client(trust_env=False) as client:
            assert client.get(address).text == "hello"
    finally:
        done.terminate()
        done.communicate(timeout=DEADLINE)
    assert done.returncode == 0
