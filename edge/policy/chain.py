"""The order of the policies: what happens to a request between its head and a worker, on one screen.

1. probes: who balances load or restarts containers asks each listener how we are, under any host;
2. challenges: a plain listener answers the authority that asks whether a name leads here (RFC 8555 section 8.3);
3. redirect: a plain listener beside a TLS one sends known hosts there (hosts.py);
4. forwarded: who the client is, and what of the forwarding fields is believed (forwarded.py);
5. the site: whether its host is served here and under which name, and how often the client may ask (sites.py, rate.py);
6. the fields that the edge sets itself.

Hop-by-hop fields are gone before this: the HTTP core drops them first, so `Connection` cannot name what is set here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from math import ceil
from types import MappingProxyType
from typing import NamedTuple

from edge.http.client_cert import Identity, encode_extension, encode_fields
from edge.http.events import RequestHead
from edge.http.fields import TRUST, is_trust_sensitive
from edge.policy.forwarded import Peer, TrustedProxies, describe_peer, forward
from edge.policy.hosts import canonical_target, parse_host_name, redirect_target
from edge.policy.sites import EVERY_HOST, Site, Sites, is_address
from edge_backend.wire import REQUEST_PARTS, join_request

_ID = b"x-request-id"


# What a probe asks for: does the server answer, and would a request get to a worker?
HEALTH, READY = b"/.edge/health", b"/.edge/ready"

# RFC 8555 section 8.3.
_CHALLENGE = b"/.well-known/acme-challenge/"

_PROBED = ((b"cache-control", b"no-store"),)

_HSTS = b"strict-transport-security"
# Hosts whose Strict-Transport-Security is remembered: their spelling is the client's choice.
_MEMORY = 1024


class Redirect(NamedTuple):
    """Where a plain listener sends its requests for hosts that are ours: to the TLS port.

    `find_challenge` gives the answer to the challenge with a token, None when there is none.
    """

    https_port: int
    find_challenge: Callable[[str], bytes | None] | None = None


class Answered(Exception):
    """A policy answers the request itself: status, fields, and the reason for the log.

    Without `content`, it is the page of the status.
    """

    def __init__(
        self, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = (), content: bytes | None = None
    ) -> None:
        super().__init__(reason)
        self.content = content
        self.status = status
        self.reason = reason
        self.fields = fields


class Origin:
    """What the connection says about each of its requests, encoded once.

    `peer` is None unless it is trusted, or on a Unix socket. `host` is that of the last request, if its site asks for
    nothing more. `site` is the one that asked for the client's certificate, if one did.
    """

    __slots__ = ("address", "fields", "head", "host", "last", "last_parts", "peer", "site", "tls")

    def __init__(self, peer: Peer, identity: Identity | None = None, site: Site | None = None) -> None:
        self.host: bytes | None = None
        self.site = site
        # What stands behind the scheme, and the fields, of a client that was asked for a certificate.
        self.tls = b" " + encode_extension(identity) if identity is not None else b""
        self.fields = encode_fields(identity) if identity is not None else ()
        self.peer = peer if peer.trust is not None or peer.client is None else None
        self.address, self.head = _encode_client(peer.client, peer.scheme + self.tls)
        # The fields that the edge sets; what comes behind them is the request's host.
        own = (*self.fields, *peer.fields)
        self.last = b"\n".join((*chain.from_iterable(own), b"x-forwarded-host"))
        self.last_parts = 2 * len(own) + 4


class Policy:
    """The policies of one listener; `port` 0 if it has none. `probes` answer the targets that they are named by.

    `clock` gives monotonic seconds, for sites with a rate. `has_hsts` is true if `add_hsts` has anything to add.
    """

    def __init__(
        self,
        *,
        scheme: bytes,
        port: int,
        address: bytes,
        trust: TrustedProxies,
        redirect: Redirect | None,
        sites: Sites = EVERY_HOST,
        clock: Callable[[], float] = float,
        probes: Mapping[bytes, Callable[[], bool]] = MappingProxyType({}),
    ) -> None:
        self._scheme = scheme
        self._port = port
        self._trust = trust
        self._redirect = redirect
        self._sites = sites
        self._clock = clock
        self._probes = dict(probes)
        self.has_hsts = scheme == b"https" and sites.have_hsts
        self._hsts: dict[bytes, bytes] = {}
        # What stands for the server when an HTTP/1.0 client names none, and always on a Unix socket: its path.
        self._address = address

    def connect(self, peer: tuple[str, int] | None, identity: Identity | None = None) -> Origin:
        """Return what all requests of a connection from `peer`, None for a Unix socket, have in common.

        `identity` is there if the client was asked for a certificate.
        """
        site = self._sites.of_name(identity.server_name) if identity is not None else None
        return Origin(describe_peer(peer, self._trust, scheme=self._scheme, port=self._port), identity, site)

    def apply(self, head: RequestHead, origin: Origin, request_id: bytes) -> tuple[bytes, bytes, bytes]:
        """Return the request as a worker gets it, its id, and the client's address.

        Raises Answered if it gets its answer here.
        """
        if head.target in self._probes:
            raise _answer_probe(head.method, self._probes[head.target]())
        if self._redirect is not None:
            self._answer_plain(head, self._redirect)
        if origin.peer is not None:
            return self._forward(head, origin, origin.peer, request_id)
        if head.host != origin.host:
            self._enter_site(head, origin, self._scheme, origin.address)
        lines = head.lines
        if head.flags & TRUST:
            lines = [line for line in lines if not is_trust_sensitive(line.partition(b"\n")[0])]
        host = head.host
        server = _encode_server(host or self._address, self._scheme)
        pieces = [
            head.method,
            head.target,
            head.version,
            origin.head,
            server,
            *lines,
            origin.last,
            host,
            _ID,
            request_id,
        ]
        parts = REQUEST_PARTS + 2 * len(lines) + origin.last_parts
        return join_request(pieces, parts), request_id, origin.address

    def add_hsts(self, host: bytes, fields: list[bytes]) -> list[bytes]:
        """Return the fields of an answer, names and values in turn, with the host's Strict-Transport-Security.

        The application's own stays, as RFC 6797 section 7.1 wants one of them.
        """
        value = self._hsts.get(host)
        if value is None:
            name = parse_host_name(host)
            site = self._sites.find(name)
            # RFC 6797 section 8.1.1: not for an address.
            value = site.hsts if site is not None and name is not None and not is_address(name) else b""
            if len(self._hsts) >= _MEMORY:
                self._hsts.clear()
            self._hsts[host] = value
        return [*fields, _HSTS, value] if value and _HSTS not in fields[::2] else fields

    def page(self, head: RequestHead, status: int, request_id: bytes) -> tuple[bytes, bytes]:
        """Return the media type and the content of an answer of the edge's own, by the pages of the request's site."""
        site = self._sites.find(parse_host_name(head.host)) or self._sites.first
        return site.pages.render(status, request_id, head.lines)

    def _enter_site(
        self, head: RequestHead, origin: Origin, scheme: bytes, address: bytes, prefix: bytes = b""
    ) -> None:
        """Find the site of a request whose host is another than before; nobody's host is served to nobody.

        `prefix` is what a proxy took off the path: a client that is sent elsewhere has to ask with it.
        """
        host = head.host
        name = parse_host_name(host)
        site = self._sites.find(name) if host else self._sites.first
        if site is None:
            reason = f"host {host[:60]!r} is not served here: name it with --server-name, or * for every host"
            # RFC 9110 section 15.5.20. Without TLS there is no connection that could have been meant for another host.
            raise Answered(421 if self._scheme == b"https" else 400, reason)
        if site is not origin.site and (site.guard or origin.site is not None):
            # One of the two has not seen the certificate of this client, or would believe the other's authorities.
            raise Answered(421, f"host {host[:60]!r} is another site than the one that TLS was made for")
        if site.canonical and host and name != site.canonical:
            location = canonical_target(host, head.target, scheme=scheme, canonical=site.canonical, prefix=prefix)
            raise Answered(308, "", ((b"location", location),))
        if site.rate is None:
            origin.host = host
        elif wait := site.rate.take(head, address, self._clock()):
            raise Answered(429, "too many requests of this client", ((b"retry-after", b"%d" % ceil(wait)),))

    def _forward(self, head: RequestHead, origin: Origin, peer: Peer, request_id: bytes) -> tuple[bytes, bytes, bytes]:
        """Take the word of a trusted proxy, as far as it can be trusted; whoever is on a Unix socket comes here too."""
        forwarded = forward(peer, head.host, head.fields)
        address, client = _encode_client(forwarded.client, forwarded.scheme + origin.tls)
        if head.host != origin.host:
            self._enter_site(head, origin, forwarded.scheme, address, forwarded.prefix)
        request_id = forwarded.request_id or request_id
        if peer.client is None and peer.trust is None:
            server = self._address + b"\n"  # ASGI: the path of a Unix socket, and no port
        else:
            server = _encode_server(forwarded.host or self._address, forwarded.scheme)
        fields = [*forwarded.fields, *origin.fields, *forwarded.edge_fields, (_ID, request_id)]
        pieces = [head.method, head.target, head.version, client, server, *chain.from_iterable(fields)]
        return join_request(pieces, REQUEST_PARTS + 2 * len(fields)), request_id, address

    def _answer_plain(self, head: RequestHead, redirect: Redirect) -> None:
        if redirect.find_challenge is not None and head.target.startswith(_CHALLENGE):
            answer = redirect.find_challenge(head.target.removeprefix(_CHALLENGE).decode("latin-1"))
            if answer is not None:
                raise Answered(200, "", content=answer)
        location = redirect_target(head.host, head.target, https_port=redirect.https_port, known=self._is_served)
        if location is None:
            raise Answered(400, f"host {head.host[:60]!r} is not served here; only hosts that are get sent to HTTPS")
        raise Answered(308, "", ((b"location", location),))

    def _is_served(self, name: str) -> bool:
        return self._sites.find(name) is not None


def _answer_probe(method: bytes, is_well: bool) -> Answered:
    """Return what a probe gets: a word, and nothing of what is inside."""
    if method not in (b"GET", b"HEAD"):
        return Answered(405, "a probe by another method than GET and HEAD", ((b"allow", b"GET, HEAD"),))
    if not is_well:
        return Answered(503, "a probe: no worker is ready, or the server is ending", _PROBED, b"not ready\n")
    return Answered(200, "", _PROBED, b"ok\n")


def _encode_client(client: tuple[str, int] | None, scheme: bytes) -> tuple[bytes, bytes]:
    """Return the client's address, and the three parts of a head that are the scheme's and the client's."""
    if client is None:
        return b"unix", scheme + b"\n\n0"
    address = client[0].encode()
    return address, b"%b\n%b\n%d" % (scheme, address, client[1])


@lru_cache(maxsize=1024)
def _encode_server(host: bytes, scheme: bytes) -> bytes:
    """Return the two parts of a head that are the public server's: its name and port."""
    name, colon, port = host.rpartition(b":")
    if not colon or host.endswith(b"]"):
        name, port = host, b"443" if scheme == b"https" else b"80"
    name = name.removeprefix(b"[").removesuffix(b"]")  # an address as sockets have it, not as URIs do
    return name + b"\n" + port
