"""`edge cert`: certificates for this server, from an authority, from files, or from the local root."""

from __future__ import annotations

import click

from edge.cli_cert.account import revoke_command, rollover_command
from edge.cli_cert.check import check_command
from edge.cli_cert.dev import dev_command
from edge.cli_cert.files import export_command, import_command
from edge.cli_cert.inspect import inspect_command
from edge.cli_cert.listing import list_command
from edge.cli_cert.order import issue_command, renew_command
from edge.cli_group import Commands
from edge.errors import ConfigError


@click.group("cert", cls=Commands, invoke_without_command=True)
@click.pass_context
def cert_group(context: click.Context) -> int:
    """Certificates: get them, renew them, look at them, move them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return ConfigError.exit_code
    return 0


for command in (
    issue_command,
    renew_command,
    list_command,
    inspect_command,
    check_command,
    revoke_command,
    import_command,
    export_command,
    dev_command,
    rollover_command,
):
    cert_group.add_command(command)
