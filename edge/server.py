"""`edge serve`, from settings to exit code: what can be wrong is found out before anything runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from edge.acme import KeptCertificates
from edge.certificates import CertificateWatch, DevMaker, load_certificates, watched_files
from edge.config import ServeSettings
from edge.master import Master, Parts
from edge.net.listener import close_listeners, open_listeners
from edge.observe import set_up_logging
from edge.rundir import pid_file, run_directory
from edge.tls.contexts import TlsServer
from edge.tls.making import MadeSites


def serve(read_settings: Callable[[], ServeSettings]) -> int:
    """Serve until a signal or a command ends it; return the exit code. Each reload reads the settings again.

    Raises ConfigError or CertificateError if what was asked for cannot be done, StartError if the application does not
    start; nothing is left running then.
    """
    settings = read_settings()
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
        stack.enter_context(pid_file(settings.run.pid_file))
        run_dir = stack.enter_context(run_directory())
        return Master(Parts(settings, read_settings, listeners, tls, watch, kept, run_dir)).run(remarks)
