"""`edge cert inspect`: what is the matter with a chain, in a file or on a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_cert.output import explained, home, json_option, named, now, print_json, printable, show_left
from edge.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from edge_certs.inspection import Facts, Finding, Inspection, Presented

_TARGET = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s/:\[\]]+):(?P<port>[0-9]{1,5})")


@click.command("inspect")
@click.argument("target", metavar="FILE|HOST:PORT")
@click.option("--key", "key_file", metavar="FILE", help="Private key of the file [default: beside it, or inside it]")
@click.option("--name", metavar="HOST", help="Name that clients ask for [default: of a file none, of a server HOST]")
@json_option
def inspect_command(target: str, key_file: str | None, name: str | None, as_json: bool) -> int:
    """Explain a certificate chain: order, names, dates, keys, roots, and why a client would refuse it.

    Exit code 0: no client refuses it. 1: some client would. 2: it cannot be read.
    """
    from edge_certs.inspection import Finding, Severity, inspect_chain
    from edge_certs.known_roots import read_known_roots

    with explained():
        known = read_known_roots(home())
    extra: list[Finding] = []
    if not Path(target).exists() and (address := _TARGET.fullmatch(target)):
        presented, heading, verdict = _from_server(address, name, known.pem)
        if verdict:
            extra = [Finding(Severity.REFUSED, "openssl", f"OpenSSL with the roots of this machine says: {verdict}")]
    else:
        presented, heading = _from_file(Path(target), key_file, name), target
    with named():
        inspection = inspect_chain(presented, known.roots, now())
    findings = [*inspection.findings, *extra]
    refused = inspection.is_refused or bool(extra)
    if as_json:
        print_json(_encode(heading, inspection, findings, refused=refused))
    else:
        _show(heading, inspection, findings)
    return int(refused)


def _from_server(address: re.Match[str], name: str | None, bundle: str) -> tuple[Presented, str, str]:
    from edge_certs.inspection import Presented
    from edge_certs.peer import look_at

    host, port = address["host"].strip("[]"), int(address["port"])
    if not 0 < port < 65536:
        raise ConfigError(f"{address[0]!r}: no such port; use HOST:PORT with a port from 1 to 65535")
    with explained():
        peer = look_at(host, port, name or host, bundle)
    heading = f"{address[0]}  {peer.version} {peer.cipher}"
    return Presented(peer.certificates, name or host), heading, peer.verdict


def _from_file(path: Path, key_file: str | None, name: str | None) -> Presented:
    from edge_certs.errors import naming, place
    from edge_certs.files import read_file
    from edge_certs.inspection import Presented
    from edge_certs.x509 import parse_chain

    with named():
        content = read_file(path, "certificate")
        with naming(f"certificate {place(path)}"):
            chain = parse_chain(content)
        return Presented(tuple(chain), name, _public_key(path, key_file))


def _public_key(path: Path, key_file: str | None) -> PublicKeyTypes | None:
    """The key that was named has to be there; one beside the certificate need not be."""
    from edge_certs.errors import CertificateError, naming, place
    from edge_certs.files import find_key, read_file
    from edge_certs.x509 import parse_key

    try:
        key_path = Path(key_file) if key_file else find_key(path)
    except CertificateError:
        return None
    content = read_file(key_path, "key")
    with naming(f"key {place(key_path)}"):
        return parse_key(content)[0].public_key()


def _show(heading: str, inspection: Inspection, findings: list[Finding]) -> None:
    click.echo(printable(heading))
    for number, facts in enumerate(inspection.facts, 1):
        click.echo(f"{number}  {printable(facts.subject)}")
        for label, text in _rows(facts):
            click.echo(f"   {label:<11}{printable(text)}")
    click.echo(printable(f"path  {' < '.join(inspection.path)}"))
    for finding in findings:
        click.echo(f"{finding.severity.value:<9}{printable(finding.text)}")


def _rows(facts: Facts) -> list[tuple[str, str]]:
    dates = f"{facts.not_before.date()} to {facts.not_after.date()} ({_left(facts)})"
    rows = [
        ("names", ", ".join(facts.names)),
        ("issuer", facts.issuer),
        ("valid", dates),
        ("key", f"{facts.key}, signed with {facts.signature}"),
        ("sha256", facts.sha256),
    ]
    if not facts.is_authority:
        rows.append(("timestamps", f"{facts.scts} of certificate transparency"))
    return [row for row in rows if row[1]]


def _left(facts: Facts) -> str:
    moment = now()
    left = show_left(facts.not_after, moment)
    return left if facts.not_after < moment else f"{left} left"


def _encode(heading: str, inspection: Inspection, findings: list[Finding], *, refused: bool) -> dict[str, Any]:
    return {
        "target": heading.partition("  ")[0],
        "refused": refused,
        "path": list(inspection.path),
        "certificates": [_encode_facts(facts) for facts in inspection.facts],
        "findings": [{"severity": f.severity.value, "code": f.code, "text": f.text} for f in findings],
    }


def _encode_facts(facts: Facts) -> dict[str, Any]:
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": list(facts.names),
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
        "serial": facts.serial,
        "sha256": facts.sha256,
        "key": facts.key,
        "signature": facts.signature,
        "is_authority": facts.is_authority,
        "scts": facts.scts,
        "must_staple": facts.must_staple,
        "issuer_urls": list(facts.issuer_urls),
    }
