"""`edge completion` in the real shells: what a user sees after the Tab key."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, clean_environment

# How each shell is started without the user's files, and told of the completion.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(edge completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(edge completion zsh)"'),
}


def environment(folder: Path) -> dict[str, str]:
    """Return one in which `edge` is the command, and nothing is the user's."""
    program = folder / "edge"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge "$@"\n')
    program.chmod(0o755)
    variables = clean_environment(TERM="dumb", PS1="> ", HOME=str(folder), XDG_DATA_HOME=str(folder))
    return {**variables, "PATH": f"{folder}{os.pathsep}{variables['PATH']}"}


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdin=follower, stdout=follower, stderr=follower,
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self.screen = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._leader, text.encode())

    def read_until(self, text: str) -> None:
        """Wait until the text is on the screen."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.screen:
            assert select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))[0], self.screen
            self.screen += os.read(self._leader, 65536).decode(errors="replace")

    def end(self) -> None:
        """Close the terminal."""
        os.close(self._leader)
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_completes_options_and_their_values(tmp_path: Path, shell: str) -> None:
    command, setup = SHELLS[shell]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    terminal = Terminal(command, tmp_path)
    try:
        terminal.type(f"{setup}; echo rea''dy\n")
        terminal.read_until("ready\r\n")
        terminal.type("edge serve --limit-conc\t")
        terminal.read_until("--limit-concurrency")
        terminal.type("\x15edge serve --lifespan of\t")
        terminal.read_until("--lifespan off")
    finally:
        terminal.end()


def test_fish_completes_options_and_their_values(tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    # What it would show after the Tab key, it prints itself.
    lines = ["edge serve --limit-conc", "edge serve --lifespan of"]
    script = "edge completion fish | source; " + "; ".join(f'complete -C "{line}"' for line in lines)
    done = subprocess.run(
        ["fish", "-c", script], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True,
        timeout=DEADLINE, check=True,
    )  # fmt: skip
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["--limit-concurrency", "off"]
