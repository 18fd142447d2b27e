"""The settings of forwarding: whose word counts about who the client is."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge.errors import ConfigError
from edge.options import Option, choice, count, setting, switch
from edge.options_networks import Trusted, networks

# Whom `--proxy-headers` alone means, as in uvicorn.
_LOOPBACK = (ipaddress.IPv4Network("127.0.0.1/32"), ipaddress.IPv6Network("::1/128"))

_PROXY_HEADERS = Option(
    ("--proxy-headers",),
    switch(),
    "take the word of those; by itself, that of 127.0.0.1 and ::1; without, nobody's",
    "on",
)


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """Whose forwarding fields are believed: peers in these networks, and those on Unix sockets.

    `proxy_protocol` are the peers that say whom they have in front of them before anything else; None: on Unix sockets.
    `style` is the set of fields that they write, the only one that counts. `hops` is how many entries of the chain are
    taken from the nearest on; 0: as many as trusted proxies wrote.
    """

    trusted_proxies: tuple[Trusted, ...] = setting(
        (),
        networks(),
        "--trusted-proxy",
        "--forwarded-allow-ips",
        shown="nobody",
        environment=("FORWARDED_ALLOW_IPS",),
        help="peers whose forwarding fields count: addresses, networks, unix, or * for everyone; repeatable",
        beside=(_PROXY_HEADERS,),
    )
    trust_unix: bool = False
    hops: int = setting(
        0,
        count(0, 32),
        "--forwarded-hops",
        shown="none",
        help="proxies in front: entries of X-Forwarded-For or Forwarded beyond so many are not looked at",
    )
    style: Literal["x", "rfc7239"] = setting(
        "x",
        choice("x", "rfc7239"),
        "--forwarded-style",
        help="what they write, the other never counts: x = X-Forwarded-*, rfc7239 = Forwarded",
    )
    proxy_protocol: tuple[Trusted | None, ...] = setting(
        (),
        networks(),
        "--proxy-protocol",
        shown="nobody",
        help="peers whose connections begin with a PROXY header, version 1 or 2; CIDR, unix or *; repeatable",
    )
    trust_host: bool = setting(
        False,
        switch(),
        "--trust-forwarded-host",
        help="X-Forwarded-Host (or host in Forwarded) of trusted proxies counts, too: for those that replace Host",
    )
    trust_prefix: bool = setting(
        False,
        switch(),
        "--trust-forwarded-prefix",
        help="X-Forwarded-Prefix of trusted proxies is outermost in the root path: for those that strip one",
    )


def forward_settings(parsed: Mapping[str, Any]) -> ForwardSettings:
    """Return the settings from the parsed values of their options."""
    trusted = parsed.get("trusted_proxy", _LOOPBACK if parsed.get("proxy_headers") else ())
    if parsed.get("proxy_headers") is False:
        trusted = ()
    networks = tuple(network for network in trusted if network is not None)
    return ForwardSettings(
        trusted_proxies=networks,
        trust_unix=None in trusted,
        hops=parsed.get("forwarded_hops", 0),
        style=parsed.get("forwarded_style", "x"),
        proxy_protocol=parsed.get("proxy_protocol", ()),
        trust_host=parsed.get("trust_forwarded_host", False),
        trust_prefix=parsed.get("trust_forwarded_prefix", False),
    )


def refuse_forward_contradictions(names: Mapping[str, str], parsed: Mapping[str, Any]) -> None:
    """Raise ConfigError if a field is to count that is not of the style; `names` are the options as they were given."""
    if parsed.get("trust_forwarded_prefix") and parsed.get("forwarded_style") == "rfc7239":
        raise ConfigError(
            f"{names['trust_forwarded_prefix']}: X-Forwarded-Prefix never counts with {names['forwarded_style']} "
            "rfc7239; leave out one"
        )
