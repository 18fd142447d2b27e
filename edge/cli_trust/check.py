"""`edge trust check`: one call as each client would make it, now and with what edge gives it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.chain import described, lacks_root, next_commands, open_route, print_next, print_server
from edge.cli_trust.output import explained, json_option, print_json, print_table, printable
from edge.cli_trust.targets import this_machine
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge_certs.trust.attempts import Setting
    from edge_certs.trust.clients import Client
    from edge_certs.trust.handshake import Route
    from edge_certs.trust.inspection import Inspection
    from edge_certs.trust.toolsettings import Setting as SwitchedOff

# Behind a proxy, this is the first that people call, to install anything at all.
DEFAULT_TARGET = "https://pypi.org/"
# `edge_certs.trust.clients.CLIENTS`, written out so that --help does not load it; a test holds them together.
NAMES = (
    "urllib",
    "urllib3",
    "requests",
    "httpx",
    "aiohttp",
    "boto3",
    "grpc",
    "certifi",
    "curl",
    "node",
    "git",
    "pip",
    "uv",
)
NOW, RUN, SERVE = "now", "run", "serve"


@click.command("check")
@click.argument("target", metavar="[URL|HOST:PORT]", default=DEFAULT_TARGET)
@click.option("--client", "names", multiple=True, type=click.Choice(NAMES), help="Only this one; may be given again")
@json_option
def check_command(target: str, names: tuple[str, ...], as_json: bool) -> int:
    """Call a server as each HTTP client does: as things are, by `edge trust run`, and in a worker of `edge serve`."""
    from edge_certs.files import edge_home
    from edge_certs.trust.clients import CLIENTS
    from edge_certs.trust.inspection import inspect

    route = open_route(target)
    with explained():
        inspection = inspect(route, edge_home(os.environ), os.environ)
        settings = _settings()
    rows = _rows([client for client in CLIENTS if not names or client.name in names], settings, route)
    for row in rows:
        row["missing"] = inspection.root.name if lacks_root(inspection) and row[NOW]["state"] == "refused" else None
    switches = _switches({row["client"] for row in rows})
    passed = all(row[SERVE]["state"] in ("ok", "absent") for row in rows)
    for item in switches:
        words = f"{item.value!r} switches the verification off, so that 'ok' proves nothing"
        click.echo(printable(f"edge: {item.name}: {words}; {item.undo}"), err=True)
    if as_json:
        off = [{"name": item.name, "value": item.value, "command": item.undo} for item in switches]
        result = {"clients": rows, "verification_off": off, "passed": passed, "next": _advice(inspection, rows)}
        print_json({**described(inspection), **result})
    else:
        _print(inspection, rows)
    return 0 if passed else EdgeError.exit_code


def _settings() -> list[Setting]:
    """As `edge trust run` and `edge serve` start what they start."""
    from edge.trust import worker_trust
    from edge_certs.files import edge_home
    from edge_certs.trust.attempts import Setting
    from edge_certs.trust.variables import write_trust

    ran = write_trust(edge_home(os.environ), os.environ)
    served = worker_trust(os.environ)
    hook = f"from edge_backend.certifi_hook import answer_certifi; answer_certifi({served.ca_bundle!r})"
    return [
        Setting(NOW, os.environ),
        Setting(RUN, {**os.environ, **ran.variables}),
        Setting(SERVE, served.environ, hook if served.ca_bundle else ""),
    ]


def _switches(names: Collection[str]) -> list[SwitchedOff]:
    """Return by which variables and settings these clients verify nothing, or not every host."""
    from edge_certs.trust.survey import switched_off
    from edge_certs.trust.toolsettings import is_switch, read_settings

    found = [*switched_off(os.environ), *filter(is_switch, read_settings(this_machine()))]
    # Of a variable and of a setting, the first word is the client's name.
    return [item for item in found if re.split("[_ ]", item.name.lower())[0] in names]


def _rows(clients: Sequence[Client], settings: Sequence[Setting], route: Route) -> list[dict[str, Any]]:
    from edge_certs.trust.attempts import attempt_all
    from edge_certs.trust.clients import roots_of

    outcomes = attempt_all(clients, settings, route.target.url, route.proxy.url if route.proxy else "")
    rows = []
    for client in clients:
        row: dict[str, Any] = {"client": client.name, "version": outcomes[client.name, NOW].version}
        for setting in settings:
            outcome = outcomes[client.name, setting.name]
            roots = roots_of(client, setting.environ, outcome.certifi)
            row[setting.name] = {"state": outcome.state, "detail": outcome.detail, "roots": roots}
        rows.append(row)
    return rows


def _print(inspection: Inspection, rows: Sequence[dict[str, Any]]) -> None:
    print_server(inspection)
    columns = ("client", "version", "now", "edge trust run", "edge serve", "roots now")
    cells = [
        (row["client"], row["version"], *(row[name]["state"] for name in (NOW, RUN, SERVE)), row[NOW]["roots"])
        for row in rows
        if row[NOW]["state"] != "absent"
    ]
    print_table(columns, cells)
    if absent := [row["client"] for row in rows if row[NOW]["state"] == "absent"]:
        click.echo(f"not installed: {', '.join(absent)}")
    for line in _reasons(rows):
        click.echo(line)
    if lacking := [row["client"] for row in rows if row["missing"]]:
        click.echo(f"missing now ({', '.join(lacking)}): {printable(inspection.root.name)}")
    print_next(inspection, _advice(inspection, rows))


def _reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each different reason, with where it was given and by whom."""
    titles = {NOW: "now", RUN: "by edge trust run", SERVE: "in edge serve"}
    given: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for name, title in titles.items():
            outcome = row[name]
            if outcome["state"] != "absent" and outcome["detail"]:
                given.setdefault((row["client"], outcome["state"], outcome["detail"]), []).append(title)
    found: dict[str, list[str]] = {}
    for (client, state, detail), where in given.items():
        found.setdefault(f"{state} {' and '.join(where)}: {detail}", []).append(client)
    return [printable(f"{', '.join(clients)} {reason}") for reason, clients in found.items()]


def _advice(inspection: Inspection, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The commands that come next; none when all is well as it is."""
    states = {name: {row[name]["state"] for row in rows} - {"absent"} for name in (NOW, SERVE)}
    if states[NOW] <= {"ok"}:
        return []
    if states[SERVE] <= {"ok"}:
        return ["edge trust run -- COMMAND", "edge serve MODULE:ATTR"]
    return next_commands(inspection)
