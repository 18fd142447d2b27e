"""`edge trust detect`: who signed what a server presents, and where that root can be had."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli_trust.chain import FILE, described, lacks_root, next_commands, open_route, print_next, print_server
from edge.cli_trust.output import explained, json_option, print_json
from edge.errors import EdgeError

if TYPE_CHECKING:
    from cryptography import x509

    from edge_certs.trust.inspection import Inspection


@click.command("detect")
@click.argument("target", metavar="HOST|HOST:PORT|URL")
@click.option("--save", metavar="FILE", help="Write the root there as PEM")
@click.option("--pem", "as_pem", is_flag=True, help="Print the root as PEM and nothing else")
@json_option
def detect_command(target: str, save: str | None, as_pem: bool, as_json: bool) -> int:
    """Show the chain that a server presents and whether somebody intercepts it. Nothing is trusted by it."""
    from edge_certs.files import edge_home, write_public
    from edge_certs.trust.inspection import inspect

    route = open_route(target)
    with explained():
        inspection = inspect(route, edge_home(os.environ), os.environ)
        certificate = inspection.root.certificate
        if certificate is None and (save is not None or as_pem):
            raise EdgeError(
                f"{route.target}: root {inspection.root.name!r} is neither presented nor on this machine; "
                "ask your IT department for it"
            )
        if certificate is not None and save is not None:
            write_public(Path(save), _pem(certificate))
    if as_pem and certificate is not None:
        click.echo(_pem(certificate), nl=False)
    elif as_json:
        print_json({**described(inspection), "saved": save, "next": _commands(inspection, save)})
    else:
        print_server(inspection)
        if next_commands(inspection):
            click.echo("compare the SHA-256 with the one that your IT department publishes")
        print_next(inspection, _commands(inspection, save))
    return 0


def _commands(inspection: Inspection, save: str | None) -> list[str]:
    if lacks_root(inspection) and inspection.trusted.code == 0:
        return [f"edge trust check {shlex.quote(str(inspection.route.target))}"]
    commands = next_commands(inspection)
    return commands if save is None else [command.replace(FILE, shlex.quote(save)) for command in commands[1:]]


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)
