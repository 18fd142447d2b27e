"""`edge check`: what would be served, and what is wrong with it, without serving it."""

from __future__ import annotations

import dataclasses
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from edge.cli_options import parameters, take
from edge.envfile import read_settings
from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge.config import ServeSettings
    from edge.preview import Facts, Finding

_HELP = """Show what would be served, and what to mend, without serving it.

It takes all options of `edge serve`, reads the certificates and imports the applications, each in a process of its own.
Nobody else is asked, and no port is taken.

Exit code 0: nothing is to be mended. 1: it would serve, with warnings. 2: it would not start.
"""


def _check(*, as_json: bool, imports: bool, **options: Any) -> int:
    settings = read_settings(take(options), os.environ)
    # Not before: a wrong option is answered at once.
    from edge.lookup import look_up
    from edge.preview import Level, find_findings

    facts = look_up(settings, os.environ, datetime.now(UTC), imports=imports)
    findings = find_findings(settings, facts)
    if as_json:
        click.echo(json.dumps(_encode(settings, facts, findings), indent=2))
    else:
        _show(settings, facts, findings)
    levels = {finding.level for finding in findings}
    return ConfigError.exit_code if Level.ERROR in levels else int(Level.WARNING in levels)


def _show(settings: ServeSettings, facts: Facts, findings: list[Finding]) -> None:
    from edge.cli_trust.output import printable
    from edge.preview import describe_limits, describe_roots, describe_trust, hosts_of

    for address in facts.listening:
        click.echo(f"listening on {address}")
    for each in facts.certificates:
        left = each.days_left(facts.now)
        click.echo(f"certificate for {', '.join(each.names)}: {left} days left, {each.key_type}, {each.place}")
    for names in settings.acme.certificates:
        click.echo(f"certificate for {', '.join(names)}: ordered from {settings.acme.directory}")
    for line in hosts_of(settings.sites):
        click.echo(line)
    click.echo(f"limits: {describe_limits(settings)}")
    click.echo(f"trusted proxies: {describe_trust(settings)}")
    for file in facts.outbound:
        click.echo(f"outbound CA: {printable(describe_roots(file))}")
    for finding in findings:
        click.echo(f"{finding.level.value}: {finding.text}")


def _encode(settings: ServeSettings, facts: Facts, findings: list[Finding]) -> dict[str, Any]:
    from edge.preview import describe_target

    return {
        "listening": list(facts.listening),
        "certificates": [
            {
                "names": list(each.names),
                "file": each.place,
                "key": each.key_type,
                "not_after": each.not_after.isoformat(),
                "days_left": each.days_left(facts.now),
            }
            for each in facts.certificates
        ],
        "ordered": [list(names) for names in settings.acme.certificates],
        "sites": [
            {
                "hosts": list(site.names + site.settings.policy.server_names),
                "routes": [{"path": route.prefix, "to": describe_target(route)} for route in site.routes],
            }
            for site in settings.sites
        ],
        "limits": dataclasses.asdict(settings.limits),
        "timeouts": dataclasses.asdict(settings.timeouts),
        "trusted_proxies": [str(network) for network in settings.forward.trusted_proxies],
        "outbound_ca": [{"file": file.source.name, "subjects": list(file.subjects)} for file in facts.outbound],
        "findings": [{"level": finding.level.value, "text": finding.text} for finding in findings],
    }


check_command = click.Command(
    "check",
    callback=_check,
    params=[
        *parameters(hidden=True),
        click.Option(["--json", "as_json"], is_flag=True, help="as one JSON object"),
        click.Option(["--import/--no-import", "imports"], default=True, help="import the applications [default: yes]"),
    ],
    help=_HELP,
)
