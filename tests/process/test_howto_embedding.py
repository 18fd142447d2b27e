"""docs/howto/embedding.md: its programs are written and run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.process.server import DEADLINE, ROOT, clean_environment
from tests.process.test_howto_trust import BLOCK, commands

PAGE = ROOT / "docs/howto/embedding.md"


def test_programs_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    typed = 0
    for kind, name, content in BLOCK.findall(PAGE.read_text()):
        if kind == "python":
            (tmp_path / name).write_text(content)
            continue
        for command, output in commands(content):
            program, *arguments = shlex.split(command)
            assert program == "python"
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=tmp_path,
                env=clean_environment(NO_PROXY="*"),
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert masked(done.stdout) == masked(output)
            typed += 1
    assert typed == 2


def masked(text: str) -> list[str]:
    """Return the lines without how long the tests took."""
    return [re.sub(r"in \d+\.\d+s", "in TIME", line) for line in text.splitlines() if line]
