"""`edge serve`, from settings to exit code: what can be wrong is found out before anything runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge.acme import KeptCertificates
from edge.certificates import CertificateWatch, DevMaker, load_certificates, watched_files
from edge.config import ServeSettings
from edge.errors import ConfigError
from edge.master import Master
from edge.net.listener import close_listeners, open_listeners
from edge.observe import set_up_logging
from edge.tls.contexts import TlsServer
from edge.tls.making import MadeSites

# What `sockaddr_un` holds on macOS (104; Linux has 108), less `/worker-4294967295.sock` and its end.
MAX_RUN_DIRECTORY = 80


def serve(settings: ServeSettings) -> int:
    """Serve until a signal ends it; return the exit code.

    Raises ConfigError or CertificateError if what was asked for cannot be done, StartError if the application does not
    start; nothing is left running then.
    """
    set_up_logging(settings.logs.level)
    kept = KeptCertificates.open(settings.acme, os.environ, settings.logs.level)
    watch = CertificateWatch(watched_files(settings.tls, kept))
    certificates = load_certificates(settings.tls, kept, is_start=True)
    watch.follow(certificates)
    tls = TlsServer.open(certificates) if certificates else None
    if tls is not None and kept is not None:
        tls.answers = kept.answers
    maker = DevMaker.open(settings.tls) if settings.tls.dev else None
    if maker is not None:
        tls = TlsServer.serving(MadeSites(maker))
    listeners, remarks = open_listeners(settings.listen, has_certificate=bool(certificates), dev=settings.tls.dev)
    if maker is not None:
        remarks.append(maker.remark)
    with contextlib.ExitStack() as stack:
        stack.callback(close_listeners, listeners)
        run_dir = stack.enter_context(run_directory())
        return Master(settings, listeners, tls, watch, run_dir, kept).run(remarks)


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """Make the 0700 folder in which the sockets of this run lie, and remove it at the end.

    Raises ConfigError if there can be none, or its path leaves no room for a socket's name.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    what = f"run directory in {base!r}"
    do = "set XDG_RUNTIME_DIR to a short path that you may write to"
    try:
        path = Path(tempfile.mkdtemp(prefix="edge-", dir=base))
    except OSError as error:
        raise ConfigError(f"{what}: {str(error.strerror).lower()}; {do}") from None
    try:
        size = len(os.fsencode(path))
        if size > MAX_RUN_DIRECTORY:
            raise ConfigError(f"{what}: its path has {size} bytes, at most {MAX_RUN_DIRECTORY} allowed; {do}")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
