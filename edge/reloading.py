"""What a reload reads: settings, what workers are started with, certificates. All of it is good, or nothing changes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
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


def read_again(
    reread: Callable[[], ServeSettings],
    certificates: ServedCertificates,
    identity: Identity | None,
    folder: Path,
    before: ServeSettings,
) -> Reading:
    """Return what serves next; nothing changes by that. `folder` is the run directory.

    Raises EdgeError, CertificateError, OSError or ValueError: some of it is wrong, or takes a restart.
    """
    settings = reread()
    _refuse_fixed(before, settings)
    outbound = Outbound.read(settings.run.outbound_ca, folder)
    trust = load_upstream_trust(settings.sites, os.environ, outbound.sources)
    plans = plans_for(settings, identity, outbound)
    return Reading(settings, plans, certificates.read(settings.tls, settings.sites), trust, outbound)


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
