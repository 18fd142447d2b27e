"""What is served where: sites by host, in each of them routes by path, and what a route leads to.

Options alone make one site with one route; `edge.toml` makes as many as it names. These are values only: whoever serves
them is elsewhere. Fields with an option are keys of `edge.toml`; there are no flags for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from edge.config_app import ApplicationSettings
from edge.config_buffer import CompressSettings
from edge.config_pool import PoolSettings
from edge.config_site import SiteSettings, site_names
from edge.config_static import StaticSettings, file_name, max_age
from edge.config_tls import CertificateFiles
from edge.options import Option, choice, count, directory, file, files, required, seconds, setting, switch, text
from edge.options_sites import (
    UpstreamAddress,
    acme_names,
    redirect_status,
    redirect_target,
    request_path,
    route_path,
    upstreams,
)


@dataclass(frozen=True, slots=True)
class AppPlan:
    """An ASGI application with workers of its own, which an empty `python` runs in the server's own interpreter.

    `variables` are for its workers; they are stronger than those of the whole server.
    """

    application: ApplicationSettings
    pool: PoolSettings = field(default_factory=PoolSettings)
    python: str = setting(
        "", file(), "python", shown="the one that runs edge", help="interpreter of another virtual environment"
    )
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StaticPlan:
    """The files below a folder; where another route has the same path, what is no file goes on to that one."""

    folder: str = required(directory(), "static", help="the files below this folder")
    index: str = setting("index.html", file_name(), "index", help="the file that stands for a folder")
    spa: bool = setting(False, switch(), "spa", help="answer pages that are no files with the index of the folder")
    max_age: int | None = setting(
        None, max_age(), "max_age", shown="asked for each time", help="seconds that files may be kept without asking"
    )
    immutable: bool = setting(True, switch(), "immutable", help="let files with a hash in their name be kept a year")
    precompressed: bool = setting(True, switch(), "precompressed", help="send NAME.br, NAME.zst or NAME.gz beside one")


@dataclass(frozen=True, slots=True)
class RedirectPlan:
    """Another place. With `keep_path`, what follows the route's path, and the query, are put behind `target`."""

    target: str = required(redirect_target(), "redirect", help="another place: a URL, or a path here")
    status: int = setting(308, redirect_status(), "status", help="status of the redirect")
    keep_path: bool = setting(False, switch(), "keep_path", help="put the rest of the path, and the query, behind it")


@dataclass(frozen=True, slots=True)
class UpstreamPlan:
    """Other servers that answer over HTTP/1.1, one or several that are alike. Seconds.

    An empty `health_path` is no active check; failures of requests count in any case. An empty `ca_root` are all public
    roots with those of `edge trust add`, an empty `tls_name` the host of the address.
    """

    servers: tuple[UpstreamAddress, ...] = required(
        upstreams(), "upstream", help="another server, or several that are alike"
    )
    balance: Literal["least-busy", "first"] = setting(
        "least-busy",
        choice("least-busy", "first"),
        "balance",
        help="which of several gets a request; first = the others only while those before them are down",
    )
    retry: Literal["idempotent", "none"] = setting(
        "idempotent",
        choice("idempotent", "none"),
        "retry",
        help="requests that another one gets when one fails before its answer; none = those that were not sent only",
    )
    send_host: Literal["client", "upstream"] = setting(
        "client", choice("client", "upstream"), "send_host", help="whose name stands in the Host field"
    )
    max_connections: int = setting(
        256, count(1, 100_000), "max_connections", help="connections of one edge process to each"
    )
    connect_timeout: float = setting(5.0, seconds(), "connect_timeout", help="to connect, with TLS (502)")
    response_timeout: float = setting(60.0, seconds(0), "response_timeout", help="to begin its answer (504); 0 = none")
    idle_timeout: float = setting(
        0.0, seconds(0), "idle_timeout", shown="none", help="between two pieces of its answer; 0 = none"
    )
    # Below the 5 s after which uvicorn and Node close a connection that is not used.
    keepalive_timeout: float = setting(
        4.0, seconds(0), "keepalive_timeout", help="that an unused connection is kept; 0 = none is"
    )
    max_fails: int = setting(
        3, count(0, 1000), "max_fails", help="failures in fail_timeout after which one gets nothing; 0 = never"
    )
    fail_timeout: float = setting(10.0, seconds(), "fail_timeout", help="that one gets nothing then")
    health_path: str = setting(
        "",
        request_path(),
        "health_path",
        shown="none",
        help="what is asked of each by GET; any 2xx is well",
    )
    health_interval: float = setting(5.0, seconds(), "health_interval", help="between two of them")
    health_timeout: float = setting(2.0, seconds(), "health_timeout", help="for their answer")
    ca_root: str = setting(
        "", file(), "ca_root", shown="trusted roots", help="root in PEM that signs certificates of https upstreams"
    )
    tls_name: str = setting(
        "", text(), "tls_name", shown="host of the address", help="name that certificates of https upstreams must have"
    )

    @property
    def has_tls(self) -> bool:
        """True if one of the servers is spoken to over TLS."""
        return any(server.scheme == "https" for server in self.servers)


Target = AppPlan | StaticPlan | RedirectPlan | UpstreamPlan


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Where requests below `prefix` go: "/", or a path without a slash at its end, compared by whole segments.

    With `strip`, the target does not know of the prefix: an upstream gets the path without it, as a folder always does.
    An application gets the whole path in any case, as ASGI asks; the prefix is then its `root_path`.
    """

    target: Target
    prefix: str = setting("/", route_path(), "path", help="requests for this path and those below it")
    strip: bool = setting(False, switch(), "strip", help="the target does not know of the route's path")


@dataclass(frozen=True, slots=True)
class SiteParts:
    """What a site may have for itself: a part of the settings in each field, which is named as its table is."""

    policy: SiteSettings = field(default_factory=SiteSettings)
    compress: CompressSettings = field(default_factory=CompressSettings)


# Those parts, by name.
SITE_PARTS: Mapping[str, type[Any]] = get_type_hints(SiteParts)

_KEY = Option(
    ("key",), files(), "key of the certificate at the same place", "privkey.pem or NAME.key beside it, or inside it"
)


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A site: its host names, see `site_names`; without any, those of the certificates, or every host without those.

    Its certificates are among those of the whole server as well. Of `routes`, the longest prefix that fits counts.
    """

    routes: tuple[RoutePlan, ...]
    names: tuple[str, ...] = setting(
        (),
        site_names(),
        "hosts",
        shown="those of the certificates; every one without any",
        help="names that it answers to; *.NAME, and * for every one",
    )
    certificates: tuple[CertificateFiles, ...] = setting(
        (), files(), "cert", shown="none", help="certificate chain in PEM, or several", beside=(_KEY,)
    )
    acme: tuple[tuple[str, ...], ...] = setting(
        (),
        acme_names(),
        "acme",
        shown="false",
        help="true = get and renew one certificate for its hosts; or names as --acme takes them",
    )
    settings: SiteParts = field(default_factory=SiteParts)


def static_routes(settings: StaticSettings) -> tuple[RoutePlan, ...]:
    """Return a route for each folder that `--static` names."""
    spoken = (settings.index, settings.spa, settings.max_age, settings.immutable, settings.precompressed)
    return tuple(RoutePlan(StaticPlan(mount.folder, *spoken), mount.prefix or "/") for mount in settings.mounts)


def pool_key(applications: Mapping[str, AppPlan], target: Target) -> str | None:
    """Return the key of the pool that a target is, see ServeSettings.applications; None if it is none."""
    return next((key for key, plan in applications.items() if plan == target), None)
