"""What `edge trust env` prints, read by the programs that it is for; shells are in tests/certs/trust/test_formats.py.

No Debian package has PowerShell, nothing but GitHub's runner reads $GITHUB_ENV, and no daemon runs here: those two are
held to their documentation there, and the real `docker` speaks to a daemon of this test's own.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from dotenv import dotenv_values

from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES
from tests.process.server import DEADLINE, clean_environment

# What shells, systemd, compose and YAML each read as their own.
HARD = 'it\'s "50%" $HOME #1 \\n'
NAMES = {*BUNDLE_VARIABLES, *EXTRA_VARIABLES}


def printed(kind: str, home: Path) -> str:
    """Return what a user with that home and one added root is told."""
    environ = clean_environment(EDGE_HOME=str(home))
    root = home.parent / "corp.pem"
    trustme.CA().cert_pem.write_to_path(str(root))
    for arguments in (["add", str(root)], ["env", "--format", kind]):
        done = subprocess.run(
            [sys.executable, "-m", "edge", "trust", *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def expected(home: Path) -> dict[str, str]:
    files = dict.fromkeys(BUNDLE_VARIABLES, "bundle.pem") | dict.fromkeys(EXTRA_VARIABLES, "extra.pem")
    return {name: f"{home}/trust/{file}" for name, file in files.items()}


def inside(names: set[str]) -> dict[str, str]:
    """Return where the variables lead in a container."""
    return {name: f"/etc/ssl/edge/{'extra' if name in EXTRA_VARIABLES else 'bundle'}.pem" for name in names}


def need(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"needs the tool {tool}")
    return found


# A quote and what else is special at once is more than any reader of .env files agrees on.
@pytest.mark.parametrize("name", ["plain", 'a "50%" $HOME #1', "it's"])
def test_dotenv_file_is_read_as_it_was_meant(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    (tmp_path / ".env").write_text(printed("dotenv", home))
    assert dotenv_values(tmp_path / ".env") == expected(home)


def test_dotenv_file_is_sourced_by_a_shell(tmp_path: Path) -> None:
    home = tmp_path / 'a "50%" $HOME #1'
    (tmp_path / ".env").write_text(printed("dotenv", home))
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(
        [need("sh"), "-ec", f"set -a; . ./.env; {show}"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=DEADLINE,
    )
    assert json.loads(done.stdout).items() >= expected(home).items()


@pytest.mark.parametrize("home", ["plain", HARD])
def test_systemd_takes_the_drop_in_without_a_complaint(home: str, tmp_path: Path) -> None:
    unit = tmp_path / "app.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    drop_in = tmp_path / "app.service.d/trust.conf"
    drop_in.parent.mkdir()

    def complaints(text: str) -> str:
        drop_in.write_text(text)
        command = [need("systemd-analyze"), "verify", "--man=no", str(unit)]
        environ = {"PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": "warning"}
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False
        ).stderr

    text = printed("systemd", tmp_path / home)
    assert complaints(text) == ""
    assert "trust.conf" in complaints(f'{text}Environment=NAME"x\n')


@pytest.mark.parametrize("home", ["plain", HARD])
def test_compose_merges_the_fragment_into_a_service(home: str, tmp_path: Path) -> None:
    compose = need("docker-compose")
    service = "services:\n  app:\n    image: app\n    <<: *edge-trust\n"
    (tmp_path / "compose.yaml").write_text(f'version: "3.7"\n{printed("compose", tmp_path / home)}{service}')
    command = [compose, "-f", str(tmp_path / "compose.yaml"), "config"]
    environ = {"PATH": os.environ["PATH"], "HOME": "/root"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    app = yaml.safe_load(done.stdout)["services"]["app"]
    assert app["environment"] == inside(NAMES)
    # What is printed is for compose again, with each $ doubled.
    sources = {volume["target"]: volume["source"].replace("$$", "$") for volume in app["volumes"]}
    folder = tmp_path / home / "trust"
    assert sources == {f"/etc/ssl/edge/{name}.pem": f"{folder}/{name}.pem" for name in ("bundle", "extra")}
    assert all(volume["read_only"] for volume in app["volumes"])


class Daemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers what `docker create` asks, and keeps what it was told to create."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.created: list[Any] = []


class Handler(http.server.BaseHTTPRequestHandler):
    """The part of the Engine API (docs.docker.com/reference/api/engine) that is asked for."""

    server: Daemon

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert "/containers/create" in self.path
        self.server.created.append(json.loads(body))
        self._answer(b'{"Id": "0123456789ab", "Warnings": []}', 201)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *values: object) -> None:
        pass

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("api-version", "1.41")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def docker_daemon(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder / "docker.sock") as daemon:
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield daemon
        finally:
            daemon.shutdown()
            thread.join(DEADLINE)


def test_docker_understands_the_options_without_quotes(tmp_path: Path, short_folder: Path) -> None:
    docker = need("docker")
    home = tmp_path / "home"
    printed("docker", home)
    edge = f"{sys.executable} -m edge"
    environ = clean_environment(EDGE_HOME=str(home), DOCKER_HOST=f"unix://{short_folder}/docker.sock")
    environ["DOCKER_CONFIG"] = str(tmp_path)
    command = f"{docker} create $({edge} trust env --format docker) app"
    with docker_daemon(short_folder) as daemon:
        done = subprocess.run(
            ["sh", "-ec", command], env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    assert done.returncode == 0, done.stderr
    [created] = daemon.created
    assert dict(pair.split("=", 1) for pair in created["Env"]) == inside(NAMES)
    mounts = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in created["HostConfig"]["Mounts"]}
    files = {f"/etc/ssl/edge/{name}.pem": (f"{home}/trust/{name}.pem", True) for name in ("bundle", "extra")}
    assert (created["Image"], mounts) == ("app", files)
