"""Which target serves a request: by host, then by the longest path prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from edge.dispatch.target import Target
from edge.http.events import RequestHead

# Hosts and targets that were looked up are remembered, so many of them: their spelling is the client's choice.
_MEMORY: Final = 1024
_LONGEST: Final = 256

# What makes a path differ from how it is read: an escape, an empty or a dot segment, a backslash.
_UNPLAIN: Final = re.compile(rb"%|//|/\.|\\")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


class Route(NamedTuple):
    """Paths that are the prefix, or lie below it, go to this target; the prefix `/` is every path."""

    prefix: bytes
    target: Target


class Routes:
    """The routes of one site."""

    def __init__(self, routes: Sequence[Route], otherwise: Target) -> None:
        """Requests that no route matches go to `otherwise`."""
        self._otherwise = otherwise
        # The longest first. A prefix ends at a slash, so that /api does not serve /apiary.
        prefixes = sorted(routes, key=lambda route: len(route.prefix), reverse=True)
        self._routes = [(route.prefix.rstrip(b"/") + b"/", route.target) for route in prefixes]
        self._found: dict[bytes, Target] = {}

    def find(self, target: bytes) -> Target:
        """Return who serves a request target; one without a path (`*`) belongs to the route of `/`."""
        found = self._found.get(target)
        if found is None:
            found = self._search(target)
            if len(target) <= _LONGEST:
                if len(self._found) >= _MEMORY:
                    self._found.clear()
                self._found[target] = found
        return found

    def _search(self, target: bytes) -> Target:
        path = plain_path(target) + b"/" if target[:1] == b"/" else b"/"
        for prefix, found in self._routes:
            if path.startswith(prefix):
                return found
        return self._otherwise


class Router:
    """The routes of all sites. `otherwise` serves the hosts that are no site's, where the policies let them through."""

    def __init__(self, otherwise: Routes | Target, sites: Mapping[str, Routes] | None = None) -> None:
        self._only = None if isinstance(otherwise, Routes) or sites else otherwise
        self._otherwise = otherwise if isinstance(otherwise, Routes) else Routes((), otherwise)
        self._sites = dict(sites or {})
        self._found: dict[bytes, Routes] = {}

    def find(self, head: RequestHead) -> Target:
        """Return who serves the request."""
        if self._only is not None:
            return self._only
        routes = self._found.get(head.host)
        if routes is None:
            routes = self._of_host(head.host)
        return routes.find(head.target)

    def _of_host(self, host: bytes) -> Routes:
        name = host_name(host)
        routes = self._sites.get(name) or self._sites.get("*." + name.partition(".")[2]) or self._otherwise
        if len(self._found) >= _MEMORY:
            self._found.clear()
        self._found[host] = routes
        return routes


def host_name(host: bytes) -> str:
    """Return the name in a Host value that has been checked: lower case, without port, brackets and trailing dot."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


def plain_path(target: bytes) -> bytes:
    """Return the path of a request target as every reader has to take it, to choose a route by.

    Escapes are resolved once, empty and dot segments taken out (RFC 3986 section 6.2.2), and a backslash is a slash:
    whatever reads the path so behind us must not get what belongs to another route. What is sent on is the target as
    it came.
    """
    path = target.partition(b"?")[0]
    if not _UNPLAIN.search(path):
        return path
    path = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), path).replace(b"\\", b"/")
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    is_folder = path.endswith((b"/", b"/.", b"/.."))
    return b"/" + b"/".join(segments) + (b"/" if is_folder and segments else b"")
