"""`edge cert revoke` and `edge cert rollover`: what only the owner of an account, or of a key, may do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_cert.authority import account_options, keeper_settings, open_keeper, read_settings
from edge.cli_cert.order import REASONS
from edge.cli_cert.output import dry_option, explained, home, json_option, named, now, print_json, printable, run_async
from edge.config_acme import AcmeSettings

if TYPE_CHECKING:
    from edge_certs.storage import Lineage
    from edge_certs.x509 import Certificate


@click.command("revoke")
@click.argument("name", metavar="NAME|FILE")
@click.option("--reason", type=click.Choice(sorted(REASONS)), default="unspecified", help="Why [default: unspecified]")
@click.option("--key", "key_file", metavar="FILE", help="Private key of the file [default: beside it, or inside it]")
@click.option("--delete", is_flag=True, help="Remove it from the storage, too")
@account_options()
@dry_option
@json_option
def revoke_command(
    name: str, reason: str, key_file: str | None, delete: bool, dry_run: bool, as_json: bool, **given: Any
) -> int:
    """Revoke the certificate called NAME by the account that ordered it, or the one in FILE by its own key."""
    settings = read_settings(given)
    with named():
        lineage, certificate = _certificate(name, key_file)
    with explained():
        state = lineage.state() if lineage is not None else None
    if state is not None:
        settings = _at(settings, state.origin or state.issuance.directory)
    by_account = state is not None and state.origin != ""
    if not dry_run:
        with explained():
            keeper = open_keeper(keeper_settings(settings))
            run_async(_revoke(keeper, settings.directory, certificate, REASONS[reason], by_account=by_account))
            if delete and lineage is not None:
                lineage.remove()
    signer = "the account" if by_account else "its own key"
    if as_json:
        row = {"names": list(certificate.names), "fingerprint": certificate.fingerprint, "reason": reason}
        print_json({**row, "by": signer, "directory": settings.directory, "dry_run": dry_run})
        return 0
    verb = "would revoke" if dry_run else "revoked"
    click.echo(printable(f"{verb} {', '.join(certificate.names)} (sha256:{certificate.fingerprint}) by {signer}"))
    if lineage is not None and not delete and not dry_run:
        click.echo(printable(f"it serves still; replace it: edge cert renew {lineage.name} --force"))
    return 0


async def _revoke(keeper: Any, directory: str, certificate: Certificate, reason: int, *, by_account: bool) -> None:
    from edge_certs.jws import AccountKey
    from edge_certs.x509 import parse_chain

    key = None if by_account else AccountKey.parse(certificate.key_pem)
    async with keeper.issuer.client(directory) as client:
        await client.revoke(parse_chain(certificate.chain_pem)[0], reason, key)


@click.command("rollover")
@account_options()
@dry_option
@json_option
def rollover_command(dry_run: bool, as_json: bool, **given: Any) -> int:
    """Give the account at the authority another key."""
    from edge_certs.rollover import roll_over
    from edge_certs.storage import Storage

    settings = read_settings(given)
    with explained():
        account = Storage(home()).authority(settings.directory).account()
        if account is None or not dry_run:
            keeper = open_keeper(keeper_settings(settings))
            account = run_async(roll_over(keeper.issuer, settings.directory))
    if as_json:
        print_json({"account": account.url, "directory": settings.directory, "dry_run": dry_run})
    else:
        click.echo(printable(f"{'would change' if dry_run else 'changed'} the key of account {account.url}"))
    return 0


def _certificate(name: str, key_file: str | None) -> tuple[Lineage | None, Certificate]:
    from edge_certs.csr import parse_name
    from edge_certs.errors import CertificateError
    from edge_certs.storage import Storage
    from edge_certs.x509 import read_certificate

    if Path(name).is_file():
        return None, read_certificate(Path(name), Path(key_file) if key_file else None, now())
    lineage = Storage(home()).lineage(parse_name(name))
    certificate = lineage.current()
    if certificate is None:
        raise CertificateError(f"certificate {name!r}: neither in the storage nor a file", "see edge cert list")
    return lineage, certificate


def _at(settings: AcmeSettings, directory: str) -> AcmeSettings:
    from dataclasses import replace

    return replace(settings, directory=directory, staging="")
