"""`edge trust add`, `remove` and `list`: which roots there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import explained, json_option, open_store, print_json, print_table, printable
from edge.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

    from edge_certs.trust.store import Addition, Anchor

_dry_option = click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done")


@click.command("add")
@click.argument("file")
@click.option("--label", help="Name to remove it by [default: the file's name]")
@click.option("--fingerprint", help="SHA-256 that one of the certificates must have")
@click.option("--force", default="", metavar="REASON", help="Add it in spite of what is wrong with it")
@_dry_option
@json_option
def add_command(file: str, label: str | None, fingerprint: str | None, force: str, dry_run: bool, as_json: bool) -> int:
    """Trust the root certificates in FILE, or in standard input for '-': PEM, DER or PKCS#7."""
    from edge_certs.trust.anchors import parse_anchors

    content = _content(file)
    with explained():
        store = open_store()
        with _naming(file):
            certificates = parse_anchors(content)
            _check_fingerprint(certificates, fingerprint)
            now = datetime.now(UTC).replace(microsecond=0)
            change = store.plan if dry_run else store.add
            additions = change(certificates, label or _label(file), now, force)
        if not dry_run:
            _refresh()
    _show_additions(additions, dry_run=dry_run, as_json=as_json)
    return 0


@click.command("remove")
@click.argument("name", metavar="LABEL|FINGERPRINT")
@_dry_option
@json_option
def remove_command(name: str, dry_run: bool, as_json: bool) -> int:
    """Remove the roots that were added with this label, or the one with this SHA-256."""
    with explained():
        store = open_store()
        removed = store.select(name) if dry_run else store.remove(name)
        if not dry_run:
            _refresh()
    verb = "would remove" if dry_run else "removed"
    if as_json:
        print_json({"removed": [_described(anchor) for anchor in removed], "dry_run": dry_run})
        return 0
    for anchor in removed:
        click.echo(f"{verb} {_subject(anchor)} (label {anchor.label!r}, sha256:{anchor.sha256})")
    if not removed:
        click.echo(f"unchanged: no root is called {name!r}; see edge trust list")
    return 0


@click.command("list")
@json_option
def list_command(as_json: bool) -> int:
    """List the roots that were added, and what is wrong with each."""
    with explained():
        anchors = open_store().anchors()
    if as_json:
        print_json({"anchors": [_described(anchor) for anchor in anchors]})
    elif not anchors:
        click.echo("no root was added; add one with: edge trust add FILE")
    else:
        _print_table(anchors)
    return 0


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Say which file was refused, and go on saying that it was refused."""
    from edge_certs.errors import place
    from edge_certs.trust.anchors import AnchorRefused

    try:
        yield
    except AnchorRefused as error:
        subject = "standard input" if file == "-" else place(file)
        raise AnchorRefused(f"{subject}: {error.found}", error.advice) from error


def _content(file: str) -> bytes:
    """Return what is to be added. That it cannot be read is the command's fault, as a wrong name is."""
    from edge_certs.errors import CertificateError
    from edge_certs.files import MAX_FILE_SIZE, read_file

    if file != "-":
        try:
            return read_file(Path(file), "root certificate")
        except CertificateError as error:
            raise ConfigError(str(error)) from error
    content = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
    if len(content) > MAX_FILE_SIZE:
        raise ConfigError(f"standard input: more than {MAX_FILE_SIZE} bytes; give the root certificate alone")
    return content


def _check_fingerprint(certificates: Sequence[x509.Certificate], wanted: str | None) -> None:
    from edge_certs.trust.anchors import AnchorRefused, fingerprint
    from edge_certs.trust.store import normal_fingerprint

    if wanted is None:
        return
    if len(normal_fingerprint(wanted)) != 64:
        raise ConfigError(f"--fingerprint {wanted!r}: not a SHA-256; give its 64 hexadecimal digits")
    found = [fingerprint(certificate) for certificate in certificates]
    if found != [normal_fingerprint(wanted)]:
        raise AnchorRefused(
            f"its SHA-256 is {' and '.join(found)}, not the one of --fingerprint",
            "ask whoever gave you the fingerprint; this may be another's certificate",
        )


def _label(file: str) -> str:
    return "stdin" if file == "-" else Path(file).stem


def _refresh() -> None:
    """Let whatever names a bundle already see the change; also after a change whose refresh was interrupted."""
    from edge_certs.files import edge_home
    from edge_certs.trust.variables import refresh_bundles

    refresh_bundles(edge_home(os.environ))


def _show_additions(additions: Sequence[Addition], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        rows = [{**_described(item.anchor), "added": item.is_new and not dry_run} for item in additions]
        print_json({"anchors": rows, "dry_run": dry_run})
        return
    for item in additions:
        certificate = item.anchor.certificate
        verb = ("would add" if dry_run else "added") if item.is_new else "unchanged:"
        click.echo(f"{verb} {_subject(item.anchor)} (label {item.anchor.label!r})")
        click.echo(f"  issuer  {printable(certificate.issuer.rfc4514_string())}")
        click.echo(f"  valid   {certificate.not_valid_before_utc.date()} to {certificate.not_valid_after_utc.date()}")
        click.echo(f"  sha256  {item.anchor.sha256}")
        for defect in item.defects:
            click.echo(f"  {defect.severity.value:7} {defect.text}")


def _described(anchor: Anchor) -> dict[str, Any]:
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


def _print_table(anchors: Sequence[Anchor]) -> None:
    rows = []
    for row in map(_described, anchors):
        wrong = ", ".join(item["code"] for item in row["defects"] if item["severity"] != "remark") or "nothing"
        rows.append((row["label"], row["subject"], str(row["days_left"]), row["sha256"][:16], wrong))
    print_table(("label", "subject", "days left", "sha256", "wrong with it"), rows)


def _subject(anchor: Anchor) -> str:
    return printable(anchor.certificate.subject.rfc4514_string())
