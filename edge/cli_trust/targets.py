"""`--to` and `--from`: which stores are meant, who may change them, and what is to be confirmed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli_trust.output import explained
from edge.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from edge_certs.trust.stores.machine import Machine
    from edge_certs.trust.stores.place import Place

# `edge_certs.trust.stores.targets.TARGETS`, written out so that --help does not load it; a test holds them together.
TARGETS = ("system", "nss", "firefox", "java", "docker")
# Our own store, which has every root, so that each can be listed and removed.
EDGE = "edge"
ALL = "all"

yes_option = click.option("--yes", "-y", "is_confirmed", is_flag=True, help="Do not ask")


class NeedsRoot(EdgeError):
    """Only root may do it; nothing was changed (exit code 3)."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """The places that are meant, and, for those that `all` passed over, why."""

    places: Sequence[Place]
    remarks: Sequence[str] = ()


def parse_targets(flag: str, given: Sequence[str]) -> list[str]:
    """Return the targets in `given`, comma-separated and repeated as it may be, each once.

    Raises ConfigError: one of them is unknown.
    """
    words = list(dict.fromkeys(word.strip() for text in given for word in text.split(",")))
    allowed = (EDGE, *TARGETS, ALL)
    for word in words:
        if word not in allowed:
            raise ConfigError(f"{flag} {word!r}: not a target; use {', '.join(allowed)}")
    return words


def choose_places(targets: Sequence[str], machine: Machine, registries: Sequence[str]) -> Chosen:
    """Return the places that `targets` mean on `machine`; of `all`, those that are there.

    Raises ConfigError: another user's store is asked for; EdgeError: one that is asked for is not there.
    """
    from edge_certs.errors import CertificateError
    from edge_certs.trust.stores.docker import is_registry
    from edge_certs.trust.stores.targets import find_places

    for name in registries:
        if not is_registry(name):
            raise ConfigError(f"--registry {name!r}: neither HOST nor HOST:PORT; name it as in docker pull")
    if registries and not {"docker", ALL} & set(targets):
        raise ConfigError("--registry: only for docker; add --to docker")
    places: list[Place] = []
    remarks = []
    for target in TARGETS if ALL in targets else targets:
        if target == EDGE:
            continue
        try:
            found = find_places(target, machine, registries)
            _check_owner(found, machine)
        except (CertificateError, ConfigError) as error:
            if ALL not in targets:
                with explained():
                    raise
            remarks.append(f"passed over {error}")
            continue
        places += found
    return Chosen(places, remarks)


def check_rights(places: Iterable[Place], again: Callable[[Sequence[str]], list[str]], *, home: str = "") -> None:
    """Let this user pass if all `places` may be changed; `again` gives the command's words for some of its targets.

    `home` is the EDGE_HOME that root has to use; without it, root's own, and then the rest is still this user's to do.

    Raises NeedsRoot: with the exact line to run.
    """
    places = list(places)
    closed = list(dict.fromkeys(item.target for item in places if item.needs_root))
    if not closed:
        return
    setting = [f"EDGE_HOME={home}"] if home else []
    line = shlex.join(["sudo", *setting, *program(), *again(closed)])
    rest = list(dict.fromkeys(item.target for item in places if item.target not in closed))
    after = f", and then for yourself: {shlex.join([*program(), *again(rest)])}" if rest or not home else ""
    raise NeedsRoot(f"{' and '.join(closed)}: only root may change it, nothing was changed; run: {line}{after}")


def confirm(places: Sequence[Place], lines: Sequence[str], *, is_confirmed: bool) -> None:
    """Ask on a terminal whether to do what `lines` say; without one, only a user's own stores are changed unasked.

    Raises ConfigError: it may not be asked; EdgeError: the answer is no.
    """
    if is_confirmed or not lines:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        shared = list(dict.fromkeys(item.target for item in places if not item.is_personal))
        if shared:
            raise ConfigError(
                f"{' and '.join(shared)}: for all users of this machine, and there is nobody to ask; add --yes"
            )
        return
    for line in lines:
        click.echo(line, err=True)
    if not click.confirm("go on?", err=True):
        raise EdgeError("nothing was changed: the answer was no")


def program() -> list[str]:
    """Return the words that run this program again, as another user too, whose PATH may be another one."""
    name = Path(sys.argv[0])
    return [str(name.absolute())] if name.name == "edge" else [sys.executable, "-m", "edge"]


def this_machine() -> Machine:
    """Return the machine that this command runs on."""
    from edge_certs.trust.stores.machine import this_machine as make

    return make(os.environ)


def _check_owner(places: Sequence[Place], machine: Machine) -> None:
    """Under sudo, HOME may be the user's: what root makes there, the user's browser cannot open."""
    personal = [item.target for item in places if item.is_personal]
    if personal and machine.is_root and machine.sudo_user:
        raise ConfigError(f"{personal[0]}: the store of user {machine.sudo_user!r}, not of root; run it without sudo")
