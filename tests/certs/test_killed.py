"""SIGKILL at any moment of an order: what is on the disk can be read, and the next process gets the certificate."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.certs.authority import Clock
from tests.certs.forge import child_environment
from tests.certs.hostile import Hostile, listening

# An order makes some 150 calls that change something on the disk. Each of them has been tried; here it is one of 29.
STEP = 29


def test_process_that_is_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    async def act() -> tuple[int | None, str, str]:
        authority = Hostile(Clock())
        async with listening(authority, tmp_path):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.certs.killed", authority.base),
                *(str(tmp_path / "home"), str(tmp_path / "ca.pem"), str(STEP)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=child_environment(),
            )
            output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()

    code, output, errors = asyncio.run(act())
    assert code == 0, errors
    # As many as calls to be killed at: were there few, this would prove little.
    assert int(output) >= 120 // STEP
