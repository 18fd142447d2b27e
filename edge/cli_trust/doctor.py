"""`edge trust doctor` and `refresh`: what is wrong with the trust of this machine, and the bundles anew."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import explained, json_option, print_json, print_table, printable
from edge.cli_trust.targets import this_machine
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge_certs.trust.diagnosis import Known
    from edge_certs.trust.doctor import Report
    from edge_certs.trust.survey import Place


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> int:
    """Look at every store and variable, and say for each defect which command mends it."""
    from edge_certs.files import edge_home
    from edge_certs.trust.diagnosis import Weight
    from edge_certs.trust.doctor import examine

    with explained():
        report = examine(this_machine(), edge_home(os.environ), datetime.now(UTC), _hook)
    broken = sum(finding.weight is Weight.BROKEN for finding in report.findings)
    if as_json:
        print_json({**_described(report), "broken": broken})
    else:
        _print(report)
    return EdgeError.exit_code if broken else 0


@click.command("refresh")
def refresh_command() -> int:
    """Write the bundles that variables name anew, as after an upgrade of the system's roots or of certifi."""
    from edge_certs.files import edge_home
    from edge_certs.trust.variables import refresh_bundles

    with explained():
        count = refresh_bundles(edge_home(os.environ))
    click.echo(f"refreshed {count} bundles" if count != 1 else "refreshed 1 bundle")
    return 0


def _hook(bundle: str) -> str:
    """As workers begin."""
    return f"from edge_backend.certifi_hook import answer_certifi; answer_certifi({bundle!r})"


def _described(report: Report) -> dict[str, Any]:
    return {
        "places": [
            {
                "name": place.name,
                "path": place.path,
                "condition": place.condition.value,
                "certificates": len(place.certificates),
                "public": len(place.certificates & report.known.public),
                "added": len(place.certificates & report.known.added),
            }
            for place in report.places
        ],
        "stores": [{"target": item.target, "location": item.location, "added": item.added} for item in report.stores],
        "added_roots": len(report.known.added),
        "findings": [
            {
                "code": finding.code,
                "weight": finding.weight.value,
                "subject": finding.subject,
                "text": finding.text,
                "command": finding.command,
            }
            for finding in report.findings
        ],
    }


def _print(report: Report) -> None:
    columns = ("what", "where", "certificates", "public", f"added (of {len(report.known.added)})")
    stores = [(item.target, item.location, "", "", str(item.added)) for item in report.stores]
    print_table(columns, [*(_row(place, report.known) for place in report.places), *stores])
    click.echo()
    for finding in report.findings:
        click.echo(printable(f"{finding.weight.value}: {finding.subject}: {finding.text}"))
        if finding.command:
            click.echo(f"  {finding.command}")
    if not report.findings:
        click.echo("nothing is wrong")


def _row(place: Place, known: Known) -> tuple[str, ...]:
    from edge_certs.trust.survey import Condition

    if place.condition not in (Condition.PEM, Condition.FOLDER):
        return place.name, place.path, place.condition.value, "", ""
    counts = (place.certificates, place.certificates & known.public, place.certificates & known.added)
    return place.name, place.path, *(str(len(found)) for found in counts)
