"""From what is said of each site to what the policies decide by."""

from __future__ import annotations

from collections.abc import Sequence

from edge.config_sites import SitePlan
from edge.policy.sites import Site, Sites
from edge.tls.contexts import TlsServer


def build_sites(plans: Sequence[SitePlan], tls: TlsServer | None) -> Sites:
    """Return the sites; one without names serves those of the certificates, or every host where there are none."""
    return Sites([_build_site(plan, tls) for plan in plans or (SitePlan(()),)])


def _build_site(plan: SitePlan, tls: TlsServer | None) -> Site:
    settings = plan.settings.policy
    names = plan.names + settings.server_names
    canonical, hsts = settings.canonical_host, settings.hsts_value
    if names or tls is None:
        return Site(names or ("*",), canonical=canonical, hsts=hsts)
    return Site((canonical,) if canonical else (), tls.is_known, canonical, hsts)
