"""The local root in the stores of this machine, by the same means and the same record as `edge trust`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from edge.cli_trust.add import add_command
from edge.cli_trust.remove import remove_command
from edge.cli_trust.targets import choose_places, parse_targets, this_machine
from edge.errors import EdgeError

# What `edge trust list` calls it, and what removes it.
LABEL = "edge-dev"

# Where browsers and tools on this machine look; Docker's daemon talks to registries, not to localhost.
TARGETS = ("system", "nss", "firefox", "java")


def install_root(root: Path, to: tuple[str, ...], *, is_confirmed: bool, dry_run: bool, as_json: bool) -> int:
    """Install the file `root` into the stores `to`, or into all that are there, and look whether they trust it then.

    Raises NeedsRoot: only root may change one of them; ConfigError, EdgeError: as `edge trust add`.
    """
    targets = parse_targets("--to", to) or _present()
    return _run(add_command)(
        source=str(root),
        label=LABEL,
        fingerprint=None,
        force="",
        to=tuple(targets),
        registry=(),
        is_confirmed=is_confirmed,
        with_reload=False,
        dry_run=dry_run,
        as_json=as_json,
    )


def uninstall_root(*, is_confirmed: bool, dry_run: bool, as_json: bool) -> int:
    """Take the root out of every store that `install_root` put it into, and of no other; raises as it does."""
    return _run(remove_command)(
        name=LABEL, origin=(), is_confirmed=is_confirmed, with_reload=False, dry_run=dry_run, as_json=as_json
    )


def _present() -> list[str]:
    """The targets that this machine has; what it has not is passed over, and said."""
    machine, found = this_machine(), []
    for target in TARGETS:
        try:
            choose_places([target], machine, ())
        except EdgeError as error:
            click.echo(f"edge: passed over {error}", err=True)
        else:
            found.append(target)
    return found


def _run(command: click.Command) -> Callable[..., int]:
    assert command.callback is not None
    return command.callback
