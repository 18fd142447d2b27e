"""The settings of forwarding: whose word counts about who the client is."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.options import Option, count, setting, switch
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
    `hops` is how many entries of X-Forwarded-For are taken from the nearest on; 0: as many as trusted proxies wrote.
    """

    trusted_proxies: tuple[Trusted, ...] = setting(
        (),
        networks(),
        "--trusted-proxy",
        "--forwarded-allow-ips",
        shown="nobody",
        environment=("FORWARDED_ALLOW_IPS",),
        help="peers whose X-Forwarded-* count: addresses, networks, unix, or * for everyone; repeatable",
        beside=(_PROXY_HEADERS,),
    )
    trust_unix: bool = False
    hops: int = setting(
        0,
        count(0, 32),
        "--forwarded-hops",
        shown="none",
        help="proxies in front: entries of X-Forwarded-For beyond so many are not looked at",
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
        help="X-Forwarded-Host of trusted proxies counts, too: for those that replace Host",
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
        proxy_protocol=parsed.get("proxy_protocol", ()),
        trust_host=parsed.get("trust_forwarded_host", False),
    )
