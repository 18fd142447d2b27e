"""Fixtures of the tests with other people's applications and clients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.server import Authority, Server, clean_environment

APPS = Path(__file__).parent / "apps"

Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, with a certificate for localhost; it is one for the whole run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def serve(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Serve applications of `apps` over TLS, one worker each, until the module's tests are over.

    Calling it gives a server that is ready; the working directory is new and empty.
    """
    with contextlib.ExitStack() as running:

        def start(target: str, *arguments: str, **environ: str) -> Server:
            folder = tmp_path_factory.mktemp("serving")
            environment = clean_environment(EDGE_HOME=str(folder / "home"), **environ)
            options = ["--port", "0", "--host", "127.0.0.1", "--workers", "1", "--edges", "1"]
            options += ["--cert", str(authority.cert), "--app-dir", str(APPS), *arguments]
            server = running.enter_context(Server([*options, target], cwd=folder, environ=environment))
            return server.wait_ready()

        yield start
