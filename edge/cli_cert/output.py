"""What the commands of `edge cert` have in common: exit codes for errors, and how dates and steps are shown."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from edge.cli_trust.output import json_option, print_json, print_table, printable
from edge.errors import ConfigError, EdgeError

_T = TypeVar("_T")

__all__ = [
    "dry_option",
    "explained",
    "home",
    "json_option",
    "named",
    "now",
    "print_json",
    "print_table",
    "printable",
    "run_async",
    "show_left",
]

dry_option = click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done")


@contextmanager
def explained() -> Iterator[None]:
    """Give errors of the certificates' room, and of the system, the exit code of what failed at work.

    Raises EdgeError (1).
    """
    from edge_certs.errors import CertificateError

    try:
        yield
    except CertificateError as error:
        raise EdgeError(str(error)) from error
    except OSError as error:
        raise EdgeError(_refusal(error)) from error


@contextmanager
def named() -> Iterator[None]:
    """Give errors of what the command names, a file or a name, the exit code of a wrong command.

    Raises ConfigError (2).
    """
    from edge_certs.errors import CertificateError

    try:
        yield
    except CertificateError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(_refusal(error)) from error


def _refusal(error: OSError) -> str:
    """What the system refused where nobody else has said it better."""
    from edge_certs.errors import place, reason
    from edge_certs.files import user_name

    where = place(str(error.filename)) if error.filename else "the system"
    return f"{where}: {reason(error)}; let user {user_name()!r} come to it"


def home() -> Path:
    """Return the folder for everything that lasts.

    Raises CertificateError: no home is known for this user.
    """
    from edge_certs.files import edge_home

    return edge_home(os.environ)


def now() -> datetime:
    """Return the time of this machine's clock, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def run_async(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what `work` comes to; asyncio is loaded here, and not by --help."""
    import asyncio

    return asyncio.run(work)


def show_left(until: datetime, moment: datetime) -> str:
    """Return the time from `moment` to `until` in the unit that matters."""
    left = (until - moment).total_seconds()
    if left < 0:
        return f"expired {show_left(moment, until)} ago" if until != moment else "0 minutes"
    if left >= 2 * 86400:
        return f"{int(left // 86400)} days"
    if left >= 2 * 3600:
        return f"{int(left // 3600)} hours"
    return f"{int(left // 60)} minutes"
