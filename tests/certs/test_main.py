"""`python -P -m edge_certs`: the process that keeps certificates, as its master starts and ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_certs.settings import AuthoritySettings, KeeperSettings
from edge_certs.state import Issuance
from tests.certs.forge import child_environment

# A port of this machine where nobody listens.
DIRECTORY = "https://127.0.0.1:1/dir"


@contextmanager
def keeper(home: Path, level: str = "info") -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    settings = KeeperSettings(
        home, AuthoritySettings(DIRECTORY), (Issuance(("shop.test",), DIRECTORY, ("http-01",)),), level
    )
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "edge_certs", str(theirs.fileno())]
    with (
        ours,
        theirs,
        subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), env=child_environment(), stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        theirs.close()
        ours.sendall(settings.encode())
        try:
            yield process, ours
        finally:
            process.kill()


def test_it_says_what_fails_and_ends_with_its_master(tmp_path: Path) -> None:
    with keeper(tmp_path / "home") as (process, control):
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " ERROR edge.certs: shop.test: certificate not renewed: 127.0.0.1:1: " in line
        # The whole group gets what the terminal sends; only the master decides what it means.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process.pid, number)
        assert process.poll() is None
        control.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    with keeper(home, "error") as (process, _):
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " ERROR edge.certs: certificates are not kept: folder " in line
        assert process.wait(30) == 1
        assert process.stderr.read() == ""
