"""What `edge status` is told and shows: numbers of the processes, added up from what the edges report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edge.gate import GateState
from edge.net.listener import Listener

_NEVER = float("inf")

Reports = Iterable[Mapping[str, Any]]
"""What edges have reported last, see edge/orders.py."""


def seen_of_workers(reports: Reports) -> dict[int, tuple[int, int, float]]:
    """Add up, for each worker, its requests, those that run, and the seconds without a sign of life.

    Alive is whom one of the edges has heard.
    """
    seen: dict[int, tuple[int, int, float]] = {}
    for report in reports:
        for name, (requests, running, silent) in report.get("workers", {}).items():
            before = seen.get(int(name), (0, 0, _NEVER))
            seen[int(name)] = (before[0] + requests, before[1] + running, min(before[2], silent))
    return seen


def worker_rows(workers: Iterable[dict[str, Any]], reports: Reports) -> list[dict[str, Any]]:
    """Return what is known of each worker, with what edges have seen of it."""
    seen = seen_of_workers(reports)
    rows = []
    for worker in workers:
        requests, running, silent = seen.get(worker["number"], (0, 0, 0.0))
        rows.append({**worker, "requests": requests, "in_flight": running, "silent": silent})
    return rows


def describe(listener: Listener) -> str:
    """Return a listener as the operator would type it."""
    if listener.public_port is None:
        return listener.address
    scheme = "https" if listener.tls else "http"
    return f"{scheme}://{listener.address}"


def summarize(ready: int, size: int, listeners: Iterable[Listener]) -> str:
    """Return how the server is in one line, for a service manager."""
    where = ", ".join(describe(listener) for listener in listeners)
    return f"{ready} of {count_of(size, 'worker')} ready, {where}"


def describe_status(status: dict[str, Any]) -> list[str]:
    """Return what `edge status` prints for a status, see docs/reference/control.md."""
    lines = [
        f"{status['state']}: process {status['pid']}, up {_duration(status['uptime'])}",
        *filter(None, [_gate(status["gate"])]),
        *(f"listening on {address}" for address in status["listening"]),
        f"{count_of(status['size'], 'worker')} wanted, {status['restarts']} restarted, {status['queue']} requests wait",
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
    lines += _upstream_lines(status["edges"])
    if status["certificates"] or status["renewals"]:
        lines.append("")
    for certificate in status["certificates"]:
        lines.append(f"certificate for {', '.join(certificate['names'])}: valid until {certificate['not_after'][:10]}")
    return [*lines, *(line for renewal in status["renewals"] for line in _renewal_lines(renewal))]


def _upstream_lines(edges: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line for each server of an upstream, with what all edges have seen of it."""
    servers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for edge in edges:
        for name, rows in edge.get("upstreams", {}).items():
            for address, row in rows.items():
                servers.setdefault((name, address), []).append(row)
    if not servers:
        return []
    lines = ["", f"{'UPSTREAM':<20} {'SERVER':<28} {'STATE':<5} {'REQUESTS':>10} {'RUNNING':>8} {'CONNECTIONS':>11}"]
    for (name, address), rows in servers.items():
        state = "up" if any(row["up"] for row in rows) else "down"
        requests, running, open_ = (sum(row[key] for row in rows) for key in ("requests", "in_flight", "connections"))
        lines.append(f"{name:<20} {address:<28} {state:<5} {requests:>10} {running:>8} {open_:>11}")
    return lines


def _gate(order: dict[str, Any]) -> str:
    return GateState(order["mode"], order["limit"], tuple(order["allow"]), order["retry_after"]).describe()


def _renewal_lines(certificate: dict[str, Any]) -> Iterator[str]:
    until = f", valid until {certificate['not_after'][:16]}Z" if certificate.get("not_after") else ""
    yield f"certificate {certificate['name']}: {certificate['status']}{until}"
    if certificate.get("next_at"):
        yield f"  next attempt {certificate['next_at'][:16]}Z: {certificate['reason']}"
    if certificate["last_error"]:
        yield f"  last error: {certificate['last_error']}"


def count_of(number: int, noun: str) -> str:
    """Return "1 worker", "2 workers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    for size, unit, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02}{small}"
    return f"{whole}s"
