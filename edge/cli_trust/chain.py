"""What `check` and `detect` have in common: the way to a server, and its chain on the screen."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import printable
from edge.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

    from edge_certs.trust.handshake import Route
    from edge_certs.trust.inspection import Inspection

# What a verdict of `edge_certs.trust.verdict` means to whoever reads it.
MEANINGS = {
    "public": "a public authority signed this, nobody intercepts it",
    "intercepted": "the name is public and no public authority signed this: somebody between here and there did",
    "private": "no public authority signs such a name; a company or a developer did",
    "defective": "no client takes this certificate, whatever its roots",
}
# Verdicts that a root which is added changes.
UNSIGNED = ("intercepted", "private")
FILE = "corp-root.pem"


def open_route(target: str) -> Route:
    """Return the way to what the user named, through the proxy that variables name.

    Raises ConfigError: the target or the variable is wrong.
    """
    from edge_certs.errors import CertificateError
    from edge_certs.trust.handshake import Route
    from edge_certs.trust.target import choose_proxy, parse_target

    try:
        parsed = parse_target(target)
        return Route(parsed, choose_proxy(parsed, os.environ))
    except CertificateError as error:
        raise ConfigError(str(error)) from error


def described(inspection: Inspection) -> dict[str, Any]:
    """Return the inspection as JSON has it."""
    root, route = inspection.root, inspection.route
    return {
        "target": str(route.target),
        "proxy": str(route.proxy) if route.proxy else None,
        "verdict": inspection.verdict.value,
        "chain": [_certificate(item) for item in inspection.chain],
        "root": {
            "subject": root.name,
            "sha256": _sha256(root.certificate) if root.certificate else None,
            "found_in": root.found_in,
            "issuer_urls": list(root.issuer_urls),
        },
        "public_roots": inspection.public.text or "accepted",
        "edge_roots": inspection.trusted.text or "accepted",
        "python_3_13": inspection.strict.text or "accepted",
    }


def print_server(inspection: Inspection) -> None:
    """Print who was called, the verdict, the chain, and what edge's roots make of it."""
    route, root = inspection.route, inspection.root
    click.echo(f"{route.target} {f'through proxy {route.proxy}' if route.proxy else 'without a proxy'}")
    defect = f" ({inspection.public.text})" if inspection.verdict.value == "defective" else ""
    click.echo(f"{inspection.verdict.value}: {MEANINGS[inspection.verdict.value]}{defect}")
    for certificate in inspection.chain:
        click.echo(f"  {_name(certificate)}, valid to {certificate.not_valid_after_utc.date()}")
    click.echo(f"root {printable(root.name)}")
    if root.certificate is not None:
        click.echo(f"  sha256  {_sha256(root.certificate)}")
    click.echo(f"  where   {root.found_in or 'neither presented nor on this machine'}")
    for text in _refusals(root.certificate):
        click.echo(f"  refuses {text}")
    for url in root.issuer_urls if root.certificate is None else ():
        click.echo(f"  where   the certificate says: {printable(url)}")
    click.echo(f"edge's roots: {inspection.trusted.text or 'accepted'}")
    if inspection.trusted.code == 0 and inspection.strict.code:
        click.echo(f"Python 3.13 and later: {inspection.strict.text}; whoever signs these certificates has to mend it")


def print_next(inspection: Inspection, commands: Sequence[str]) -> None:
    """Print what to do next: `commands`, or whom to ask when nobody here has the root."""
    if inspection.root.certificate is None and not commands and lacks_root(inspection):
        click.echo(f"next: ask your IT department for {printable(inspection.root.name)}, then: edge trust add FILE")
    for command in commands:
        click.echo(f"next: {command}")


def lacks_root(inspection: Inspection) -> bool:
    """Return whether those who know only public roots refuse the server for its root, and for nothing else."""
    return inspection.verdict.value in UNSIGNED


def next_commands(inspection: Inspection) -> list[str]:
    """Return the commands that make edge trust the server's root; none when it does, or nobody has the root."""
    root = inspection.root
    if inspection.trusted.code == 0 or not lacks_root(inspection):
        return []
    if root.certificate is None or _refusals(root.certificate):
        return []
    return [
        f"edge trust detect {shlex.quote(str(inspection.route.target))} --save {FILE}",
        f"edge trust add {FILE} --fingerprint {_sha256(root.certificate)}",
    ]


def _refusals(root: x509.Certificate | None) -> list[str]:
    """Why `edge trust add` would refuse it: a server that signs for itself is the common one."""
    from edge_certs.trust.defects import Severity, find_defects

    defects = find_defects(root, datetime.now(UTC)) if root is not None else []
    return [defect.text for defect in defects if defect.severity is Severity.REFUSES]


def _certificate(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": _sha256(certificate),
    }


def _name(certificate: x509.Certificate) -> str:
    return printable(certificate.subject.rfc4514_string() or "a certificate without a subject")


def _sha256(certificate: x509.Certificate) -> str:
    from edge_certs.trust.anchors import fingerprint

    return fingerprint(certificate)
