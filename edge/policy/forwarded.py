"""Who the client is: which forwarding fields count, and what the edge says about itself (X-Forwarded-*).

Theory of operation
-------------------
A *peer* is the socket's other end. Its word counts only if it is a trusted proxy; then X-Forwarded-For is walked from
the nearest entry to the farthest, and the first address that is no trusted proxy is the client. Proxies write either
X-Forwarded-* or `Forwarded` (RFC 7239), and only the set that was named counts: two sets of fields that contradict each
other are how clients become proxies.

All that depends on the connection alone is in `Peer`, made once. For an untrusted peer that is everything but the
host: the caller may take `peer.client`, `peer.scheme`, `peer.port` and `peer.fields` as they are, and call
`without_trust_fields` only when the head's flags have TRUST. `forward` does both cases in one call.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from edge.http.fields import is_trust_sensitive, is_valid_host, parse_list
from edge.policy.forwarded_field import Element, read_elements

MAX_HOPS: Final = 32
"""Entries of X-Forwarded-For, or elements of Forwarded, that are looked at; real chains have two to five."""
MAX_CHAIN_SIZE: Final = 4096
"""Bytes of them that are looked at, from the nearest: 32 of the longest entries take 2 KiB."""
MAX_PREFIX_SIZE: Final = 256
"""Bytes of an X-Forwarded-Prefix that counts: it is put before every path that the application sees."""
MAX_REQUEST_ID_SIZE: Final = 128
"""Bytes of an X-Request-ID that is taken over; a UUID has 36, a trace id 32 to 55."""
MAX_CACHED_NODES: Final = 4096
"""Entries remembered with their verdict. Clients behind a trusted proxy choose them, so there must be an end: about
1 MiB."""

# An address with its brackets, zone and port takes 71 bytes at most: 39 + 2 + 1 + 16 + 6, and room.
_MAX_NODE_SIZE: Final = 72
_NODE: Final = re.compile(
    rb"""
      ([0-9.]{7,15}) (?: :([0-9]{1,5}) )?
    | \[ ([0-9A-Fa-f:.]{2,45}) (?: %[0-9A-Za-z._~-]{1,16} )? \] (?: :([0-9]{1,5}) )?
    | ([0-9A-Fa-f:.]{2,45}) (?: %[0-9A-Za-z._~-]{1,16} )?
    """,
    re.VERBOSE,
)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,%d}" % MAX_REQUEST_ID_SIZE)
# RFC 3986 section 3.3, without empty segments, those of dots, and a comma, which parts a list. An escape may not stand
# for what could be read as something else behind us: controls, a dot, a slash, a backslash.
_PREFIX: Final = re.compile(
    rb"""
    (?: / (?! \.{1,2} (?: / | \Z ) )
        (?: [A-Za-z0-9._~!$&'()*+;=:@-] | % (?! [01] | 2[EeFf] | 5[Cc] | 7[Ff] ) [0-9A-Fa-f]{2} )++
    )++
    """,
    re.VERBOSE,
)
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_HOST_PORT: Final = re.compile(rb":([0-9]{1,5})\Z")
_OWS: Final = b" \t"
_MAX_PORT: Final = 65535
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}
# Traefik names the scheme of a WebSocket handshake so (traefik#6388); it is the same transport.
_SCHEMES: Final = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
FieldLines = list[tuple[bytes, bytes]]


class Node(NamedTuple):
    """An entry of the chain: an address in its canonical spelling, its port or 0, and whether it is a trusted proxy."""

    address: str
    port: int
    trusted: bool


class TrustedProxies:
    """The peers whose forwarding fields count; nobody by default.

    `unix` trusts whoever connects to a Unix socket. With `rfc7239` they write Forwarded, else X-Forwarded-*, and the
    other set never counts. `trust_host` takes the host from them, too, and `trust_prefix` X-Forwarded-Prefix. `hops` is
    how many entries of the chain are looked at, from the nearest; 0 is as many as may be.
    """

    __slots__ = ("_nodes", "_prefixes", "hops", "rfc7239", "trust_host", "trust_prefix", "unix")

    def __init__(
        self,
        networks: Iterable[Network] = (),
        *,
        unix: bool = False,
        rfc7239: bool = False,
        trust_host: bool = False,
        trust_prefix: bool = False,
        hops: int = 0,
    ) -> None:
        self.unix = unix
        self.hops = hops
        self.rfc7239 = rfc7239
        self.trust_host = trust_host
        self.trust_prefix = trust_prefix
        self._nodes: dict[bytes, Node | None] = {}
        # One set a prefix length: a list of a thousand networks costs no more than its few lengths.
        prefixes: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            prefixes.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._prefixes = tuple((version, shift, frozenset(starts)) for (version, shift), starts in prefixes.items())

    def trusts(self, ip_text: str) -> bool:
        """Tell whether the address, in any spelling, is in one of the networks; False for what is no address."""
        node = self.find_node(ip_text.encode())
        return node is not None and node.trusted

    def find_node(self, token: bytes) -> Node | None:
        """Return what an entry of the chain stands for; None if it has no address (`unknown`, `_name`, junk)."""
        if len(token) > _MAX_NODE_SIZE:
            return None
        try:
            return self._nodes[token]
        except KeyError:
            pass
        if len(self._nodes) >= MAX_CACHED_NODES:
            self._nodes.clear()
        node = self._nodes[token] = self._parse_node(token)
        return node

    def _parse_node(self, token: bytes) -> Node | None:
        match = _NODE.fullmatch(token)
        if match is None:
            return None
        port = int(match[2] or match[4] or 0)
        address = _parse_address((match[1] or match[3] or match[5]).decode("ascii"), is_v4=match[1] is not None)
        if address is None or port > _MAX_PORT:
            return None
        return Node(str(address), port, self._covers(address))

    def _covers(self, address: Address) -> bool:
        number = int(address)
        return any(
            version == address.version and number >> shift in starts for version, shift, starts in self._prefixes
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """What a connection says before its first request."""

    client: tuple[str, int] | None
    """Address and port; None for a Unix socket, which has none."""
    scheme: bytes
    port: int
    fields: tuple[tuple[bytes, bytes], ...]
    """What the edge sets on each request of an untrusted peer, but for X-Forwarded-Host, which is the request's own."""
    trust: TrustedProxies | None
    """Whom to trust further along the chain; None if the peer itself is not trusted."""


class Forwarded:
    """A request as its client sent it to the public side. One is made for each request: slotted, not frozen."""

    __slots__ = ("client", "edge_fields", "fields", "host", "port", "prefix", "request_id", "scheme")

    def __init__(self, peer: Peer, host: bytes, fields: FieldLines) -> None:
        self.client = peer.client
        self.scheme = peer.scheme  # b"http" or b"https"
        self.host = host  # the authority, with its port if the client gave one; empty if there was none
        self.port = peer.port  # of the public side
        self.prefix = b""  # what a trusted peer took off the path; it begins with a slash, and ends with none
        self.request_id: bytes | None = None  # a trusted peer's
        self.fields = fields  # without any trust-sensitive one
        self.edge_fields: FieldLines = []  # what the edge sets: X-Forwarded-For, -Proto, -Port, -Host, -Prefix


def describe_peer(peer: tuple[str, int] | None, trust: TrustedProxies, *, scheme: bytes, port: int) -> Peer:
    """Return the constants of a connection from `peer`, None for a Unix socket, to a listener.

    `scheme` is b"http" or b"https"; `port` the listener's, 0 if it has none, which stands for the scheme's own.
    """
    port = port or _DEFAULT_PORTS[scheme]
    if peer is None:
        is_trusted = trust.unix
    else:
        node = trust.find_node(peer[0].encode())
        is_trusted = node is not None and node.trusted
        if node is not None:
            peer = (node.address, peer[1])
    fields = _encode_fields([] if peer is None else [peer[0]], scheme, port, b"")
    return Peer(peer, scheme, port, tuple(fields), trust if is_trusted else None)


def announcers(peers: Sequence[Network | None]) -> Callable[[tuple[str, int] | None], bool] | None:
    """Return what tells whether a peer sends a PROXY header, None if nobody does; None in `peers` is a Unix socket."""
    if not peers:
        return None
    trust = TrustedProxies([network for network in peers if network is not None])
    return lambda peer: None in peers if peer is None else trust.trusts(peer[0])


def without_trust_fields(fields: FieldLines) -> FieldLines:
    """Return the fields without those that applications believe; names are lower case."""
    return [line for line in fields if not is_trust_sensitive(line[0])]


def parse_prefix(value: bytes) -> bytes:
    """Return the path that an X-Forwarded-Prefix gives, without a slash at its end; empty if it is none that counts."""
    prefix = value.removesuffix(b"/")
    if len(value) > MAX_PREFIX_SIZE or not _PREFIX.fullmatch(prefix):
        return b""
    try:
        unquote_to_bytes(prefix).decode()
    except UnicodeDecodeError:
        return b""
    return prefix


def forward(peer: Peer, host: bytes, fields: FieldLines) -> Forwarded:
    """Return the request's client, scheme, host, port and prefix, and the fields to pass on.

    `fields` are end-to-end, in lower case; a trusted peer's word is taken from them. Every trust-sensitive field is
    removed, whoever sent it: what the application gets under those names is `edge_fields`.
    """
    forwarded = Forwarded(peer, host, without_trust_fields(fields))
    if peer.trust is None:
        forwarded.edge_fields = [*peer.fields, (b"x-forwarded-host", host)] if host else list(peer.fields)
        return forwarded
    claims = _ElementClaims(fields) if peer.trust.rfc7239 else _Claims(fields)
    forwarded.request_id = claims.request_id()
    if peer.trust.trust_host:
        forwarded.host = claims.host() or host
    scheme = claims.scheme()
    forwarded.scheme = scheme or peer.scheme
    forwarded.port = claims.port() or _port_of(forwarded.host) or (_DEFAULT_PORTS[scheme] if scheme else peer.port)
    nodes = _walk(peer.trust, claims.chain())
    addresses = [node.address for node in reversed(nodes)]
    if nodes:
        forwarded.client = (nodes[-1].address, nodes[-1].port)
    if peer.client is not None:
        addresses.append(peer.client[0])
    forwarded.edge_fields = _encode_fields(addresses, forwarded.scheme, forwarded.port, forwarded.host)
    if peer.trust.trust_prefix and (prefix := claims.prefix()):
        forwarded.prefix = prefix
        forwarded.edge_fields.append((b"x-forwarded-prefix", prefix))
    return forwarded


class _Claims:
    """What X-Forwarded-* of a trusted peer say; each answer is checked, empty or None if it does not hold."""

    __slots__ = ("_values",)

    def __init__(self, fields: FieldLines) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            if name.startswith(b"x-forwarded-") or name == b"x-request-id":
                self._values.setdefault(name, []).append(value)

    def chain(self) -> list[bytes]:
        """Return the entries of X-Forwarded-For, nearest first, within the limits."""
        chain = b",".join(self._values.get(b"x-forwarded-for", ()))
        if len(chain) > MAX_CHAIN_SIZE:
            # The entry at the cut is not whole.
            chain = chain[-MAX_CHAIN_SIZE:].partition(b",")[2]
        entries = chain.rsplit(b",", MAX_HOPS)[-MAX_HOPS:]
        return [entry for part in reversed(entries) if (entry := part.strip(_OWS))]

    def scheme(self) -> bytes | None:
        return _SCHEMES.get(self._last(b"x-forwarded-proto").lower())

    def host(self) -> bytes:
        host = self._last(b"x-forwarded-host")
        return host if is_valid_host(host) else b""

    def port(self) -> int:
        port = self._last(b"x-forwarded-port")
        return int(port) if _PORT.fullmatch(port) and int(port) <= _MAX_PORT else 0

    def prefix(self) -> bytes:
        return parse_prefix(self._last(b"x-forwarded-prefix"))

    def request_id(self) -> bytes | None:
        return _request_id(self._values.get(b"x-request-id", ()))

    def _last(self, name: bytes) -> bytes:
        """Return the last element: the one that the neighbour wrote."""
        elements = parse_list(b",".join(self._values.get(name, ())))
        return elements[-1] if elements else b""


class _ElementClaims:
    """What Forwarded of a trusted peer says, in the answers of `_Claims`."""

    __slots__ = ("_elements", "_nearest", "_request_ids")

    def __init__(self, fields: FieldLines) -> None:
        value = b",".join([value for name, value in fields if name == b"forwarded"])
        self._elements = list(islice(read_elements(value, MAX_CHAIN_SIZE), MAX_HOPS))
        self._nearest = self._elements[0] if self._elements else Element(b"", b"", b"")
        self._request_ids = [value for name, value in fields if name == b"x-request-id"]

    def chain(self) -> list[bytes]:
        return [element.node for element in self._elements]

    def scheme(self) -> bytes | None:
        return _SCHEMES.get(self._nearest.proto.lower())

    def host(self) -> bytes:
        return self._nearest.host if is_valid_host(self._nearest.host) else b""

    def port(self) -> int:
        return 0  # it has none of its own: that of the host counts, or of the scheme

    def prefix(self) -> bytes:
        return b""  # nothing in RFC 7239 says it

    def request_id(self) -> bytes | None:
        return _request_id(self._request_ids)


def _request_id(values: Iterable[bytes]) -> bytes | None:
    # Two of them, joined, do not match: which one the logs of the proxy have, nobody can tell.
    request_id = b",".join(values)
    return request_id if _REQUEST_ID.fullmatch(request_id) else None


def _walk(trust: TrustedProxies, entries: list[bytes]) -> list[Node]:
    """Return the nodes that hold, nearest first; the last one is the client."""
    nodes: list[Node] = []
    for entry in entries:
        node = trust.find_node(entry)
        # As nginx: what lies beyond an entry that is no address was not written by anyone known.
        if node is None:
            break
        nodes.append(node)
        if not node.trusted or len(nodes) == trust.hops:
            break
    return nodes


def _encode_fields(addresses: list[str], scheme: bytes, port: int, host: bytes) -> FieldLines:
    fields: FieldLines = []
    if addresses:
        fields.append((b"x-forwarded-for", ", ".join(addresses).encode()))
    fields.append((b"x-forwarded-proto", scheme))
    fields.append((b"x-forwarded-port", b"%d" % port))
    if host:
        fields.append((b"x-forwarded-host", host))
    return fields


def _port_of(host: bytes) -> int:
    match = _HOST_PORT.search(host)
    return int(match[1]) if match else 0


def _parse_address(text: str, *, is_v4: bool) -> Address | None:
    try:
        if is_v4:
            return ipaddress.IPv4Address(text)
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    # A dual-stack socket gives IPv4 peers as ::ffff:a.b.c.d, and proxies write down what it gives.
    return address.ipv4_mapped or address
