"""`edge trust`: the roots of a company, for everything on this machine that calls out."""

from __future__ import annotations

import click

from edge.cli_group import Commands
from edge.cli_trust.add import add_command
from edge.cli_trust.check import check_command
from edge.cli_trust.detect import detect_command
from edge.cli_trust.dockerfile import dockerfile_command
from edge.cli_trust.doctor import doctor_command, refresh_command
from edge.cli_trust.listing import list_command
from edge.cli_trust.remove import remove_command
from edge.cli_trust.variables import bundle_command, env_command, run_command
from edge.errors import ConfigError


@click.group("trust", cls=Commands, invoke_without_command=True)
@click.pass_context
def trust_group(context: click.Context) -> int:
    """Trust a company's root certificate in everything that calls out over HTTPS."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return ConfigError.exit_code
    return 0


for command in (add_command, remove_command, list_command, bundle_command, env_command, run_command):
    trust_group.add_command(command)
for command in (check_command, detect_command, doctor_command, refresh_command, dockerfile_command):
    trust_group.add_command(command)
