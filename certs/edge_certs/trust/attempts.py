"""Runs the clients of `edge trust check` in processes of their own, several at once, each with its own environment."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from edge_certs.trust.calls import TIMEOUT
from edge_certs.trust.clients import (
    Client,
    Outcome,
    library_command,
    read_library,
    read_tool,
    tool_command,
    tool_environment,
)

# More than the sum of what a client may take to connect, to be answered, and to start on a machine that is busy.
LONGEST = 3 * TIMEOUT
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Setting:
    """How clients are started: `environ` for all of them, `prelude` (Python code) for libraries before their call."""

    name: str
    environ: Mapping[str, str]
    prelude: str = ""


def attempt_all(
    clients: Iterable[Client], settings: Sequence[Setting], url: str, proxy: str
) -> dict[tuple[str, str], Outcome]:
    """Return what each client came to in each setting, by both names; `proxy` is the URL that variables name, or ''."""
    cases = [(client, setting) for client in clients for setting in settings]
    # The children do the work; one more than there are processors keeps those that wait for the network from it.
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        outcomes = list(pool.map(lambda case: attempt(case[0], case[1], url, proxy), cases))
    names = [(client.name, setting.name) for client, setting in cases]
    return dict(zip(names, outcomes, strict=True))


def attempt(client: Client, setting: Setting, url: str, proxy: str) -> Outcome:
    """Return what one call by `client` to `url` came to."""
    environ = tool_environment(setting.environ, proxy)
    if client.is_library:
        code, output = _run(library_command(sys.executable, setting.prelude, client.name, url), environ)
        return read_library(output)
    program = find_program(client.name, environ)
    if not program:
        return Outcome("absent", "not installed")
    code, output = _run(tool_command(client.name, program, url), environ)
    return replace(read_tool(client.name, code, output), version=_version(program, environ))


def find_program(name: str, environ: Mapping[str, str]) -> list[str]:
    """Return the command that starts the tool: the application's own pip and uv first, then what is on the path."""
    if name == "pip" and importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join(filter(None, (beside if name in ("pip", "uv") else "", environ.get("PATH", os.defpath))))
    found = shutil.which(name, path=path)
    return [found] if found else []


def _version(program: Sequence[str], environ: Mapping[str, str]) -> str:
    found = _VERSION.search(_run([*program, "--version"], environ)[1])
    return found[0] if found else ""


def _run(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
    """Return the exit code, and standard error with standard output behind it."""
    try:
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {LONGEST:g} s"
    except OSError as error:
        return -1, str(error)
    return done.returncode, done.stderr + done.stdout
