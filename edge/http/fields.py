"""Field vocabulary and syntax (RFC 9110 section 5): what each name means to the edge, decided once.

`FIELD_NAMES.get(raw)` answers for the spellings that clients really send with one lookup; `field_name(raw)` answers
for all others. Both give the lower-case name and its flags. A head parser adds up the flags of a whole head and looks
closer only at `flags & ACTION`.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

# Flags of a request field. HOP, TRUST, UNDERSCORE and INVALID decide whether it goes on; the others name what to read.
HOP: Final = 1 << 0
"""Ends here, never passed on: hop-by-hop (RFC 9110 section 7.6.1), and Expect, which the edge answers itself."""
TRUST: Final = 1 << 1
"""Applications believe it, so nobody but a proxy may set it (edge/policy/forwarded.py removes it)."""
PROTECTED: Final = 1 << 2
"""`Connection` may not delete it: serve the request, keep the field, count the attempt."""
NO_TRAILER: Final = 1 << 3
"""Dropped from a trailer section: framing, routing, authentication, content, caching, trust (RFC 9110 6.5.1)."""
UNDERSCORE: Final = 1 << 4
"""Has `_` or `.`, which CGI and WSGI turn into the same key as `-`: dropped and counted."""
INVALID: Final = 1 << 5
"""Not a token: the request is refused with 400."""
HOST: Final = 1 << 6
LENGTH: Final = 1 << 7
"""Content-Length."""
CODING: Final = 1 << 8
"""Transfer-Encoding."""
CONNECTION: Final = 1 << 9
EXPECT: Final = 1 << 10
UPGRADE: Final = 1 << 11
TE: Final = 1 << 12
TRACE: Final = 1 << 13
"""Traceparent, which the access log reads."""

ACTION: Final = HOP | TRUST | UNDERSCORE | INVALID | HOST | LENGTH | CODING | CONNECTION | EXPECT | UPGRADE | TE | TRACE
"""The flags that a head parser must act on; what has none of them is passed on as it came."""
REFUSED_TRAILER: Final = HOP | TRUST | NO_TRAILER | UNDERSCORE | INVALID
"""A trailer field with one of these flags is dropped."""

# Whoever talks to the application through these names can pose as a proxy: client address, scheme, host, path, client
# certificate, internal redirects. The last line goes beyond reference/front_ends.md 2.3: scheme fields that older
# frameworks read, further vendors' client address, and Proxy, which CGI turns into HTTP_PROXY (httpoxy, CVE-2016-5385).
_TRUST_NAMES: Final = frozenset(
    b"""
    forwarded x-forwarded x-real-ip x-client-ip true-client-ip cf-connecting-ip cf-connecting-ipv6 fastly-client-ip
    client-cert client-cert-chain early-data x-original-url x-rewrite-url x-request-id x-request-start x-script-name
    front-end-https x-scheme x-url-scheme x-cluster-client-ip fly-client-ip x-original-host
    x-original-forwarded-for proxy
    """.split()
)
_TRUST_PREFIXES: Final = (b"x-forwarded-", b"x-ssl-", b"x-client-cert", b"x-accel-", b"x-sendfile", b"x-edge-")

# Response directives to a front end: the edge obeys or ignores them, the client never sees them.
RESPONSE_HOP: Final = frozenset(
    b"""
    connection keep-alive proxy-connection proxy-authenticate proxy-authentication-info te trailer transfer-encoding
    upgrade status x-sendfile x-sendfile-type
    x-accel-redirect x-accel-buffering x-accel-expires x-accel-limit-rate x-accel-charset
    """.split()
)
"""Names stripped from an application's answer; `is_response_hop` also knows names that nobody has invented yet."""

_SPECIAL: Final[Mapping[bytes, int]] = {
    b"connection": HOP | CONNECTION | NO_TRAILER,
    b"keep-alive": HOP | NO_TRAILER,
    b"proxy-connection": HOP | NO_TRAILER,
    b"proxy-authenticate": HOP | NO_TRAILER,
    b"proxy-authorization": HOP | NO_TRAILER,
    b"te": HOP | TE | NO_TRAILER,
    b"trailer": HOP | NO_TRAILER,
    b"transfer-encoding": HOP | CODING | PROTECTED | NO_TRAILER,
    b"upgrade": HOP | UPGRADE | NO_TRAILER,
    b"http2-settings": HOP | NO_TRAILER,
    b"expect": HOP | EXPECT | PROTECTED | NO_TRAILER,
    b"host": HOST | PROTECTED | NO_TRAILER,
    b"traceparent": TRACE,
    b"content-length": LENGTH | PROTECTED | NO_TRAILER,
    b"authorization": PROTECTED | NO_TRAILER,
    b"cookie": PROTECTED | NO_TRAILER,
    b"set-cookie": PROTECTED | NO_TRAILER,
}

# RFC 9110 section 6.5.1: controls, modifiers and authentication mean nothing after the content they are about.
_NO_TRAILER_NAMES: Final = frozenset(
    b"""
    age cache-control date expires if-match if-modified-since if-none-match if-range if-unmodified-since location
    max-forwards pragma range retry-after vary warning www-authenticate origin
    """.split()
)

