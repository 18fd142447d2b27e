"""Certificates made when a client first asks for their name: those of `--dev`.

OpenSSL's clients take `*.localhost` for no name at all (it wants two labels after the asterisk), so that every name
below localhost needs a certificate of its own. It is made in the server-name callback, kept in memory, and made anew
long before it expires: an edge that runs for months needs nobody.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from edge.tls.contexts import WITH_HTTP2, Offer, SiteCertificate, Sites
from edge.tls.guards import Guard
from edge_certs.errors import CertificateError

logger = logging.getLogger("edge.tls")

# 16 KiB each; names beyond these are made anew, which costs half a millisecond.
MAX_MADE = 128

# A third of what such a certificate lives.
REMAKE_AFTER = 10 * 86_400.0


class Maker(Protocol):
    """What makes certificates."""

    def choose(self, server_name: str | None) -> str:
        """Return the name that a client which asked for `server_name` gets a certificate for; "" is the first one."""
        ...

    def make(self, name: str) -> SiteCertificate:
        """Return a new certificate for a name that `choose` gave. Raises CertificateError: there can be none."""
        ...

    def is_known(self, host: str) -> bool:
        """True if there can be a certificate for `host`."""
        ...


@dataclass(frozen=True, slots=True)
class _Made:
    sites: Sites
    at: float

    def is_fresh(self, now: float) -> bool:
        """False, too, before it was made: a clock that was set back does not know it yet."""
        return self.at <= now < self.at + REMAKE_AFTER


class MadeSites:
    """The certificates that serve, by server name, each made at its first use; the `MAX_MADE` made last are kept.

    There is always one: `__init__` raises CertificateError when there cannot be.
    """

    def __init__(self, maker: Maker, offer: Offer = WITH_HTTP2, clock: Callable[[], float] = time.time) -> None:
        """`clock` is the one that certificates are held to: the monotonic one stands still while a laptop sleeps."""
        self.offer = offer
        self._maker = maker
        self._clock = clock
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._make("")

    @property
    def only_context(self) -> None:
        """None: no context serves every name."""
        return None

    def context_for(self, server_name: str | None) -> SSLContext:
        """Return the context for this name, made now if there is none that is fresh."""
        return self._fresh(server_name).context_for(None)

    def guarded_context(self, server_name: str | None, guard: Guard) -> SSLContext:
        """Return a context for this name that asks clients for their certificate."""
        return self._fresh(server_name).guarded_context(None, guard)

    def is_known(self, host: str) -> bool:
        """True if there can be a certificate for `host`."""
        return self._maker.is_known(host)

    def _fresh(self, server_name: str | None) -> Sites:
        name = self._maker.choose(server_name)
        made = self._made.get(name) or self._made[""]
        if name not in self._made or not made.is_fresh(self._clock()):
            made = self._remade(name, made)
        return made.sites

    def _remade(self, name: str, before: _Made) -> _Made:
        """What cannot be made leaves what there is: a client then says what is wrong with that."""
        try:
            made = self._make(name)
        except CertificateError as error:
            logger.error("certificate for %s not made: %s", name or "localhost", error)
            return before
        if len(self._made) > MAX_MADE:
            self._made.move_to_end("")  # the one that is always there
            self._made.popitem(last=False)
        return made

    def _make(self, name: str) -> _Made:
        made = self._made[name] = _Made(Sites([self._maker.make(name)], self.offer), self._clock())
        self._made.move_to_end(name)
        return made
