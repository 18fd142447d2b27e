"""Looks up what `edge check` judges: files, accounts, limits of the system, and the import of each application."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import resource
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from edge.acme import keeper_settings
from edge.config import ServeSettings
from edge.config_listen import ListenSettings
from edge.config_sites import StaticPlan
from edge.config_tls import CertificateFiles
from edge.errors import ConfigError
from edge.key_files import look_at_key
from edge.net.listener import account_number, planned_addresses
from edge.preview import CertificateFacts, Facts, Level, find_findings
from edge.sites import load_guards
from edge.trust import Outbound
from edge.upstream.trust import load_upstream_trust
from edge.workers import Plan, plans_for, worker_settings
from edge_backend.errors import LoadError
from edge_backend.log_config import check_log_config
from edge_certs.errors import CertificateError
from edge_certs.files import edge_home
from edge_certs.inspection import Presented, Severity, inspect_chain
from edge_certs.known_roots import read_known_roots
from edge_certs.trust.root_files import RootFile, read_root_files
from edge_certs.x509 import parse_chain, read_certificate

T = TypeVar("T")


def look_up(
    settings: ServeSettings, environ: Mapping[str, str], now: datetime, *, imports: bool, plans: bool = True
) -> Facts:
    """Return what there is of what the settings name.

    `imports`: the applications are imported, each in a process. Without `plans`, nothing is asked of them at all.
    """
    problems: list[str] = []
    certificates = []
    for files in settings.tls.certificates:
        found = _try(problems, partial(_certificate, files, settings, environ, now))
        certificates += [found] if found is not None else []
    outbound = _try(problems, lambda: read_root_files(settings.run.outbound_ca, now)) or ()
    listen = settings.listen
    has_certificate = bool(settings.tls.certificates or settings.acme.certificates)
    for check in (
        lambda: keeper_settings(settings.acme, edge_home(environ), settings.logs.level),
        lambda: load_guards(settings.sites),
        lambda: load_upstream_trust(settings.sites, environ, [file.source for file in outbound]),
        lambda: _look_at_places(settings),
        lambda: _look_at_log_config(settings.logs.config),
    ):
        _try(problems, check)
    problems += _accounts(listen)
    imported = _look_at_applications(problems, settings, outbound, imports=imports) if plans else []
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    spool = os.statvfs(settings.spool.folder)
    return Facts(
        now=now,
        listening=tuple(planned_addresses(listen, has_certificate=has_certificate, dev=settings.tls.dev)),
        certificates=tuple(certificates),
        problems=tuple(problems),
        open_files=0 if limit == resource.RLIM_INFINITY else limit,
        spool_room=spool.f_blocks * spool.f_frsize,
        openssl=ssl.OPENSSL_VERSION_INFO[:2],
        file_senders=tuple(dict.fromkeys(file for each in imported for file in each.file_senders)),
        outbound=outbound,
    )


def find_warnings(settings: ServeSettings, listening: Sequence[str]) -> list[str]:
    """Return what `--strict` refuses besides what cannot work in any case; `listening` is where the server listens.

    Nothing is asked of applications: workers import them, and what these are started with is found out besides.
    """
    facts = look_up(settings, os.environ, datetime.now(UTC), imports=False, plans=False)
    found = find_findings(settings, replace(facts, listening=tuple(listening)))
    return [each.text for each in found if each.level is Level.ERROR and each.text not in facts.problems]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import told: what is wrong, empty if nothing is, and the application's files that have others sent."""

    problem: str
    file_senders: tuple[str, ...] = ()


def _look_at_applications(
    problems: list[str], settings: ServeSettings, outbound: Sequence[RootFile], *, imports: bool
) -> list[Imported]:
    with contextlib.ExitStack() as stack:
        # What the run directory is for workers; without roots of the server's own, nothing is written there.
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if outbound else ""
        plans = _try(problems, lambda: plans_for(settings, None, Outbound(Path(folder), outbound))) or {}
        imported = [try_import(plan) for plan in plans.values()] if imports else []
    problems += [each.problem for each in imported if each.problem]
    return imported


def try_import(plan: Plan) -> Imported:
    """Import the application as a worker does, in a process of its own."""
    told = worker_settings(0, plan)
    name = f"application {told.target!r}"
    try:
        done = subprocess.run(
            [plan.app.python or sys.executable, "-P", "-m", "edge_backend.importing"],
            input=told.encode(),
            stdout=subprocess.PIPE,
            env=dict(plan.trust.environ),
            timeout=plan.settings.timeouts.startup,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return Imported(f"{name}: its import took longer than {error.timeout:g} s; raise startup_timeout")
    try:
        told = json.loads(done.stdout)
        return Imported(told["problem"], tuple(told["file_senders"]))
    except ValueError:
        program = plan.app.python or sys.executable
        return Imported(f"{name}: the interpreter {program} ended with {done.returncode}; see above")


def _try(problems: list[str], look: Callable[[], T]) -> T | None:
    try:
        return look()
    except (ConfigError, CertificateError, OSError) as error:
        problems.append(str(error))
        return None


def _certificate(
    files: CertificateFiles, settings: ServeSettings, environ: Mapping[str, str], now: datetime
) -> CertificateFacts:
    found = read_certificate(files.cert, files.key, now, settings.tls.key_password)
    chain = parse_chain(found.chain_pem)
    findings = inspect_chain(
        Presented(tuple(chain), None, None), read_known_roots(edge_home(environ)).roots, now
    ).findings
    return CertificateFacts(
        place=str(files.cert),
        names=found.names,
        not_after=found.not_after,
        key_type=found.key_type,
        key_bits=_bits(chain[0]),
        key=look_at_key(found.key_path or files.cert),
        remarks=tuple(item.text for item in findings if item.severity is not Severity.NOTE),
    )


def _bits(certificate: x509.Certificate) -> int:
    key = certificate.public_key()
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else 0


def _accounts(listen: ListenSettings) -> Iterator[str]:
    for name, find in ((listen.unix_owner, pwd.getpwnam), (listen.unix_group, grp.getgrnam)):
        try:
            account_number(name, find)
        except ConfigError as error:
            yield str(error)


def _look_at_log_config(path: str) -> None:
    try:
        if path:
            check_log_config(path)
    except LoadError as error:
        raise ConfigError(str(error)) from None


def _look_at_places(settings: ServeSettings) -> None:
    for site in settings.sites:
        for route in site.routes:
            if isinstance(route.target, StaticPlan) and not os.access(route.target.folder, os.R_OK | os.X_OK):
                raise ConfigError(f"folder {route.target.folder!r}: not for this user to read; change its mode")
    pid_file = settings.run.pid_file
    if pid_file and not os.access(Path(pid_file).absolute().parent, os.W_OK):
        raise ConfigError(f"pid file {pid_file!r}: its folder is not there, or not for this user to write")
