"""The first command of the quickstart as it stands there: from no environment to HTTPS, with a clock beside it."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.process.server import DEADLINE, ROOT, clean_environment, wait_until

PARTS = ("pyproject.toml", "README.md", "LICENSE", "edge", "backend", "certs", "examples")
# Of packages to download, compile and unpack, on a machine that is busy.
INSTALLED = 300.0
_NO_REGISTRY = re.compile("No matching distribution|Could not find a version|Connection|resolve")


def test_first_command_leads_from_nothing_to_https(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [command] = re.findall(r"^\$ (python3 -m venv .*)$", (ROOT / "docs/quickstart.md").read_text(), re.MULTILINE)
    create, install, serve = (shlex.split(part) for part in command.split(" && "))
    assert create[0] == "python3"
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_PORT="0")
    del environ["PYTHONPATH"]

    def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=INSTALLED, check=False
        )

    started = time.monotonic()
    assert run([sys.executable, *create[1:]]).returncode == 0
    installed = run(install)
    if installed.returncode and _NO_REGISTRY.search(installed.stderr):
        pytest.skip("pip reaches no package registry")
    assert installed.returncode == 0, installed.stderr
    seconds = answer_of(serve, tmp_path, environ) - started
    with capsys.disabled():
        print(f"\nquickstart: from nothing to an answer over HTTPS in {seconds:.1f} s")


def collect(stream: IO[str], lines: list[str]) -> None:
    """Gather lines until the stream ends."""
    for line in stream:
        lines.append(line)


def answer_of(serve: list[str], folder: Path, environ: dict[str, str]) -> float:
    """Serve as the page says, ask once over HTTPS, and return when the answer was there."""
    process = subprocess.Popen(serve, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=collect, args=(process.stderr, lines))
    with process, process.stderr:
        reader.start()
        try:
            wait_until(lambda: (folder / "home/dev/root.pem").exists() or process.poll() is not None, "its root")
            url = wait_until(
                lambda: next(iter(re.findall(r"listening on (https://127\S+)", "\n".join(lines))), None), str(lines)
            )
            context = ssl.create_default_context(cafile=str(folder / "home/dev/root.pem"))
            answer = httpx.get(url, verify=context, trust_env=False, timeout=DEADLINE)
            answered = time.monotonic()
            assert answer.text == "Hello, world!\n"
        finally:
            process.send_signal(signal.SIGTERM)
            reader.join(DEADLINE)
    assert process.returncode == 0, lines
    return answered
