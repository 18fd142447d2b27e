"""What a service manager says to a process and hears of it, by the protocols of systemd: variables and datagrams.

sd_listen_fds(3) hands over sockets, sd_notify(3) is told how the service is and keeps sockets for the next run,
sd_watchdog_enabled(3) asks for a sign of life. Nothing here does I/O: edge/notify.py sends, edge/net/inherited.py and
edge/net/stored.py open.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from edge.errors import ConfigError

# The first of the sockets that are handed over (SD_LISTEN_FDS_START).
FIRST_SOCKET = 3
# More than this is no number of sockets: systemd itself stops at the limit of open files.
MAX_SOCKETS = 1024

NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
# Whom the service manager started itself; the others above are for that process or for one that it stands for.
SYSTEMD_EXEC_PID = "SYSTEMD_EXEC_PID"
# How many sockets the service manager keeps between two runs: FileDescriptorStoreMax= of the unit.
FDSTORE = "FDSTORE"
VARIABLES = (
    *(NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, FDSTORE),
    *(LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, SYSTEMD_EXEC_PID),
)

# What the names begin with of those that it keeps for us: no socket unit of anybody's is called so.
_STORED = "edge-listener="
# systemd gives up on a longer name (FDNAME_MAX).
MAX_NAME = 255

Use = Literal["https", "http", "metrics"]
USES: tuple[Use, ...] = ("https", "http", "metrics")


@dataclass(frozen=True, slots=True)
class HandedSocket:
    """An open socket of the process, and the name that its unit gave it (`FileDescriptorName=`), which may be empty."""

    fd: int
    name: str

    def __str__(self) -> str:
        return f"fd://{self.fd} ({self.name!r})" if self.name else f"fd://{self.fd}"


def take_variables(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Return the variables of service managers, and remove them: they are for this process, not for its children."""
    return {name: environ.pop(name) for name in VARIABLES if name in environ}


def parse_sockets(variables: Mapping[str, str], pid: int) -> tuple[HandedSocket, ...]:
    """Return the sockets that were handed to the process `pid`; none if they are meant for another.

    Raises ConfigError: LISTEN_FDS is not a number of sockets.
    """
    if variables.get(LISTEN_PID) != str(pid) or LISTEN_FDS not in variables:
        return ()
    text = variables[LISTEN_FDS]
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) > MAX_SOCKETS:
        raise ConfigError(f"{LISTEN_FDS}={text!r}: not a number of sockets; use 0 to {MAX_SOCKETS}")
    names = variables.get(LISTEN_FDNAMES, "").split(":")
    return tuple(
        HandedSocket(FIRST_SOCKET + index, names[index] if index < len(names) else "") for index in range(int(text))
    )


def split_stored(sockets: Sequence[HandedSocket]) -> tuple[list[HandedSocket], list[HandedSocket]]:
    """Return those of socket units, and those of an earlier run of ours that the service manager has kept."""
    stored = [item for item in sockets if item.name.startswith(_STORED)]
    return [item for item in sockets if item not in stored], stored


def store_name(address: str) -> str:
    """Return what the service manager calls the listener with this address, as long as it keeps it (FDNAME=)."""
    name = _STORED + quote(address, safe="/[]@,# ")  # a colon would part two names in LISTEN_FDNAMES
    return name if len(name) <= MAX_NAME else _STORED + hashlib.sha256(address.encode()).hexdigest()


def parse_store_room(variables: Mapping[str, str]) -> int:
    """Return how many sockets the service manager keeps for the next run; 0 if it keeps none.

    Raises ConfigError: FDSTORE is not a number of sockets.
    """
    text = variables.get(FDSTORE, "0")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ConfigError(f"{FDSTORE}={text!r}: not a number of sockets; set FileDescriptorStoreMax= instead")
    return int(text)


def assign_uses(sockets: Sequence[HandedSocket], *, tls: bool) -> tuple[Use, ...]:
    """Return what each socket is for, by its name; where none has such a name, by their order.

    Without `tls` all are for HTTP then; with it, the first is for HTTPS and the second for HTTP.

    Raises ConfigError: their names do not say it, there are too many to tell, or HTTPS is to be served without `tls`.
    """
    known = {item.name for item in sockets} & set(USES)
    if not known:
        return _uses_by_order(sockets, tls=tls)
    found: list[Use] = []
    for item in sockets:
        use = next((use for use in USES if use == item.name), None)
        if use is None:
            raise ConfigError(
                f"{LISTEN_FDNAMES}: {item} is none of {', '.join(USES)}; set FileDescriptorName= for each"
            )
        if use == "https" and not tls:
            raise ConfigError(f"{LISTEN_FDNAMES}: {item} is for TLS, which needs a certificate; add --cert or --acme")
        found.append(use)
    return tuple(found)


def _uses_by_order(sockets: Sequence[HandedSocket], *, tls: bool) -> tuple[Use, ...]:
    if not tls:
        return tuple("http" for _ in sockets)
    if len(sockets) > 2:
        raise ConfigError(
            f"{LISTEN_FDS}: {len(sockets)} sockets, and no name says which are for TLS; "
            f"set FileDescriptorName= of each to {', '.join(USES)}"
        )
    both: tuple[Use, ...] = ("https", "http")
    return both[: len(sockets)]


def parse_notify_address(text: str) -> str:
    """Return the address of a Unix socket as the system takes it; one that begins with `@` is abstract.

    Raises ConfigError: it is neither a path nor abstract.
    """
    if not text.startswith(("/", "@")) or len(text) < 2:
        raise ConfigError(
            f"{NOTIFY_SOCKET}={text!r}: neither an absolute path nor @NAME; leave it to the service manager"
        )
    return f"\0{text[1:]}" if text.startswith("@") else text


def parse_watchdog(variables: Mapping[str, str], pid: int) -> float:
    """Return the seconds within which the process `pid` has to give a sign of life each time; 0 is never.

    Raises ConfigError: WATCHDOG_USEC is not a number of microseconds.
    """
    if WATCHDOG_USEC not in variables or variables.get(WATCHDOG_PID, str(pid)) != str(pid):
        return 0.0
    text = variables[WATCHDOG_USEC]
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise ConfigError(f"{WATCHDOG_USEC}={text!r}: not a number of microseconds above 0; set WatchdogSec= instead")
    return int(text) / 1_000_000


def encode_notification(**values: object) -> bytes:
    """Return the datagram that tells a service manager these values, such as READY=1; a value is one line."""
    return "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in values.items()).encode()
