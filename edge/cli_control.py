"""The commands for a server that runs: status, reload, scale, drain and stop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from edge import control

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


@click.command("reload")
@_PID_FILE
def reload_command(pid_file: str | None) -> None:
    """Read settings, certificates and code again, and replace the workers; returns when all are new."""
    workers = control.reload(os.environ, pid_file)
    click.echo(f"reloaded: {_count(workers, 'worker')}")


@click.command("scale")
@click.argument("workers", type=int)
@_PID_FILE
def scale_command(workers: int, pid_file: str | None) -> None:
    """Run so many workers from now on."""
    answer = control.ask(control.find_server(os.environ, pid_file), "scale", workers=workers)
    click.echo(f"workers: {answer['before']} before, {answer['workers']} now")


@click.command("drain")
@_PID_FILE
def drain_command(pid_file: str | None) -> None:
    """Take nothing new, finish what runs however long it takes, and end; returns at the end."""
    _end(pid_file, "drain")


@click.command("stop")
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


def describe_status(status: dict[str, Any]) -> list[str]:
    """Return what `edge status` prints for a status, see docs/reference/control.md."""
    lines = [
        f"{status['state']}: process {status['pid']}, up {_duration(status['uptime'])}",
        *(f"listening on {address}" for address in status["listening"]),
        f"{_count(status['size'], 'worker')} wanted, {status['restarts']} restarted, {status['queue']} requests wait",
        "",
        f"{'WORKER':>6} {'PID':>8} {'STATE':<9} {'REQUESTS':>10} {'RUNNING':>8} {'MEMORY':>9} {'AGE':>8}",
    ]
    for worker in status["workers"]:
        state = "silent" if worker["silent"] and worker["state"] == "ready" else worker["state"]
        lines.append(
            f"{worker['number']:>6} {worker['pid']:>8} {state:<9} {worker['requests']:>10} {worker['in_flight']:>8} "
            f"{worker['memory'] / 2**20:>5.0f} MiB {_duration(worker['age']):>8}"
        )
    lines += ["", f"{'EDGE':>6} {'PID':>8} {'STATE':<9} {'CONNECTIONS':>11} {'QUEUE':>6} {'AGE':>8}"]
    for number, edge in enumerate(status["edges"]):
        state = "draining" if edge["draining"] else "serving" if "connections" in edge else "starting"
        lines.append(
            f"{number:>6} {edge['pid']:>8} {state:<9} {edge.get('connections', 0):>11} {edge.get('queue', 0):>6} "
            f"{_duration(edge['age']):>8}"
        )
    if status["certificates"]:
        lines.append("")
    return [*lines, *(line for certificate in status["certificates"] for line in _certificate_lines(certificate))]


def _certificate_lines(certificate: dict[str, Any]) -> Iterator[str]:
    until = f", valid until {certificate['not_after'][:16]}Z" if certificate.get("not_after") else ""
    yield f"certificate {certificate['name']}: {certificate['status']}{until}"
    if certificate.get("next_at"):
        yield f"  next attempt {certificate['next_at'][:16]}Z: {certificate['reason']}"
    if certificate["last_error"]:
        yield f"  last error: {certificate['last_error']}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    for size, unit, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02}{small}"
    return f"{whole}s"
