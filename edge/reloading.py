"""What a reload reads: settings, what workers are started with, certificates. All of it is good, or nothing changes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.config import ServeSettings
from edge.config_sites import pool_key
from edge.config_tls import TlsSettings
from edge.errors import ConfigError
from edge.served import Candidates, ServedCertificates
from edge.trust import Outbound
from edge.upstream.trust import UpstreamTrust, load_upstream_trust
from edge.workers import Plan, plans_for
from edge_backend.identity import Identity


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read anew, and is good."""

    settings: ServeSettings
    plans: Mapping[str, Plan]
    certificates: Candidates
    trust: UpstreamTrust
    outbound: Outbound


@dataclass(frozen=True, slots=True)
class Start:
    """What was settled at the start: whom workers are, the run directory, and the addresses that are listened on."""

    identity: Identity | None
    folder: Path
    listening: Sequence[str]


def read_again(
    reread: Callable[[], ServeSettings], certificates: ServedCertificates, start: Start, before: ServeSettings
) -> Reading:
    """Return what serves next; nothing changes by that.

    Raises EdgeError, CertificateError, OSError or ValueError: some of it is wrong, or takes a restart.
    """
    settings = reread()
    _refuse_fixed(before, settings)
    refuse_warnings(settings, start.listening)
    outbound = Outbound.read(settings.run.outbound_ca, start.folder)
    trust = load_upstream_trust(settings.sites, os.environ, outbound.sources)
    plans = plans_for(settings, start.identity, outbound)
    read = certificates.read(settings.tls, settings.sites, is_strict=settings.run.strict)
    return Reading(settings, plans, read, trust, outbound)


def refuse_warnings(settings: ServeSettings, listening: Sequence[str]) -> None:
    """With `--strict`, refuse what `edge check --no-import` warns of; `listening` is where the server listens.

    Raises ConfigError with a line for each warning.
    """
    if not settings.run.strict:
        return
    # It brings what speaks with an authority, a megabyte that other servers do without.
    from edge.lookup import find_warnings

    if texts := find_warnings(settings, listening):
        raise ConfigError("\n".join(f"--strict: {text}" for text in texts))


def of_edges(settings: ServeSettings) -> tuple[ServeSettings, list[object]]:
    """Return the settings that edges have read, with the others left out: of an application, all but its pool's key."""
    apps = settings.applications
    sites = [
        (site.names, site.settings, route.prefix, route.strip, pool_key(apps, route.target) or route.target)
        for site in settings.sites
        for route in site.routes
    ]
    pool = dataclasses.replace(settings.pool, workers=1)
    rest = dataclasses.replace(settings, application=None, tls=None, pool=pool, variables={}, sites=())  # type: ignore[arg-type]  # to compare
    return rest, list(sites)


def _refuse_fixed(before: ServeSettings, settings: ServeSettings) -> None:
    """What was bound at the start stays: another address needs another start."""
    if settings.listen != before.listen:
        raise ConfigError("listening addresses have changed; restart to use them")
    if settings.run.metrics != before.run.metrics:
        raise ConfigError("addresses for metrics have changed; restart to use them")
    if (settings.run.user, settings.run.group) != (before.run.user, before.run.group):
        raise ConfigError("the user or group of edges and workers has changed; restart to use another")
    if settings.acme != before.acme:
        raise ConfigError("what is ordered from an authority has changed; restart to use it")
    if bool(settings.tls.certificates) != bool(before.tls.certificates) or _but_files(settings) != _but_files(before):
        raise ConfigError("how TLS is served has changed; restart to use it (--cert and --key may change)")


def _but_files(settings: ServeSettings) -> TlsSettings:
    return dataclasses.replace(settings.tls, certificates=())
