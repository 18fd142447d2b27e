"""`edge trust bundle`, `env` and `run`: what tells libraries and tools about the roots."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli_trust.output import explained

if TYPE_CHECKING:
    from edge_certs.trust.variables import Trust

# `edge_certs.trust.formats.FORMATS`, written out so that --help does not load it; a test holds them together.
FORMATS = ("sh", "fish", "powershell", "dotenv", "docker", "compose", "systemd", "github", "json")
BASES = ("both", "system", "certifi", "none")
# What the shell says of a command that is not there or may not be run (POSIX.1-2024 section 2.8.2).
NOT_FOUND, NOT_RUNNABLE = 127, 126

_base_option = click.option(
    "--base", type=click.Choice(BASES), default="both", help="Public roots to start from [default: both]"
)


@click.command("bundle")
@_base_option
@click.option("-o", "--output", help="File to write [default: standard output]")
def bundle_command(base: str, output: str | None) -> int:
    """Print the public roots, those that variables name, and those that were added, as one PEM file."""
    from edge_certs.files import edge_home, write_public
    from edge_certs.trust.variables import merged_bundle

    with explained():
        content = merged_bundle(edge_home(os.environ), os.environ, base)
        if output is not None:
            write_public(Path(output), content)
    if output is None:
        click.echo(content, nl=False)
    return 0


@click.command("env")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="sh", help="Whose words [default: sh]")
@_base_option
def env_command(kind: str, base: str) -> int:
    """Write the bundle and print the variables that make libraries and tools use it."""
    from edge_certs.trust.formats import encode_variables

    with explained():
        click.echo(encode_variables(_write(base), kind))
    return 0


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_base_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(base: str, command: tuple[str, ...]) -> int:
    """Run COMMAND with these variables in place of this process."""
    with explained():
        trust = _write(base)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, {**os.environ, **trust.variables})
    except OSError as error:
        click.echo(f"edge: command {command[0]!r}: {str(error.strerror).lower()}", err=True)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE


def _write(base: str) -> Trust:
    from edge_certs.files import edge_home
    from edge_certs.trust.variables import write_trust

    trust = write_trust(edge_home(os.environ), os.environ, base)
    for remark in trust.remarks:
        click.echo(f"edge: {remark}", err=True)
    return trust