_PLAIN_NAMES: Final = b"""
    a-im accept accept-charset accept-datetime accept-encoding accept-language access-control-request-headers
    access-control-request-method access-control-request-private-network baggage cdn-loop depth destination
    device-memory dnt downlink ect etag from idempotency-key last-event-id lock-token overwrite prefer
    priority purpose referer rtt save-data sec-ch-prefers-color-scheme sec-ch-ua sec-ch-ua-arch
    sec-ch-ua-bitness sec-ch-ua-full-version-list sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform
    sec-ch-ua-platform-version sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-storage-access
    sec-fetch-user sec-gpc sec-purpose sec-websocket-extensions sec-websocket-key sec-websocket-protocol
    sec-websocket-version service-worker timeout tracestate upgrade-insecure-requests user-agent
    via x-api-key x-correlation-id x-csrf-token x-csrftoken x-requested-with x-xsrf-token content-disposition
    content-encoding content-language content-location content-range content-type content-md5 x-forwarded-for
    x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-server x-forwarded-ssl
    x-forwarded-scheme
    """.split()

# Neither all lower case nor Each-Word-Capitalised, but sent so by browsers, curl, proxies and HTTP libraries.
_SPELLINGS: Final = b"""
    DNT ETag TE HTTP2-Settings sec-ch-ua Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-GPC Last-Event-ID
    Sec-WebSocket-Key Sec-WebSocket-Version Sec-WebSocket-Protocol Sec-WebSocket-Extensions Content-MD5 X-API-Key
    X-CSRF-Token X-CSRFToken X-XSRF-TOKEN X-Request-ID X-Correlation-ID X-Real-IP X-Client-IP True-Client-IP
    CF-Connecting-IP Fastly-Client-IP CDN-Loop X-Forwarded-SSL
    """.split()

_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE_BYTES: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_OWS: Final = b" \t"
# RFC 3986 section 3.2.2. Possessive, so that a long near-miss costs one pass.
_REG_NAME: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})++(?::([0-9]{1,5}))?")
_IP_LITERAL: Final = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}))?")
_MAX_PORT: Final = 65535


def classify(name: bytes) -> int:
    """Return the flags of a request field; `name` is lower case. 0 for names that need no attention."""
    if (special := _SPECIAL.get(name)) is not None:
        return special
    if not is_token(name):
        return INVALID
    if b"_" in name or b"." in name:
        return UNDERSCORE
    if is_trust_sensitive(name):
        return TRUST | PROTECTED | NO_TRAILER
    if name.startswith(b"content-"):
        return PROTECTED | NO_TRAILER
    return NO_TRAILER if name in _NO_TRAILER_NAMES else 0


def is_trust_sensitive(name: bytes) -> bool:
    """Tell whether applications believe this field about the client; `name` is lower case."""
    return name in _TRUST_NAMES or name.startswith(_TRUST_PREFIXES)


def is_response_hop(name: bytes) -> bool:
    """Tell whether a field of an application's answer stays inside; `name` is lower case."""
    return name in RESPONSE_HOP or name.startswith((b"x-accel-", b"x-sendfile", b"x-edge-"))


def without_hop(fields: list[bytes]) -> list[bytes]:
    """Return the fields that may leave: neither hop-by-hop nor directives to a front end."""
    kept: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if not is_response_hop(name):
            kept += (name, value)
    return kept


def allowed_trailers(fields: list[bytes]) -> list[bytes]:
    """Return the trailer fields that neither frame, route nor authenticate (RFC 9110 section 6.5.1)."""
    kept: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if not classify(name) & REFUSED_TRAILER:
            kept += (name, value)
    return kept


def field_name(raw: bytes) -> tuple[bytes, int]:
    """Return the lower-case name and the flags of a field name as it was received (the slow path of `FIELD_NAMES`)."""
    known = FIELD_NAMES.get(raw)
    if known is not None:
        return known
    name = raw.lower()
    return name, classify(name)


def is_token(value: bytes) -> bool:
    """Tell whether `value` is a token (RFC 9110 section 5.6.2)."""
    return bool(value) and not value.translate(None, _TOKEN_BYTES)


def is_field_value(value: bytes) -> bool:
    """Tell whether `value` has no control byte but HTAB (RFC 9110 section 5.5); empty is fine, obs-text too."""
    return not value.translate(None, _VALUE_BYTES)


def parse_list(value: bytes) -> list[bytes]:
    """Return the elements of a comma list without whitespace around them; empty ones are left out (RFC 9110 5.6.1).

    For lists of tokens: a comma inside a quoted string parts it too.
    """
    return [element for part in value.split(b",") if (element := part.strip(_OWS))]


def is_valid_host(value: bytes) -> bool:
    """Tell whether a Host value is reg-name, IPv4 or [IPv6], with or without a port of 0 to 65535 (RFC 3986 3.2.2).

    Stricter than the grammar in three places: not empty, no empty port after a colon, no IPvFuture.
    """
    match = _REG_NAME.fullmatch(value)
    if match is not None:
        port = match[1]
    else:
        match = _IP_LITERAL.fullmatch(value)
        if match is None or not _is_ipv6(match[1].decode("ascii")):
            return False
        port = match[2]
    return port is None or int(port) <= _MAX_PORT


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _spellings(names: Iterable[bytes]) -> dict[bytes, tuple[bytes, int]]:
    table: dict[bytes, tuple[bytes, int]] = {}
    for raw in names:
        name = raw.lower()
        entry = table.setdefault(name, (name, classify(name)))
        table[raw] = table[name.title()] = entry
    return table


# A plain dict behind a read-only type: with MappingProxyType the lookup, paid for every field, takes 54 ns, not 34.
FIELD_NAMES: Final[Mapping[bytes, tuple[bytes, int]]] = _spellings(
    [*_SPECIAL, *_TRUST_NAMES, *_NO_TRAILER_NAMES, *_PLAIN_NAMES, *_SPELLINGS]
)
"""Raw spelling of a known field name -> its lower-case name and flags. Never written to after import."""
