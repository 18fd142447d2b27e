"""What the commands of `edge trust` have in common: exit codes for errors, and what they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge_certs.trust.installations import Installations
    from edge_certs.trust.store import TrustStore

# A table that goes into a file or a pipe is not to be cut.
PIPE_WIDTH = 200

dry_option = click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON")


class TrustRefused(EdgeError):
    """What was given is not fit to be trusted; nothing was changed (exit code 4)."""

    exit_code = 4


@contextmanager
def explained() -> Iterator[None]:
    """Give errors of the certificates' room their exit codes.

    Raises TrustRefused for a certificate that is refused (4), EdgeError for all else that failed (1).
    """
    from edge_certs.errors import CertificateError
    from edge_certs.trust.anchors import AnchorRefused

    try:
        yield
    except AnchorRefused as error:
        raise TrustRefused(str(error)) from error
    except CertificateError as error:
        raise EdgeError(str(error)) from error


def open_store() -> TrustStore:
    """Return the store below this user's EDGE_HOME.

    Raises CertificateError: no home is known for this user.
    """
    from edge_certs.files import edge_home
    from edge_certs.trust.store import TrustStore

    return TrustStore(edge_home(os.environ))


def open_record() -> Installations:
    """Return the record of what was installed further, below this user's EDGE_HOME; raises as `open_store`."""
    from edge_certs.files import edge_home
    from edge_certs.trust.installations import Installations

    return Installations(edge_home(os.environ))


def refresh_bundles() -> None:
    """Let whatever names a bundle already see the change; also after a change whose refresh was interrupted.

    Raises CertificateError: a bundle cannot be made or written.
    """
    from edge_certs.files import edge_home
    from edge_certs.trust.variables import refresh_bundles as refresh

    refresh(edge_home(os.environ))


def print_json(value: object) -> None:
    """Print a value of JSON, indented for people too."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns' names, as wide as the terminal; `printable` is applied to each cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def printable(text: str) -> str:
    """Return `text` fit for a terminal: a certificate's names are anybody's, and none of it is to steer it."""
    return text if text.isprintable() else repr(text)
