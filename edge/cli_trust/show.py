"""Roots, and what was done with them, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import printable

if TYPE_CHECKING:
    from edge_certs.trust.store import Addition, Anchor


def describe_anchor(anchor: Anchor) -> dict[str, Any]:
    """Return a root as JSON shows it, with what is wrong with it now."""
    from edge_certs.trust.defects import find_defects

    certificate = anchor.certificate
    now = datetime.now(UTC)
    defects = find_defects(certificate, now)
    return {
        "label": anchor.label,
        "sha256": anchor.sha256,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "days_left": (certificate.not_valid_after_utc - now).days,
        "added_at": anchor.added_at.isoformat(),
        "forced": anchor.forced,
        "defects": [{"code": item.code, "severity": item.severity.value, "text": item.text} for item in defects],
    }


def print_additions(additions: Sequence[Addition], *, dry_run: bool) -> None:
    """Print each root, whether it is new, and every defect."""
    for item in additions:
        certificate = item.anchor.certificate
        verb = ("would add" if dry_run else "added") if item.is_new else "unchanged:"
        click.echo(f"{verb} {subject(item.anchor)} (label {item.anchor.label!r})")
        click.echo(f"  issuer  {printable(certificate.issuer.rfc4514_string())}")
        click.echo(f"  valid   {certificate.not_valid_before_utc.date()} to {certificate.not_valid_after_utc.date()}")
        click.echo(f"  sha256  {item.anchor.sha256}")
        for defect in item.defects:
            click.echo(f"  {defect.severity.value:7} {defect.text}")


def subject(anchor: Anchor) -> str:
    """Return whose root it is, fit for a terminal."""
    return printable(anchor.certificate.subject.rfc4514_string())
