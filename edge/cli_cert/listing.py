"""`edge cert list`: what there is, when each will be renewed, and why then."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from edge.cli_cert.output import explained, home, json_option, now, print_json, print_table, show_left

if TYPE_CHECKING:
    from edge_certs.listing import Listed

COLUMNS = ("name", "also for", "authority", "valid", "renewal", "why then", "problem")


@click.command("list")
@json_option
def list_command(as_json: bool) -> int:
    """List the certificates in the storage, when each will be renewed and why."""
    from edge_certs.listing import list_certificates
    from edge_certs.storage import Storage

    moment = now()
    with explained():
        listed = list_certificates(Storage(home()), moment)
    if as_json:
        print_json({"certificates": [_encode(item, moment) for item in listed]})
    elif not listed:
        click.echo("no certificate in the storage; get one with: edge cert issue NAME, or: edge cert import FOLDER")
    else:
        print_table(COLUMNS, [_row(item, moment) for item in listed])
    return 0


def _row(item: Listed, moment: datetime) -> tuple[str, ...]:
    certificate = item.certificate
    valid = "none yet" if certificate is None else show_left(certificate.not_after, moment)
    others = ", ".join(name for name in item.names if name != item.name)
    return (item.name, others, item.authority, valid, _renewal(item, moment), item.reason, item.problem)


def _renewal(item: Listed, moment: datetime) -> str:
    if item.renew_at is None:
        return "never"
    return "due now" if item.renew_at <= moment else f"in {show_left(item.renew_at, moment)}"


def _encode(item: Listed, moment: datetime) -> dict[str, Any]:
    certificate = item.certificate
    return {
        "name": item.name,
        "names": list(item.names),
        "authority": item.authority,
        "file": str(item.path) if item.path else None,
        "fingerprint": certificate.fingerprint if certificate else None,
        "not_before": certificate.not_before.isoformat() if certificate else None,
        "not_after": certificate.not_after.isoformat() if certificate else None,
        "days_left": (certificate.not_after - moment).days if certificate else None,
        "renew_at": item.renew_at.isoformat() if item.renew_at else None,
        "reason": item.reason,
        "problem": item.problem,
    }
