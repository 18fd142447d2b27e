"""The commands for a server that runs: status, reload, scale, pause, maintenance, drain and stop."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from edge import control
from edge.status import count_of, describe_status

_PID_FILE = click.option(
    "-p", "--pid", "--pid-file", "pid_file", metavar="FILE", help="pid file of the server that is meant"
)


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="as one JSON object")
@_PID_FILE
def status_command(as_json: bool, pid_file: str | None) -> None:
    """Show the workers, edges and queue of the running server."""
    status = control.ask(control.find_server(os.environ, pid_file), "status")
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    for line in describe_status(status):
        click.echo(line)


@click.command("reload", short_help="Read settings, certificates and code again, losing no request.")
@_PID_FILE
def reload_command(pid_file: str | None) -> None:
    """Read settings, certificates and code again, and replace the workers; returns when all are new."""
    workers = control.reload(os.environ, pid_file)
    click.echo(f"reloaded: {count_of(workers, 'worker')}" if workers else "reloaded: no application runs here")


@click.command("scale")
@click.argument("workers", type=int)
@click.option("--pool", metavar="NAME", help="the pool that is meant, where several applications are served")
@_PID_FILE
def scale_command(workers: int, pool: str | None, pid_file: str | None) -> None:
    """Run so many workers from now on."""
    answer = control.ask(control.find_server(os.environ, pid_file), "scale", workers=workers, pool=pool)
    click.echo(f"workers: {answer['before']} before, {answer['workers']} now")


@click.command("pause")
@click.option("--max", "limit", metavar="SECONDS", help="that a request waits before it gets 503  [default: 30s]")
@_PID_FILE
def pause_command(limit: str | None, pid_file: str | None) -> None:
    """Let new requests wait; what runs goes on."""
    control.ask(control.find_server(os.environ, pid_file), "pause", max=limit)
    click.echo("paused: new requests wait; edge resume lets them through")


@click.command("resume", short_help="Let requests through again; ends maintenance, too.")
@_PID_FILE
def resume_command(pid_file: str | None) -> None:
    """Let requests through again, those that wait first; ends maintenance, too."""
    control.ask(control.find_server(os.environ, pid_file), "resume")
    click.echo("resumed: requests are let through")


@click.command("maintenance")
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.option("--allow", metavar="CIDR", multiple=True, help="clients that are served all the same; repeatable")
@click.option("--retry-after", metavar="SECONDS", help="when the others are told to come back  [default: 60s]")
@_PID_FILE
def maintenance_command(switch: str, allow: tuple[str, ...], retry_after: str | None, pid_file: str | None) -> None:
    """Answer new requests with 503, but for probes and allowed clients."""
    server = control.find_server(os.environ, pid_file)
    control.ask(server, "maintenance", on=switch == "on", allow=allow, retry_after=retry_after)
    click.echo(f"maintenance: {switch}")


@click.command("upgrade", short_help="Have the version that is installed now take over.")
@_PID_FILE
def upgrade_command(pid_file: str | None) -> None:
    """Have the version that is installed now take over; returns when it has."""
    answer = control.ask(control.find_server(os.environ, pid_file), "upgrade", timeout=None)
    click.echo(f"upgraded: process {answer['pid']} serves")


@click.command("drain", short_help="Finish what runs, however long it takes, and end.")
@_PID_FILE
def drain_command(pid_file: str | None) -> None:
    """Take nothing new, finish what runs however long it takes, and end; returns at the end."""
    _end(pid_file, "drain")


@click.command("stop", short_help="Finish what runs within --drain-timeout, and end.")
@click.option("--now", is_flag=True, help="cut off what runs")
@_PID_FILE
def stop_command(now: bool, pid_file: str | None) -> None:
    """Take nothing new, finish what runs within --drain-timeout, and end; returns at the end."""
    _end(pid_file, "stop", now=now)


def _end(pid_file: str | None, command: str, **arguments: Any) -> None:
    server = control.find_server(os.environ, pid_file)
    with control.connect(server) as sock:
        control.exchange(sock, command, **arguments)
        sock.settimeout(None)
        while sock.recv(4096):
            pass  # the connection ends when the server has ended
    click.echo(f"process {server.pid} has ended")


COMMANDS = (
    status_command,
    reload_command,
    scale_command,
    pause_command,
    resume_command,
    maintenance_command,
    upgrade_command,
    drain_command,
    stop_command,
)
