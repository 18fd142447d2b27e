"""What routes lead to, made of what the settings say: the one place that knows every kind of target."""

from __future__ import annotations

from collections.abc import Mapping

from edge.config import ServeSettings
from edge.config_sites import AppPlan, RedirectPlan, RoutePlan, pool_key
from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.local import NotFound, Redirect
from edge.dispatch.no_websockets import NoWebSockets
from edge.dispatch.router import Route, Router, Routes
from edge.dispatch.target import Target


def make_router(settings: ServeSettings, pools: Mapping[str, Dispatcher]) -> Router:
    """Return the router of an edge process; `pools` are by key, see ServeSettings.applications."""
    if settings.websocket.implementation == "none":
        return _route(settings, {key: NoWebSockets(pool) for key, pool in pools.items()})
    return _route(settings, pools)


def _route(settings: ServeSettings, pools: Mapping[str, Target]) -> Router:
    if list(pools) == [""] and len(settings.sites) == 1 and len(settings.sites[0].routes) == 1:
        return Router(pools[""])
    nothing = NotFound()
    named: dict[str, Routes] = {}
    others = Routes((), nothing)
    for site in settings.sites:
        made = [Route(route.prefix.encode(), _make(settings, route, pools)) for route in site.routes]
        routes = Routes(made, nothing)
        named |= dict.fromkeys(site.names, routes)
        if not site.names:
            others = routes
    return Router(others, named)


def _make(settings: ServeSettings, route: RoutePlan, pools: Mapping[str, Target]) -> Target:
    plan = route.target
    if isinstance(plan, AppPlan):
        key = pool_key(settings.applications, plan)
        assert key is not None  # it is one of them
        return pools[key]
    if isinstance(plan, RedirectPlan):
        return Redirect(plan.target.encode(), plan.status, route.prefix.encode() if plan.keep_path else None)
    raise NotImplementedError(plan)
