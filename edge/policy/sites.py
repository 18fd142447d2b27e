"""Sites: which hosts are served, and what is particular to each.

A site is its host names with its own settings. Flags make one of them; however many there are, all that a request needs
of them is found by its host, once for each connection as a rule (edge/policy/chain.py).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.policy.pages import NO_PAGES, ErrorPages
from edge.policy.rate import RateLimit

# What a wildcard stands for: one whole label, as in certificates (RFC 9525 section 6.3).
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")


def nobody(_: str) -> bool:
    """Know no host."""
    return False


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """What one site does with its requests.

    `names` are in lower case and without a dot at the end; `*.` stands for one label, `*` for every host. `knows` is
    asked about a host that is none of these: the names of certificates change while a site serves.
    """

    names: tuple[str, ...] = ("*",)
    knows: Callable[[str], bool] = nobody
    canonical: str = ""  # the host that requests for the others are sent to; empty: none
    hsts: bytes = b""  # the value of Strict-Transport-Security; empty: none is sent
    rate: RateLimit | None = None
    pages: ErrorPages = NO_PAGES
    guard: str = ""  # what clients' certificates are verified by; empty: none are asked for


class Sites:
    """The sites of a server. The first one also gets the requests of HTTP/1.0 that name no host."""

    __slots__ = ("_exact", "_rest", "_sites", "_wildcards")

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = tuple(sites)
        self._exact: dict[str, Site] = {}
        self._wildcards: dict[str, Site] = {}
        self._rest: Site | None = None
        for site in sites:
            for name in site.names:
                if name == "*":
                    self._rest = self._rest or site
                elif name.startswith("*."):
                    self._wildcards.setdefault(name[2:], site)
                else:
                    self._exact.setdefault(name, site)

    @property
    def first(self) -> Site:
        """The site of those who name none."""
        return self._sites[0]

    def of_name(self, server_name: str | None) -> Site:
        """Return the site of the name that a client gave in its TLS; the first one's for nobody's name, or none."""
        return (self.find(server_name) if server_name is not None else None) or self.first

    def guard_of(self, server_name: str | None) -> str:
        """Return the guard of the site of that name; empty: it has none."""
        return self.of_name(server_name).guard

    @property
    def have_guards(self) -> bool:
        """True if one of them asks clients for certificates."""
        return any(site.guard for site in self._sites)

    @property
    def have_hsts(self) -> bool:
        """True if one of them has its browsers use nothing but HTTPS."""
        return any(site.hsts for site in self._sites)

    def find(self, name: str | None) -> Site | None:
        """Return the site of a host: by its name, by a wildcard, by what the site knows besides; None: it is nobody's.

        `name` is lower case, without port, brackets and a dot at the end; None is a host that cannot be a site's.
        """
        if name is None:
            return self._rest
        if (site := self._exact.get(name)) is not None:
            return site
        label, _, parent = name.partition(".")
        if (site := self._wildcards.get(parent)) is not None and _LABEL.fullmatch(label):
            return site
        for site in self._sites:
            if site.knows(name):
                return site
        return self._rest


EVERY_HOST: Final = Sites((Site(),))
"""One site, with nothing of its own, that serves whatever host is asked for."""


def is_address(name: str) -> bool:
    """Tell whether a host is an IP address, without brackets."""
    # No address lacks both, and few names have one: spares them the attempt.
    if ":" not in name and not name[-1:].isdigit():
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
