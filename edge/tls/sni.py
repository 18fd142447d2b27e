"""Server name to certificates: exact name, then a one-label wildcard, then the first certificate."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

# What a wildcard stands for (RFC 9525 section 6.3): one whole label. A label with "%2f" or "," in it is a trick played
# on whoever puts the host into a URL, not a name.
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")


class SiteNames:
    """Which of some certificates serve a name. Certificates are told by their index in the list that was given.

    Names compare in lower case, as A-labels (`xn--`): a non-ASCII name matches nothing. Nor do a partial wildcard
    (`f*.example`) and a bare `*`.
    """

    __slots__ = ("_addresses", "_default", "_exact", "_wildcards")

    def __init__(self, certificates: Sequence[Iterable[str]]) -> None:
        exact: dict[str, list[int]] = {}
        wildcards: dict[str, list[int]] = {}
        addresses: set[str] = set()
        name_sets = [frozenset(_normalize(name) for name in names) for names in certificates]
        for index, names in enumerate(name_sets):
            for name in names:
                if (address := _address(name)) is not None:
                    addresses.add(address)
                elif _is_plain(name):
                    exact.setdefault(name, []).append(index)
                elif name.startswith("*.") and _is_plain(name[2:]):
                    wildcards.setdefault(name[2:], []).append(index)
        self._addresses = frozenset(addresses)
        self._exact = {name: tuple(indices) for name, indices in exact.items()}
        self._wildcards = {name: tuple(indices) for name, indices in wildcards.items()}
        # A client without SNI may want the other key type too: the first certificate brings its twins along.
        self._default = tuple(index for index, names in enumerate(name_sets) if names == name_sets[0])

    def lookup(self, server_name: str | None) -> tuple[int, ...]:
        """Return the certificates for a server name, several when one name has several key types.

        Without a match, or a name, those with exactly the names of the first; () only if there is no certificate.
        """
        if server_name is None:
            return self._default
        return self._match(_normalize(server_name)) or self._default

    def known(self, host: str) -> bool:
        """Tell whether a certificate covers `host`: a name or an address, IPv6 with or without brackets, no port."""
        name = _normalize(host)
        if self._match(name):
            return True
        return (address := _address(name)) is not None and address in self._addresses

    def groups(self) -> frozenset[tuple[int, ...]]:
        """Return every answer that `lookup` can give."""
        return frozenset((*self._exact.values(), *self._wildcards.values(), self._default))

    def _match(self, name: str) -> tuple[int, ...]:
        if (indices := self._exact.get(name)) is not None:
            return indices
        label, _, parent = name.partition(".")
        if (indices := self._wildcards.get(parent)) is not None and _LABEL.fullmatch(label):
            return indices
        return ()


def _normalize(name: str) -> str:
    # str.lower() folds some non-ASCII letters onto ASCII ones (the Kelvin sign onto "k"): such a name stays as it is.
    return name.lower().removesuffix(".") if name.isascii() else name


def _is_plain(name: str) -> bool:
    return name != "" and name.isascii() and "*" not in name


def _address(name: str) -> str | None:
    """Return an address in its one canonical spelling; None if `name` is none."""
    # No address lacks both, and few names have one: spares them the attempt.
    if ":" not in name and not name[-1:].isdigit():
        return None
    try:
        return str(ipaddress.ip_address(name[1:-1] if name[0] == "[" and name[-1] == "]" else name))
    except ValueError:
        return None
