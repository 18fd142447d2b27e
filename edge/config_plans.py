"""Given sites to plans: what each of their values means, and which of them do not go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.config_app import ApplicationSettings
from edge.config_pool import PoolSettings
from edge.config_sites import (
    SITE_PARTS,
    AppPlan,
    RedirectPlan,
    RoutePlan,
    SiteParts,
    SitePlan,
    StaticPlan,
    Target,
    UpstreamPlan,
)
from edge.config_tls import CertificateFiles, pair_files
from edge.config_toml import ROUTE, SITE, TARGETS, RouteText, SiteText
from edge.given import own_values, read_given

# What is said of the server's own application and not of those of routes.
_OWN = ("target", "factory", "root_path", "env_files")


@dataclass(frozen=True, slots=True)
class Base:
    """What the whole server was told: sites and routes have it where they say nothing themselves.

    `application` are the values that were given, by field, without a `target` if there was none.
    """

    application: dict[str, Any]
    pool: PoolSettings
    parts: SiteParts
    static: tuple[RoutePlan, ...]

    @property
    def routes(self) -> tuple[RoutePlan, ...]:
        """The routes of sites that have none of their own."""
        if "target" not in self.application:
            return self.static
        return (RoutePlan(AppPlan(ApplicationSettings(**self.application), self.pool)), *self.static)


def plan_sites(texts: Sequence[SiteText], base: Base, problems: list[str]) -> tuple[SitePlan, ...]:
    """Return the sites; what is wrong with them is put into `problems`."""
    sites = tuple(_site(text, base, problems) for text in texts)
    _refuse_same_names(texts, sites, problems)
    return sites


def _site(text: SiteText, base: Base, problems: list[str]) -> SitePlan:
    parsed = read_given(SITE.values(), text.given, problems)
    names = parsed.get("hosts", ())
    parts = {
        name: dataclasses.replace(getattr(base.parts, name), **own_values(part, parsed))
        for name, part in SITE_PARTS.items()
    }
    return SitePlan(
        names=names,
        certificates=_certificates(text, parsed, problems),
        acme=_acme(text, parsed, names, problems),
        settings=SiteParts(**parts),
        routes=_routes(text, base, problems),
    )


def _certificates(text: SiteText, parsed: dict[str, Any], problems: list[str]) -> tuple[CertificateFiles, ...]:
    certs, keys = parsed.get("cert", ()), parsed.get("key", ())
    if len(keys) > len(certs) and ("cert" not in text.given or certs):
        problems.append(f"{text.given['key'].name}: {len(keys)} given for {len(certs)} cert; give each its cert")
    return pair_files(parsed)


def _acme(
    text: SiteText, parsed: dict[str, Any], names: tuple[str, ...], problems: list[str]
) -> tuple[tuple[str, ...], ...]:
    groups: tuple[tuple[str, ...], ...] = parsed.get("acme", ())
    if () in groups and "hosts" not in text.given:
        problems.append(f"{text.given['acme'].name}: the site has no hosts to order for; give it hosts, or the names")
    return tuple(group or names for group in groups)


def _routes(text: SiteText, base: Base, problems: list[str]) -> tuple[RoutePlan, ...]:
    if not text.routes:
        if not base.routes:
            problems.append(
                f"{text.place}: site: nothing to serve; give it a [[site.route]], or the server an application"
            )
        return base.routes
    found: list[RoutePlan] = []
    for item in text.routes:
        route = _route(item, base, problems)
        if route is None:
            continue
        # What is no file of a folder goes on to the other route for the same path.
        kinds = {type(other.target) is StaticPlan for other in found if other.prefix == route.prefix}
        if (type(route.target) is StaticPlan) in kinds:
            problems.append(f"{item.place}: site.route: another route has the path {route.prefix!r}; leave out one")
        found.append(route)
    return tuple(found)


def _route(text: RouteText, base: Base, problems: list[str]) -> RoutePlan | None:
    parsed = read_given([*ROUTE.values(), *TARGETS.get(text.target, {}).values()], text.given, problems)
    if text.target not in parsed:
        return None
    route = own_values(RoutePlan, parsed)
    prefix, strip = route.get("prefix", "/"), route.get("strip", False)
    if text.target == "app" and strip and "root_path" in parsed:
        problems.append(
            f"{text.given['root_path'].name}: strip is given too, by which {prefix!r} is the root path; leave out one"
        )
    # A folder is served without the route's path, wherever it is mounted.
    return RoutePlan(_target(text, parsed, base, prefix if strip else ""), prefix, strip or text.target == "static")


def _target(text: RouteText, parsed: dict[str, Any], base: Base, stripped: str) -> Target:
    match text.target:
        case "app":
            return _app(text, parsed, base, stripped)
        case "static":
            return StaticPlan(**own_values(StaticPlan, parsed))
        case "redirect":
            return RedirectPlan(**own_values(RedirectPlan, parsed))
        case _:
            return UpstreamPlan(**own_values(UpstreamPlan, parsed))


def _app(text: RouteText, parsed: dict[str, Any], base: Base, stripped: str) -> AppPlan:
    whole = {name: value for name, value in base.application.items() if name not in _OWN}
    own = own_values(ApplicationSettings, parsed)
    variables = {**dict(whole.get("variables", ())), **dict(own.get("variables", ()))}
    values = {"root_path": stripped.rstrip("/"), **whole, **own, "variables": tuple(variables.items())}
    return AppPlan(
        ApplicationSettings(**values),
        dataclasses.replace(base.pool, **own_values(PoolSettings, parsed)),
        **own_values(AppPlan, parsed),
    )


def _refuse_same_names(texts: Sequence[SiteText], sites: Sequence[SitePlan], problems: list[str]) -> None:
    seen: dict[str, str] = {}
    for text, site in zip(texts, sites, strict=True):
        if "hosts" not in text.given:
            if "" in seen:
                problems.append(f"{text.place}: site: {seen['']} has no hosts either; give hosts to one of them")
            seen.setdefault("", text.place)
        for name in site.names:
            if name in seen:
                problems.append(f"{text.given['hosts'].name}: {seen[name]} has {name!r} too; leave out one")
            seen.setdefault(name, text.given["hosts"].name)
