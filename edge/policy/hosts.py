"""Hosts that are served, and the redirect from plain HTTP to HTTPS."""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from edge.http.fields import is_valid_host

_HTTPS_PORT: Final = 443
# What can be the name of a site. The URI grammar allows more ("%2f", "," or "!"), which clients read differently.
_SITE_NAME: Final = re.compile(r"[a-z0-9._-]{1,253}")
# Visible ASCII but "#": a field value cannot be ended by it, and no client ever sends a fragment.
_TARGET: Final = re.compile(rb"[!\"$-~]*")
_ABSOLUTE: Final = re.compile(rb"http://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)


def parse_host_name(host: bytes) -> str | None:
    """Return the name or address in a Host value: lower case, without port, brackets and trailing dot.

    An address is in its canonical spelling. None if it is no Host value (RFC 9110 section 7.2), or one that no site can
    have.
    """
    if not is_valid_host(host):
        return None
    text = host.decode("ascii").lower()
    if text[0] == "[":
        return str(ipaddress.IPv6Address(text[1 : text.index("]")]))
    name = text.partition(":")[0].removesuffix(".")
    return name if _SITE_NAME.fullmatch(name) else None


def redirect_target(host: bytes, target: bytes, *, https_port: int, known: Callable[[str], bool]) -> bytes | None:
    """Return the Location of the 308 that sends a plain-HTTP request to HTTPS; None: answer 400.

    `host` is the Host value, whose port is left out; `target` the request target as received, kept byte for byte.
    `known` tells whether a name or an address is one of ours: nobody is ever sent to another host (CWE-601), and an
    authority-form target (CONNECT) is sent nowhere.
    """
    if not _TARGET.fullmatch(target):
        return None
    name = parse_host_name(host)
    if (absolute := _ABSOLUTE.fullmatch(target)) is not None:
        # RFC 9112 section 3.2.2: the target's authority replaces Host; two that differ are an attempt to confuse.
        authority = parse_host_name(absolute[1])
        if host and authority != name:
            return None
        name, target = authority, absolute[2]
        if not target.startswith(b"/"):
            target = b"/" + target
    elif target == b"*":
        # RFC 9112 section 3.2.4: the URI of "OPTIONS *" has neither path nor query.
        target = b""
    elif not target.startswith(b"/"):
        return None
    if name is None or not known(name):
        return None
    return b"https://%s%s" % (_encode_authority(name, https_port), target)


def canonical_target(host: bytes, target: bytes, *, scheme: bytes, canonical: str, prefix: bytes = b"") -> bytes:
    """Return the Location of the 308 that sends a request to its site's canonical host, on the port that it came to.

    `host` is a Host value that has been checked, and `target` is in origin-form, or `*`. `prefix` is as in
    `public_target`.
    """
    _, colon, port = host.rpartition(b":")
    authority = f"[{canonical}]" if ":" in canonical else canonical
    suffix = b":" + port if colon and not host.endswith(b"]") else b""
    path = b"" if target == b"*" else public_target(target, prefix)
    return b"%b://%b%b%b" % (scheme, authority.encode("ascii"), suffix, path)


def public_target(target: bytes, prefix: bytes) -> bytes:
    """Return a target in origin-form as clients have to ask for it: with what a proxy took off its path, if it did."""
    has_prefix = (target.partition(b"?")[0] + b"/").startswith(prefix + b"/")
    return target if has_prefix else prefix + target


def _encode_authority(name: str, https_port: int) -> bytes:
    host = f"[{name}]" if ":" in name else name
    return (host if https_port == _HTTPS_PORT else f"{host}:{https_port}").encode("ascii")
