"""What routes lead to, made of what the settings say: the one place that knows every kind of target."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from edge.access_format import needs_answer
from edge.config import ServeSettings
from edge.config_sites import AppPlan, RedirectPlan, RoutePlan, SitePlan, StaticPlan, UpstreamPlan, pool_key
from edge.dispatch.affinity import with_affinity
from edge.dispatch.choice import LeastBusy, SameForEach
from edge.dispatch.compressing import Compressing, Encoders, rules_of
from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.intake import NOTHING, Holding, Intake
from edge.dispatch.kept_fields import KeptFields
from edge.dispatch.local import NotFound, Redirect
from edge.dispatch.no_websockets import NoWebSockets
from edge.dispatch.router import Route, Router, Routes
from edge.dispatch.spool import Spool
from edge.dispatch.target import Target
from edge.policy.compress import Rules
from edge.static.catalog import Catalog
from edge.static.forms import Rules as FormRules
from edge.static.root import Root
from edge.static.target import Folder, StaticTarget
from edge.upstream.target import Upstream
from edge.upstream.trust import UpstreamTrust


def make_dispatchers(settings: ServeSettings) -> dict[str, Dispatcher]:
    """Return what gives requests to the workers of each pool, by its key; a worker's room is shared by the edges."""
    room = max(1, settings.limits.worker_concurrency // settings.pool.edges)
    return {
        key: Dispatcher(
            LeastBusy(room) if app.pool.affinity == "off" else SameForEach(room),
            queue=settings.limits.queue,
            queue_timeout=settings.timeouts.queue,
        )
        for key, app in settings.applications.items()
    }


class Targets:
    """The targets of an edge process; `pools` are by key, see ServeSettings.applications."""

    def __init__(self, settings: ServeSettings, pools: Mapping[str, Dispatcher], trust: UpstreamTrust) -> None:
        self._trust = trust
        self._settings = settings
        self._holdings: dict[Target, Holding] = {}
        self._encoders = Encoders()
        self._pools: Mapping[str, Target] = {
            key: with_affinity(pools[key], app.pool.affinity, os.urandom) for key, app in settings.applications.items()
        }
        if needs_answer(settings.logs.line):
            self._pools = {key: KeptFields(pool) for key, pool in self._pools.items()}
        if settings.websocket.implementation == "none":
            self._pools = {key: NoWebSockets(pool) for key, pool in self._pools.items()}
        for key, pool in pools.items():
            self._hold(self._pools[key], pool)
        self.upstreams: list[Upstream] = []
        self.folders: list[StaticTarget] = []
        self.router = self._make_router(settings)
        spool = Spool(settings.spool.folder, settings.spool.max_size // settings.pool.edges)
        self.intake = Intake(spool, self._holdings)

    def _hold(self, target: Target, pool: Dispatcher | None = None) -> Target:
        """Put down what of the target's requests is held; return it."""
        mode = self._settings.buffer.request_buffering
        self._holdings[target] = Holding(mode != "off", mode == "on", pool if mode == "auto" else None)
        return target

    def _compressed(self, target: Target, rules: Rules | None) -> Target:
        """Return the target, or what compresses its answers before it."""
        if rules is None:
            return target
        compressing = Compressing(target, self._encoders, rules)
        self._holdings[compressing] = self._holdings.get(target, NOTHING)
        return compressing

    def _make_router(self, settings: ServeSettings) -> Router:
        if len(self._pools) == len(settings.sites) == len(settings.sites[0].routes) == 1:
            return Router(
                self._compressed(next(iter(self._pools.values())), rules_of(settings.sites[0].settings.compress))
            )
        nothing = NotFound()
        named: dict[str, Routes] = {}
        others: Routes | None = None
        for site in settings.sites:
            names = site.names + site.settings.policy.server_names
            routes = Routes(self._make_routes(site, (names or ("*",))[0]), nothing)
            named |= dict.fromkeys(names, routes)
            # The first serves those who name no host; whoever else is no site's has been refused by the policies.
            if others is None or not names or "*" in names:
                others = routes
        return Router(others or Routes((), nothing), named)

    def _make_routes(self, site: SitePlan, where: str) -> list[Route]:
        """Return the routes of a site; a folder stands before another target of the same path."""
        found: dict[str, Target] = {}
        rules = rules_of(site.settings.compress)
        # Everybody gets the same files: they hold no secret of anybody.
        of_files = rules and replace(rules, secrets=True)
        for route in sorted(site.routes, key=lambda route: isinstance(route.target, StaticPlan)):
            if isinstance(route.target, StaticPlan):
                folder = self._make_folder(route.target, route.prefix, found.get(route.prefix))
                found[route.prefix] = self._compressed(folder, of_files)
            else:
                found[route.prefix] = self._compressed(self._make(route.target, route, where), rules)
        return [Route(prefix.encode(), target) for prefix, target in found.items()]

    def _make_folder(self, plan: StaticPlan, prefix: str, behind: Target | None) -> StaticTarget:
        catalog = Catalog(Root(plan.folder), FormRules(plan.max_age, plan.immutable, plan.precompressed))
        folder = StaticTarget(Folder(prefix.rstrip("/"), plan.index, plan.spa), catalog, behind)
        self.folders.append(folder)
        if behind is not None:
            self._holdings[folder] = self._holdings.get(behind, NOTHING)
        return folder

    def _make(self, plan: AppPlan | RedirectPlan | UpstreamPlan, route: RoutePlan, where: str) -> Target:
        prefix = route.prefix.rstrip("/").encode()
        match plan:
            case AppPlan():
                key = pool_key(self._settings.applications, plan)
                assert key is not None  # it is one of them
                return self._pools[key]
            case RedirectPlan():
                return Redirect(plan.target.encode(), plan.status, prefix if plan.keep_path else None)
            case UpstreamPlan():
                limits, timeouts = self._settings.limits, self._settings.timeouts
                name, left_out = where + route.prefix, prefix if route.strip else b""
                context = self._trust.context_for(plan)
                upstream = Upstream(name, plan, left_out, context, queue=limits.queue, queue_timeout=timeouts.queue)
                self.upstreams.append(upstream)
                return self._hold(upstream)
