"""`--reload`: workers that run keep the roots they were started with, because libraries read them once."""

from __future__ import annotations

import os

import click

reload_option = click.option("--reload", "with_reload", is_flag=True, help="Replace the workers of running servers")


def reload_servers() -> int:
    """Have each server of this EDGE_HOME replace its workers, and return the number of new ones when all are ready.

    Requests are not lost, see `edge reload`. Without a server there is nothing to do.

    Raises ControlError: a server gave up the reload; its old workers go on.
    """
    from edge import control
    from edge.rundir import running_servers

    return sum(int(control.ask(server, "reload", timeout=None)["workers"]) for server in running_servers(os.environ))


def print_reloaded(count: int) -> None:
    """Print how many workers are new."""
    click.echo(f"reloaded: {count} {'worker' if count == 1 else 'workers'}" if count else "reloaded: no server runs")
