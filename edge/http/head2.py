"""The head of an HTTP/2 request: from fields to the same value that an HTTP/1.1 head becomes (RFC 9113 section 8.3).

What the two versions have in common is in rules.py and fields.py. What HTTP/2 adds is here: pseudo-fields first and
each once, no field of a connection, cookie crumbs, and `:authority` beside Host.
"""

from __future__ import annotations

from edge.http import fields as names
from edge.http.events import UNKNOWN_LENGTH, ProtocolError, RequestHead
from edge.http.field import COOKIE, PSEUDO, Field
from edge.http.rules import (
    METHODS,
    ORIGIN_FORM,
    check_expectations,
    check_host,
    parse_length,
    refuse_method,
    refuse_target,
)
from edge.http.websocket import VERSION, check_version

_ATTENTION = names.ACTION | PSEUDO | COOKIE
_DROPPED = names.HOP | names.UNDERSCORE
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_SCHEMES = frozenset((b"https", b"http"))


class _Special:
    """The fields of one head that mean something to the edge."""

    __slots__ = ("cookies", "expect", "flags", "hosts", "lengths", "pseudo", "trailers")

    def __init__(self) -> None:
        self.pseudo: dict[bytes, bytes] = {}
        self.flags = 0
        self.cookies: list[bytes] = []
        self.hosts: list[bytes] = []
        self.lengths: list[bytes] = []
        self.expect: list[bytes] = []
        self.trailers = False

    def take(self, field: Field) -> bool:
        """Note a field; tell whether its line goes on.

        Raises ProtocolError (400) if the field is wrong in itself.
        """
        flags = field.flags
        if flags & names.INVALID:
            raise ProtocolError(400, field.fault)
        if flags & COOKIE:
            self.cookies.append(field.value)
            return False
        self.flags |= flags
        if flags & names.HOST:
            self.hosts.append(field.value)
            return False
        if flags & names.LENGTH:
            self.lengths.append(field.value)
        elif flags & names.EXPECT:
            self.expect.append(field.value.lower())
        elif flags & names.TE:
            self.trailers = True
        return not flags & _DROPPED

    def take_pseudo(self, field: Field) -> None:
        """Note a pseudo-field."""
        name = field.name
        if name not in _PSEUDO:
            raise ProtocolError(400, f"pseudo-field {name[:40]!r} is not a request's (RFC 9113 section 8.3)")
        if name in self.pseudo:
            raise ProtocolError(400, f"pseudo-field {name.decode()} twice (RFC 9113 section 8.3)")
        self.pseudo[name] = field.value


def build_head(stream: int, fields: list[Field], *, ended: bool, max_target: int) -> RequestHead:
    """Return the request that `fields` begin; `ended`: it has no content. `max_target` is in bytes.

    Raises ProtocolError with the status that the client gets: 400, 405, 414, 417, 426 or 501.
    """
    special = _Special()
    lines: list[bytes] = [b""]  # Host comes first
    is_regular = False
    for field in fields:
        flags = field.flags
        if not flags & _ATTENTION:
            lines.append(field.line)
            is_regular = True
        elif flags & PSEUDO and not flags & names.INVALID:
            if is_regular:
                raise ProtocolError(400, f"pseudo-field {field.name[:40]!r} behind a field (RFC 9113 section 8.3)")
            special.take_pseudo(field)
        else:
            is_regular = True
            if special.take(field):
                lines.append(field.line)
    head = _check_pseudo(stream, special, max_target)
    lines[0] = b"host\n" + head.host
    if special.cookies:
        lines.append(b"cookie\n" + b"; ".join(special.cookies))
    head.lines = lines
    head.flags = special.flags
    head.trailers = special.trailers
    _check_content(head, special, ended)
    return head


def _check_pseudo(stream: int, special: _Special, max_target: int) -> RequestHead:
    pseudo = special.pseudo
    method = pseudo.get(b":method")
    target = pseudo.get(b":path")
    if b":protocol" in pseudo:
        method = _check_connect(method, pseudo[b":protocol"])
    if method is None:
        raise ProtocolError(400, "no :method (RFC 9113 section 8.3.1)")
    if method not in METHODS:
        raise refuse_method(method)
    if not target or pseudo.get(b":scheme") not in _SCHEMES:
        raise ProtocolError(400, "no :path, or a :scheme other than http and https (RFC 9113 section 8.3.1)")
    if len(target) > max_target:
        raise ProtocolError(414, f":path of more than {max_target} bytes")
    if not ORIGIN_FORM.fullmatch(target) and not (target == b"*" and method == b"OPTIONS"):
        raise refuse_target(target)
    head = RequestHead(stream, method, target, b"2", _check_authority(pseudo.get(b":authority"), special.hosts))
    if b":protocol" in pseudo:
        head.upgrade = pseudo[b":protocol"]
    return head


def _check_connect(method: bytes | None, protocol: bytes) -> bytes:
    """Return the method that stands for an extended CONNECT (RFC 8441), which only WebSockets use here."""
    if method != b"CONNECT":
        raise ProtocolError(400, ":protocol without CONNECT (RFC 8441 section 4)")
    if protocol != b"websocket":
        raise ProtocolError(501, f"protocol {protocol[:40]!r}, only websocket is spoken")
    return b"GET"


def _check_authority(authority: bytes | None, hosts: list[bytes]) -> bytes:
    """Return the host that the request is for (RFC 9113 section 8.3.1)."""
    if len(hosts) > 1:
        raise ProtocolError(400, "more than one Host field (RFC 9110 section 7.2)")
    if authority is None:
        if not hosts:
            raise ProtocolError(400, "neither :authority nor Host (RFC 9113 section 8.3.1)")
        authority = hosts[0]
    elif hosts and hosts[0].lower() != authority.lower():
        raise ProtocolError(400, f":authority names {authority[:60]!r}, Host names {hosts[0][:60]!r}")
    check_host(authority)
    return authority


def _check_content(head: RequestHead, special: _Special, ended: bool) -> None:
    """Act on what the head says of its content."""
    if special.lengths:
        length = parse_length(special.lengths)
        if ended and length:
            raise ProtocolError(400, f"content of 0 bytes, Content-Length {length} (RFC 9113 section 8.1.1)")
        head.length = length
    elif not ended:
        head.length = UNKNOWN_LENGTH
    head.complete = ended
    if special.expect:
        check_expectations(special.expect)
        head.expect = not ended
    if head.upgrade:
        check_version(head.fields, ((b"sec-websocket-version", VERSION),))
        if ended or special.lengths:
            raise ProtocolError(400, "a WebSocket that has ended, or a length (RFC 8441 section 5)")
