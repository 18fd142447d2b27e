"""`python -m tests.certs.killed BASE HOME CA STEP`: gets a certificate from the authority at BASE, killed on the way.

Each run is killed at another call that changes something on the disk, STEP calls later than the one before, until one
is not killed at all. After each, a run that nobody kills has to come to the same end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from edge_certs.issuance import Issuer
from edge_certs.keeper import Keeper
from edge_certs.listing import list_certificates
from edge_certs.settings import AuthoritySettings
from edge_certs.state import Issuance
from edge_certs.storage import Storage
from tests.certs.authority import Clock
from tests.certs.hostile import NAMES

CALLS = ("open", "mkdir", "fsync", "fchmod", "replace", "symlink", "unlink", "rmdir")
NEVER = 10**9


async def obtain(storage: Storage, settings: AuthoritySettings, clock: Clock) -> None:
    """Look at the certificate until there is nothing to do for now."""
    issuer = Issuer(storage, settings, {}, clock.now, clock.sleep)
    keeper = Keeper(storage, issuer, clock.now, clock.sleep)
    storage.sweep(clock.now())
    while not await keeper.turn(Issuance(NAMES, settings.directory, ("http-01",))):
        pass


def run(storage: Storage, settings: AuthoritySettings, point: int, days: float) -> bool:
    """Obtain in a child that is killed before its call number `point`; False: it came to its end before that."""
    child = os.fork()
    if child == 0:
        _kill_at(point)
        clock = Clock()
        clock.now_is += timedelta(days=days)
        try:
            asyncio.run(obtain(storage, settings, clock))
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"a run to be killed at {point} ended with {status}"
    return status != 0


def _kill_at(point: int) -> None:
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return count

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def recover(storage: Storage, settings: AuthoritySettings, point: int) -> None:
    """See that what is there can be read, and get the certificate after all."""
    now = Clock().now()
    assert [item.problem for item in list_certificates(storage, now) if item.problem] == [], point
    # The back-off after one failure is over by then.
    run(storage, settings, NEVER, 0.01)
    certificate = storage.lineage(NAMES[0]).current()
    assert certificate is not None, f"killed at {point}: there is no certificate"
    left = [path for path in storage.home.rglob("*.tmp") if not path.is_symlink()]
    assert left == [], f"killed at {point}: {left} is left"
    opened = [path for path in storage.home.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o007]
    assert opened == [], f"killed at {point}: {opened} is open to others"


def main(base: str, folder: str, ca_root: str, step: int) -> int:
    """Kill and recover at every `step`th call; return how many runs were killed."""
    settings = AuthoritySettings(f"{base}/dir", ca_root=ca_root)
    killed = 0
    while True:
        storage = Storage(Path(folder))
        point = 1 + killed * step
        if not run(storage, settings, point, 0.0):
            return killed
        killed += 1
        recover(storage, settings, point)
        shutil.rmtree(storage.home)


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
