"""`edge config`: every setting, and where its value comes from."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from edge.cli_options import parameters, take
from edge.envfile import read_sources
from edge.origins import Value, as_text, as_toml, list_sites, list_values

_HELP = """Show every setting with its value and where that comes from: a flag, a variable, the file or the default.

It takes all options of `edge serve`, and starts nothing.
"""


def _config(*, as_json: bool, format: str, **options: Any) -> None:
    settings, given, text = read_sources(take(options), os.environ)
    values, sites = list(list_values(settings, given)), list_sites(text)
    if as_json:
        click.echo(json.dumps(_encode(values, sites), indent=2))
    elif format == "toml":
        click.echo("\n".join(as_toml(values, sites)))
    else:
        rows = [as_text(value) for value in values]
        for number, (own, routes) in enumerate(sites, 1):
            rows += [as_text(value, f"site[{number}]") for value in own]
            for index, route in enumerate(routes, 1):
                rows += [as_text(value, f"site[{number}].route[{index}]") for value in route]
        _print(rows)


def _encode(values: list[Value], sites: list[tuple[list[Value], list[list[Value]]]]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for value in values:
        tables.setdefault(value.table, {})[value.key] = value.encode()
    encoded = [{**_by_key(own), "route": [_by_key(route) for route in routes]} for own, routes in sites]
    return {**tables, "site": encoded}


def _by_key(values: list[Value]) -> dict[str, object]:
    return {value.key: value.encode() for value in values}


def _print(rows: list[tuple[str, str, str]]) -> None:
    width = max(len(name) for name, _, _ in rows)
    shown = min(40, max(len(value) for _, value, _ in rows))
    for name, value, place in rows:
        click.echo(f"{name:<{width}}  {value:<{shown}}  {place}")


config_command = click.Command(
    "config",
    callback=_config,
    params=[
        *parameters(hidden=True),
        click.Option(["--json", "as_json"], is_flag=True, help="as one JSON object"),
        click.Option(
            ["--format"],
            type=click.Choice(["text", "toml"]),
            default="text",
            help="toml = as a file that says the same, with defaults and secrets in comments",
        ),
    ],
    help=_HELP,
)
