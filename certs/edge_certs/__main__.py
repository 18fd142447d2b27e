"""`python -P -m edge_certs CONTROL_FD`: the process that keeps certificates, started by the master only.

It gets its settings as one line on the control socket, and ends when that is closed: nothing of it outlives the master.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time

from edge_certs.acme_client import utc_now
from edge_certs.errors import CertificateError
from edge_certs.issuance import Issuer
from edge_certs.keeper import Keeper
from edge_certs.settings import KeeperSettings
from edge_certs.storage import Storage


def main(descriptor: int) -> int:
    """Keep certificates until the socket `descriptor` is closed; return the exit code."""
    # Ctrl-C, systemd and timeout(1) signal every process of a group or cgroup; the master alone decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as control:
        with control.makefile("rb") as lines:
            settings = KeeperSettings.decode(lines.readline())
        set_up_logging(settings.log_level)
        asyncio.run(keep(settings, control))
    return 0


async def keep(settings: KeeperSettings, control: socket.socket) -> None:
    """Keep what `settings` name until the other end of `control` is closed; what is under way is interrupted."""
    storage = Storage(settings.home)
    keeper = Keeper(storage, Issuer(storage, settings.authority), utc_now)
    work = asyncio.get_running_loop().create_task(keeper.run(settings.certificates))
    control.setblocking(False)

    def closed() -> None:
        # Once: a second time would cut short what is tidied up.
        asyncio.get_running_loop().remove_reader(control.fileno())
        work.cancel()

    asyncio.get_running_loop().add_reader(control.fileno(), closed)
    try:
        storage.check()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    except CertificateError as error:
        logging.getLogger("edge.certs").error("certificates are not kept: %s", error)
        raise SystemExit(1) from None


def set_up_logging(level: str) -> None:
    """Send what is to be said to standard error, as the master has it."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03dZ"
    handler.setFormatter(formatter)
    logger = logging.getLogger("edge")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.getLevelName(level.upper()))
    logger.propagate = False


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
