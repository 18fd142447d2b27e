"""The option that names peers: addresses and networks, those on Unix sockets, or everyone."""

import ipaddress

from edge.errors import ConfigError
from edge.options import Kind, items_of

Trusted = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks() -> Kind:
    """Peers to trust: addresses and networks, `unix`, and `*` for everyone; each item may be a comma list.

    The value is a tuple of networks in which None stands for the peers on Unix sockets.
    """

    def parse(value: object) -> tuple[Trusted | None, ...]:
        words = [word.strip() for item in items_of(value) for word in str(item).split(",")]
        return tuple(dict.fromkeys(network for word in words if word for network in _trusted(word)))

    return Kind("CIDR", parse, repeat=True)


def _trusted(word: str) -> list[Trusted | None]:
    if word == "*":
        return [ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"), None]
    if word == "unix":
        return [None]
    try:
        network = ipaddress.ip_network(word, strict=False)
        address = ipaddress.ip_interface(word).ip
    except ValueError as error:
        raise ConfigError(f"{word!r}: not an address or network; use CIDR such as 10.0.0.0/8, unix or *") from error
    if network.network_address != address:
        raise ConfigError(f"{word!r}: host bits are set; use {network} or the single address {address}")
    return [_unmapped(network)]


def _unmapped(network: Trusted) -> Trusted:
    """Peers are compared as IPv4 where a dual-stack socket shows them as ::ffff:a.b.c.d."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network
