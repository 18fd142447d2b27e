"""The values that `edge.toml` says of sites: host names, paths, where redirects lead, addresses of other servers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from edge.errors import ConfigError
from edge.net.address import TcpAddress, UnixAddress, parse_address
from edge.options import Kind, anchor_address, certificate_names, text_of

T = TypeVar("T")

_UPSTREAM_FORMS = "http://HOST:PORT, https://HOST:PORT or unix:PATH"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_STATUSES = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where one server of an upstream is; `str()` spells it as `parse_upstream` reads it."""

    scheme: Literal["http", "https"]
    address: TcpAddress | UnixAddress

    def __str__(self) -> str:
        return str(self.address) if isinstance(self.address, UnixAddress) else f"{self.scheme}://{self.address}"


def parse_upstream(text: str) -> UpstreamAddress:
    """Return the address that `text` spells: `http://host:port`, `https://host`, or `unix:path` for HTTP over that.

    Raises ConfigError if it is none of them, or has more in it.
    """
    if text.startswith("unix:"):
        address = parse_address(text)
        assert isinstance(address, UnixAddress)
        return UpstreamAddress("http", address)
    scheme, colon, rest = text.partition("://")
    match scheme:
        case _ if not colon:
            raise ConfigError(f"{text!r}: no scheme; use {_UPSTREAM_FORMS}")
        case "http" | "https":
            return UpstreamAddress(scheme, _parse_server(text, scheme, rest))
        case _:
            raise ConfigError(f"{text!r}: unknown scheme {scheme!r}; use {_UPSTREAM_FORMS}")


def parse_route_path(text: str) -> str:
    """Return the prefix of a route: "/", or segments with a slash before and none after them.

    Raises ConfigError if requests could not be compared with it.
    """
    if not re.fullmatch(r"/[!-~]*", text) or re.search(r"//|[?#%\\]", text):
        raise ConfigError(f"{text!r}: not a path to compare with; use one such as '/api', in plain visible ASCII")
    if {".", ".."} & set(text.split("/")):
        raise ConfigError(f"{text!r}: '.' and '..' never reach a route; use the path without them")
    return text.rstrip("/") or "/"


def parse_redirect(text: str) -> str:
    """Return where a redirect leads: an http or https URL, or a path of the same site.

    Raises ConfigError if it is neither.
    """
    if not re.fullmatch(r"(https?://[A-Za-z0-9\[][!-~]*|/(?![/\\])[!-~]*|/)", text):
        raise ConfigError(f"{text!r}: neither an http(s) URL nor a path; use one such as https://example.com/ or /new")
    return text


def parse_request_path(text: str) -> str:
    """Return what a GET asks for: a path, with a query if it has one.

    Raises ConfigError if it is none.
    """
    if not re.fullmatch("/[!-~]*", text) or "#" in text:
        raise ConfigError(f"{text!r}: not a path of visible ASCII that begins with '/'; use one such as '/health'")
    return text


def upstreams() -> Kind:
    """Servers of an upstream, see `parse_upstream`."""
    return dataclasses.replace(_several(parse_upstream, _UPSTREAM_FORMS), anchor=anchor_address)


def acme_names() -> Kind:
    """Certificates to order: False for none, True for one with the hosts of the site, or see `certificate_names`.

    The hosts are not known here: an empty group of names stands for them.
    """
    named = certificate_names()

    def parse(value: object) -> tuple[tuple[str, ...], ...]:
        if isinstance(value, bool):
            return ((),) if value else ()
        parsed: tuple[tuple[str, ...], ...] = named.parse(value)
        return parsed

    return dataclasses.replace(named, metavar="true|NAME[,NAME]", parse=parse)


def route_path() -> Kind:
    """The path of a route, see `parse_route_path`."""
    return _one(parse_route_path, "PATH")


def request_path() -> Kind:
    """What a health check asks for, see `parse_request_path`."""
    return _one(parse_request_path, "PATH")


def redirect_target() -> Kind:
    """Where a redirect leads, see `parse_redirect`."""
    return _one(parse_redirect, "URL")


def redirect_status() -> Kind:
    """A status that has a Location."""

    def parse(value: object) -> int:
        # Not `value in`: 301.0 is 301.
        if type(value) is not int or value not in _STATUSES:
            *others, last = map(str, _STATUSES)
            raise ConfigError(f"{value!r}: not a redirect; use {', '.join(others)} or {last}")
        return value

    return Kind("|".join(map(str, _STATUSES)), parse)


def _parse_server(text: str, scheme: str, rest: str) -> TcpAddress:
    host, _, path = rest.partition("/")
    if path or "?" in rest or "#" in rest:
        raise ConfigError(
            f"{text!r}: more than a server; use {_UPSTREAM_FORMS}, and strip to leave out the route's path"
        )
    if "@" in host:
        raise ConfigError(f"{text!r}: a user in it; use {_UPSTREAM_FORMS}")
    has_port = not re.fullmatch(r"\[[^\]]*\]|[^:]*", host)
    address = parse_address(host if has_port else f"{host}:{_DEFAULT_PORTS[scheme]}")
    if not isinstance(address, TcpAddress) or not address.host or not address.port:
        raise ConfigError(f"{text!r}: no server to connect to; use {_UPSTREAM_FORMS}")
    return address


def _several(parse_one: Callable[[str], T], metavar: str) -> Kind:
    def parse(value: object) -> tuple[T, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        found = tuple(parse_one(text_of(item)) for item in items)
        for item in found:
            if found.count(item) > 1:
                raise ConfigError(f"{str(item)!r}: given twice; leave out one")
        if not found:
            raise ConfigError(f"{value!r}: empty; use {metavar}")
        return found

    return Kind(metavar, parse, repeat=True)


def _one(parse_one: Callable[[str], object], metavar: str) -> Kind:
    return Kind(metavar, lambda value: parse_one(text_of(value)))
