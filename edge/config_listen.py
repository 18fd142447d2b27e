"""The settings of the listeners: where connections are taken."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.errors import ConfigError
from edge.net.address import MAX_PORT, Address, FdAddress, UnixAddress, parse_address
from edge.options import Kind, Option, account, addresses, count, host, path_of, setting

# Who may connect to a Unix socket: its owner and its group. A front end before us runs as a member of the group.
UNIX_MODE = 0o660


def permissions() -> Kind:
    """The permissions of a file as chmod takes them: octal digits."""

    def parse(value: object) -> int:
        digits = value if isinstance(value, str) else oct(value)[2:] if isinstance(value, int) else ""
        if not re.fullmatch("(0o?)?[0-7]{3}", digits):
            raise ConfigError(f"{value!r}: no permissions; use three octal digits, such as 660")
        return int(digits, 8)

    return Kind("MODE", parse, lambda mode: f"{mode:03o}")


def _sockets(kind: Kind, make: Any) -> Kind:
    """Several addresses that are given without what says of which sort they are."""

    def parse(value: object) -> tuple[Address, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(make(kind.parse(item)) for item in items)

    return Kind(kind.metavar, parse, repeat=True, anchor=kind.anchor)


def _unix_path() -> Kind:
    def parse(value: object) -> UnixAddress:
        address = parse_address(f"unix:{path_of(value)}")
        assert isinstance(address, UnixAddress)
        return address

    return Kind("PATH", parse, anchor=os.path.join)


_UDS = Option(("--uds",), _sockets(_unix_path(), lambda address: address), "the same as --bind unix:PATH", "none")
_FD = Option(
    ("--fd",),
    _sockets(count(0, 9_999_999), FdAddress),
    "the same as --bind fd://N: a socket that Supervisor, Circus or systemd has opened",
    "none",
)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where connections are taken. Empty `binds` stand for the defaults, see edge.net.listener.

    What is said of Unix sockets counts for those made here; empty names leave owner and group as they are.
    """

    binds: tuple[Address, ...] = setting(
        (),
        addresses(),
        "--bind",
        "-b",
        shown="[::]:443 with a certificate, 127.0.0.1:8000 without",
        help="HOST:PORT, :PORT, unix:PATH or fd://N; TLS when there is a certificate; repeatable",
        beside=(_UDS, _FD),
    )
    http_binds: tuple[Address, ...] = setting(
        (),
        addresses(),
        "--http-bind",
        "--insecure-bind",
        shown="[::]:80 with a certificate",
        help="plain HTTP listener beside it; repeatable",
    )
    host: str | None = setting(None, host(), "--host", shown="see --bind", help="host of the default listener")
    port: int | None = setting(
        None, count(0, MAX_PORT), "--port", shown="see --bind", help="port of the default listener; 0 = any free one"
    )
    backlog: int = setting(2048, count(1, MAX_PORT), "--backlog", help="connections that wait to be accepted")
    unix_mode: int = setting(
        UNIX_MODE, permissions(), "--uds-permissions", help="permissions of Unix sockets: who may connect"
    )
    unix_owner: str = setting(
        "", account(), "--uds-owner", shown="this user", help="user whom Unix sockets belong to; for root"
    )
    unix_group: str = setting(
        "", account(), "--uds-group", shown="this user's", help="group whose members may connect to Unix sockets"
    )


def all_binds(parsed: Mapping[str, Any]) -> tuple[Address, ...]:
    """Return what is to be bound, whichever option it was given to."""
    return (*parsed.get("bind", ()), *parsed.get("uds", ()), *parsed.get("fd", ()))
