"""What a request must be in every version of HTTP: method, target, host, length, expectation (RFC 9110).

Both heads, HTTP/1.1's (head.py) and HTTP/2's (head2.py), are held against these, so that nothing is good in one version
that is refused in the other: a worker cannot tell them apart.
"""

from __future__ import annotations

import re
from functools import lru_cache

from edge.http.events import ProtocolError
from edge.http.fields import is_token, is_valid_host

# RFC 9112 section 3.2.1: origin-form, of visible ASCII without what no URI holds: `#` would begin a fragment, and `\`
# is a slash to some who read the path and none to others.
ORIGIN_FORM = re.compile(rb'/[!"$-\[\]-~]*')

# Methods that the tokenizer knows, but for those of other protocols that speak through the same grammar (RTSP, ICE),
# and CONNECT and TRACE, which are refused for what they do.
METHODS = frozenset(
    b"""
    GET HEAD POST PUT PATCH DELETE OPTIONS QUERY ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR
    MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE
    """.split()
)
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_ALLOW = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

# A name of DNS (RFC 1035 section 2.3.4) with a port.
MAX_HOST = 253 + len(":65535")


def refuse_method(method: bytes) -> ProtocolError:
    """Return why a method that is not in METHODS is refused: 400, 405 or 501."""
    if not is_token(method):
        return ProtocolError(400, f"method {method[:20]!r} is not a token (RFC 9110 section 9.1)")
    if method in _REFUSED_METHODS:
        return ProtocolError(405, f"method {method.decode()} is not served", ((b"allow", _ALLOW),))
    return ProtocolError(501, f"method {method[:20]!r} is not known")


def refuse_target(target: bytes) -> ProtocolError:
    """Return why a target that is not in origin-form is refused."""
    return ProtocolError(
        400, f"request target {target[:60]!r} is neither a path nor an http URI (RFC 9112 section 3.2)"
    )


@lru_cache(maxsize=1024)
def is_known_host(host: bytes) -> bool:
    """Tell whether `host` is one with an optional port, and remember it.

    Raises ProtocolError (400) for one that is too long: an exception is not remembered, and so neither is a host that
    would fill the memory with a thousand like it.
    """
    if len(host) > MAX_HOST:
        raise ProtocolError(400, f"host of {len(host)} bytes, at most {MAX_HOST} allowed (RFC 1035 section 2.3.4)")
    return is_valid_host(host)


def check_host(host: bytes) -> None:
    """Raise ProtocolError (400) unless `host` is one with an optional port."""
    if not is_known_host(host):
        raise ProtocolError(400, f"Host {host[:60]!r} is not a host with an optional port (RFC 9110 section 7.2)")


def parse_length(values: list[bytes]) -> int:
    """Return the bytes of content that Content-Length announces.

    Raises ProtocolError (400) unless there is one, and it is a number.
    """
    if len(values) > 1:
        raise ProtocolError(400, "more than one Content-Length (RFC 9112 section 6.3)")
    value = values[0]
    # 19 digits are what 64 bits hold. isdigit() on bytes takes ASCII digits only.
    if not value.isdigit() or len(value) > 19:
        raise ProtocolError(400, f"Content-Length {value[:40]!r} is not a number (RFC 9112 section 6.3)")
    return int(value)


def check_expectations(values: list[bytes]) -> None:
    """Raise ProtocolError (417) unless 100-continue is all that is expected; values are in lower case."""
    if values != [b"100-continue"]:
        raise ProtocolError(417, f"expectation {values[0][:40]!r} is not known (RFC 9110 section 10.1.1)")
