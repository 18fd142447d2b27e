"""`edge serve`, from settings to exit code: what can be wrong is found out before anything runs."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edge.access_output import give_file, open_output
from edge.account import find_identity
from edge.certificates import CertificateWatch, DevMaker, load_certificates, watched_files
from edge.config import ServeSettings
from edge.config_logs import LogSettings
from edge.envfile import without_secrets
from edge.keeper import KeeperProcess
from edge.master import Master, Parts
from edge.metrics import open_metrics
from edge.net.inherited import take_listeners
from edge.net.listener import Listener, close_listeners, open_listeners
from edge.net.stored import StoredSockets
from edge.notify import ServiceManager
from edge.observe import set_up_logging
from edge.reloading import Start, read_again, refuse_warnings
from edge.rundir import run_directory
from edge.served import ServedCertificates
from edge.sites import guard_files, load_guards
from edge.status import describe
from edge.systemd import HandedSocket, parse_sockets, split_stored, take_variables
from edge.tls.contexts import TlsServer, offer_for
from edge.tls.making import MadeSites
from edge.trust import Outbound
from edge.upgrade import Predecessor, stand_in
from edge.upstream.trust import load_upstream_trust
from edge.workers import plans_for
from edge_backend.identity import Identity
from edge_certs.x509 import Certificate

if TYPE_CHECKING:
    from edge.acme import KeptCertificates

logger = logging.getLogger("edge.server")


def serve(
    read_settings: Callable[[], ServeSettings], *, is_program: bool = False, started_in: str | None = None
) -> int:
    """Serve until a signal or a command ends it; return the exit code. Each reload reads the settings again.

    `is_program`: the process ends with it, so signals to stop need not do anything any more when it has ended.
    `started_in` is where the command is started again for an upgrade, if that is not the current directory.

    Raises ConfigError or CertificateError if what was asked for cannot be done, StartError if the application does not
    start; nothing is left running then.
    """
    settings = read_settings()
    predecessor = Predecessor.find(os.environ)
    variables = take_variables(os.environ)
    manager = ServiceManager(variables, is_successor=predecessor is not None)
    handed = parse_sockets(variables, os.getpid())
    identity = find_identity(settings.run.user, settings.run.group)
    _set_up_logs(settings.logs, identity)
    for remark in (*settings.foreign.remarks(), *settings.websocket.remarks()):
        logger.info("%s", remark)
    kept = _kept(settings, identity)
    watch = CertificateWatch(watched_files(settings.tls, kept), guard_files(settings.sites))
    certificates = load_certificates(settings.tls, kept, is_start=True, is_strict=settings.run.strict)
    watch.follow(certificates)
    tls, remarks = open_tls(settings, certificates, kept)
    with run_directory(settings.run.pid_file, identity) as run_dir, contextlib.ExitStack() as stack:
        outbound = Outbound.read(settings.run.outbound_ca, run_dir.path)
        trust = load_upstream_trust(settings.sites, os.environ, outbound.sources)
        has_tls = bool(certificates)
        listeners, more = _listeners(settings, predecessor, handed, manager, identity, has_certificate=has_tls)
        # Where another server has them too, they and the files of Unix sockets are that one's to close.
        stack.callback(lambda: close_listeners(listeners, manager.stored) if run_dir.is_current else None)
        if predecessor is None:
            run_dir.take()
        start = Start(identity, run_dir.path, [describe(each) for each in listeners if not each.is_metrics])
        refuse_warnings(settings, start.listening)
        kept = _provable(kept, listeners)
        strict = settings.run.strict
        served = ServedCertificates(settings.tls, tls, watch, kept, certificates, settings.sites, is_strict=strict)
        parts = Parts(
            settings,
            plans_for(settings, identity, outbound),
            partial(read_again, read_settings, served, start),
            listeners,
            tls,
            trust,
            served,
            _keeper(kept, outbound),
            run_dir,
            predecessor,
            manager,
            identity,
            is_program,
            started_in,
        )
        master = Master(parts)
        code = master.run([*_sources(settings), *more, *remarks])
    if master.successor is not None and not manager.is_main:
        stand_in(master.successor)
    return code


def _listeners(
    settings: ServeSettings,
    predecessor: Predecessor | None,
    handed: Sequence[HandedSocket],
    manager: ServiceManager,
    identity: Identity | None,
    *,
    has_certificate: bool,
) -> tuple[list[Listener], list[str]]:
    """Return the sockets that another server or the service manager hands over, or new ones, and remarks.

    `manager` is told what to keep for the next run, and to let go of what it has kept and nobody wants.
    """
    # Who is of the group of edges and workers may connect to Unix sockets; and none of them can remove one.
    group = settings.listen.unix_group or ("" if identity is None else str(identity.gid))
    of_units, of_earlier_run = split_stored(handed)
    with contextlib.closing(StoredSockets(of_earlier_run, manager.forget)) as stored:
        if predecessor is not None:
            listeners, remarks = predecessor.listeners, list[str]()
        else:
            listeners, remarks = _opened(settings, of_units, stored, group, has_certificate=has_certificate)
        if not any(listener.is_metrics for listener in listeners):
            opened, more = open_metrics(settings.run.metrics, group, stored)
            listeners, remarks = [*listeners, *opened], [*remarks, *more]
        stored.give_up_rest()
    known = stored.taken if predecessor is None else {listener.store_name for listener in predecessor.listeners}
    manager.store({listener.store_name: listener.sock for listener in listeners if listener.store_name}, known)
    return listeners, remarks


def _opened(
    settings: ServeSettings, handed: Sequence[HandedSocket], stored: StoredSockets, group: str, *, has_certificate: bool
) -> tuple[list[Listener], list[str]]:
    tls = has_certificate or settings.tls.dev
    listeners = take_listeners(handed, settings.listen, settings.run.metrics, tls=tls)
    if any(not listener.is_metrics for listener in listeners):
        return listeners, []
    wanted = dataclasses.replace(settings.listen, unix_group=group)
    opened, remarks = open_listeners(wanted, has_certificate=has_certificate, dev=settings.tls.dev, stored=stored)
    return [*opened, *listeners], remarks


def open_tls(
    settings: ServeSettings, certificates: list[Certificate], kept: KeptCertificates | None
) -> tuple[TlsServer | None, list[str]]:
    """Return what TLS is served with, and remarks for the operator.

    Raises CertificateError: `--dev` has no authority to sign with, or what clients are held against cannot be read.
    """
    tls, remarks = _tls(settings, certificates, kept)
    if tls is not None:
        tls.guards = load_guards(settings.sites)
    return tls, remarks


def _set_up_logs(settings: LogSettings, identity: Identity | None) -> None:
    access_logger = set_up_logging(settings)
    output = open_output(settings, access_logger) if settings.access_log else None
    if output is not None:
        output.close()  # edges open it again; here is where it can be refused
        if identity is not None:
            give_file(settings, identity)


def _kept(settings: ServeSettings, identity: Identity | None) -> KeptCertificates | None:
    if not settings.acme.certificates:
        return None
    # What speaks with an authority is a megabyte that other servers do without.
    from edge.acme import KeptCertificates

    kept = KeptCertificates.open(settings.acme, os.environ, settings.logs.level)
    if kept is not None and identity is not None:
        kept.share(identity)
    return kept


def _provable(kept: KeptCertificates | None, listeners: Sequence[Listener]) -> KeptCertificates | None:
    """Leave out the challenge that nothing here could answer."""
    if kept is not None and all(listener.tls for listener in listeners if not listener.is_metrics):
        return kept.without("http-01")
    return kept


def _keeper(kept: KeptCertificates | None, outbound: Outbound) -> KeeperProcess:
    outbound.publish()
    settings = kept.keeper if kept is not None else None
    return KeeperProcess(settings, outbound.of_keeper(without_secrets(os.environ)))


def _tls(
    settings: ServeSettings, certificates: list[Certificate], kept: KeptCertificates | None
) -> tuple[TlsServer | None, list[str]]:
    if settings.tls.dev:
        maker = DevMaker.open(settings.tls)
        return TlsServer.serving(MadeSites(maker, offer_for(settings.tls))), [maker.remark]
    if not certificates:
        return None, []
    tls = TlsServer.open(certificates, offer_for(settings.tls))
    if kept is None:
        return tls, []
    tls.answers = kept.answers
    return tls, [kept.remark] if kept.remark else []


def _sources(settings: ServeSettings) -> list[str]:
    """A file may have been found without being named: what else is told is told by it."""
    return [f"settings from {settings.file.path}"] if settings.file.path else []
