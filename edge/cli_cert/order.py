"""`edge cert issue` and `edge cert renew`: certificates from an authority, now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from edge.cli_cert.authority import (
    account_options,
    authority_of,
    authority_options,
    keeper_settings,
    open_keeper,
    read_settings,
    with_names,
)
from edge.cli_cert.output import (
    dry_option,
    explained,
    home,
    json_option,
    named,
    now,
    print_json,
    printable,
    run_async,
    show_left,
)
from edge.cli_cert.progress import Reporter, showing_progress
from edge.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from edge_certs.demand import Answer
    from edge_certs.keeper import Keeper
    from edge_certs.renewal import Renewal
    from edge_certs.settings import KeeperSettings
    from edge_certs.state import Issuance

# RFC 5280 section 5.3.1, as far as section 7.2.2 of the Baseline Requirements lets a subscriber say it.
REASONS = {"unspecified": 0, "key-compromise": 1, "affiliation-changed": 3, "superseded": 4, "cessation": 5}

_PORTS = (
    click.option("--http-port", type=click.IntRange(1, 65535), default=80, help="Where http-01 arrives [default: 80]"),
    click.option(
        "--tls-port", type=click.IntRange(1, 65535), default=443, help="Where tls-alpn-01 does [default: 443]"
    ),
)


def port_options(command: Any) -> Any:
    """Give a command the ports at which challenges arrive."""
    for option in reversed(_PORTS):
        command = option(command)
    return command


@click.command("issue")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--force", is_flag=True, help="Order one though there is one, or though an attempt has just failed")
@authority_options()
@port_options
@dry_option
@json_option
def issue_command(
    names: tuple[str, ...], force: bool, http_port: int, tls_port: int, dry_run: bool, as_json: bool, **given: Any
) -> int:
    """Get one certificate for all NAMEs, unless there is one that will do.

    Challenges are answered by this command on ports 80 and 443, or by an edge serve --acme that has them.
    """
    words = [word for name in names for word in name.split(",") if word]
    settings = keeper_settings(with_names(read_settings(given), words))
    [issuance] = settings.certificates
    if dry_run:
        return _show_plans([(settings, issuance)], as_json=as_json)
    with explained(), showing_progress(is_quiet=as_json) as reporter:
        keeper = open_keeper(settings, report=reporter.report)
        answer = run_async(_demand(keeper, issuance, (http_port, tls_port), force=force))
    _show([answer], as_json=as_json)
    return 0


@click.command("renew")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--force", is_flag=True, help="Renew now, though it is not time or an attempt has just failed")
@click.option(
    "--reason", type=click.Choice(sorted(REASONS)), help="Revoke the old one for this reason; implies --force"
)
@account_options()
@port_options
@dry_option
@json_option
def renew_command(
    names: tuple[str, ...],
    force: bool,
    reason: str | None,
    http_port: int,
    tls_port: int,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Renew the certificates called NAME, or all of them, when it is time; edge serve --acme does that by itself.

    A new certificate always has a new key. They are ordered as they were the first time.
    """
    settings = read_settings(given)
    with explained():
        issuances, failed = _issuances(names)
    wanted = [(keeper_settings(authority_of(settings, issuance)), issuance) for issuance in issuances]
    if dry_run:
        return _show_plans(wanted, as_json=as_json) or int(failed)
    renewing = _Renewing((http_port, tls_port), force or reason is not None, reason)
    answers: list[Answer] = []
    with showing_progress(is_quiet=as_json) as reporter:
        for keeper_options, issuance in wanted:
            try:
                answers.append(renewing.run(keeper_options, issuance, reporter))
            except EdgeError as error:
                # One that cannot be renewed leaves the others to be.
                click.echo(f"edge: {error}", err=True)
                failed = True
    _show(answers, as_json=as_json)
    if not wanted and not failed and not as_json:
        click.echo("no certificate of an authority in the storage; get one with: edge cert issue NAME")
    return int(failed)


@dataclass(frozen=True, slots=True)
class _Renewing:
    """How certificates are renewed: at which ports, at once or when it is time, and why the old one is revoked."""

    ports: tuple[int, int]
    is_forced: bool
    reason: str | None

    def run(self, settings: KeeperSettings, issuance: Issuance, reporter: Reporter) -> Answer:
        """Return what became of it. Raises EdgeError: there is no new one though there should be."""
        with explained():
            keeper = open_keeper(settings, report=reporter.report)
            old = keeper.storage.lineage(issuance.names[0]).current()
            answer = run_async(_demand(keeper, issuance, self.ports, force=self.is_forced))
            if self.reason is not None and old is not None:
                run_async(_revoke_old(keeper, issuance, old.chain_pem, REASONS[self.reason]))
        return answer


async def _demand(keeper: Keeper, issuance: Issuance, ports: tuple[int, int], *, force: bool) -> Answer:
    from edge_certs.demand import Demand
    from edge_certs.standalone import Ports

    demand = Demand(keeper, Ports(*ports))
    return await (demand.renew_now(issuance) if force else demand.ensure(issuance))


async def _revoke_old(keeper: Keeper, issuance: Issuance, chain_pem: bytes, reason: int) -> None:
    from edge_certs.x509 import parse_chain

    async with keeper.issuer.client(issuance.directory) as client:
        await client.revoke(parse_chain(chain_pem)[0], reason)


def _issuances(names: Sequence[str]) -> tuple[list[Issuance], bool]:
    """How those with `names`, or all that came from an authority, were asked for; and whether that of one is lost.

    What is damaged is said at once: it leaves the others to be.
    """
    from edge_certs.csr import parse_name
    from edge_certs.errors import CertificateError
    from edge_certs.storage import Storage

    storage = Storage(home())
    with named():
        lineages = [storage.lineage(parse_name(name)) for name in names] or storage.lineages()
    found, failed = [], False
    for lineage in lineages:
        try:
            state = lineage.state()
        except CertificateError as error:
            click.echo(f"edge: {lineage.name}: {error}", err=True)
            failed = True
            continue
        if state is not None:
            found.append(state.issuance)
        elif names:
            raise ConfigError(f"{lineage.name}: not a certificate of an authority; order it with: edge cert issue NAME")
    return found, failed


def _show_plans(wanted: Sequence[tuple[KeeperSettings, Issuance]], *, as_json: bool) -> int:
    with explained():
        plans = [(issuance, _plan(settings, issuance)) for settings, issuance in wanted]
    # To the microsecond, and after the plans: what is due at once is due now.
    moment = datetime.now(UTC)
    if as_json:
        print_json({"certificates": [_encode_plan(*plan, moment) for plan in plans], "dry_run": True})
        return 0
    for issuance, renewal in plans:
        verb = "would order" if renewal.at <= moment else f"would leave, until {renewal.at:%Y-%m-%dT%H:%MZ},"
        names, kinds = ", ".join(issuance.names), ", ".join(issuance.kinds)
        click.echo(printable(f"{verb} {names} from {issuance.directory} by {kinds}: {renewal.reason}"))
    return 0


def _plan(settings: KeeperSettings, issuance: Issuance) -> Renewal:
    """What an order would be decided by; no folder is made and nobody is asked."""
    from edge_certs.acme_client import utc_now
    from edge_certs.demand import Demand
    from edge_certs.issuance import Issuer
    from edge_certs.keeper import Keeper
    from edge_certs.standalone import Ports
    from edge_certs.storage import Storage

    storage = Storage(settings.home)
    return Demand(Keeper(storage, Issuer(storage, settings.authority), utc_now), Ports()).plan(issuance)


def _encode_plan(issuance: Issuance, renewal: Renewal, moment: datetime) -> dict[str, Any]:
    return {
        "names": list(issuance.names),
        "directory": issuance.directory,
        "challenges": list(issuance.kinds),
        "order": renewal.at <= moment,
        "at": renewal.at.isoformat(),
        "reason": renewal.reason,
    }


def _show(answers: Sequence[Answer], *, as_json: bool) -> None:
    moment = now()
    if as_json:
        print_json({"certificates": [_encode(answer) for answer in answers], "dry_run": False})
        return
    for answer in answers:
        certificate, state = answer.certificate, answer.state
        left = show_left(certificate.not_after, moment)
        click.echo(printable(f"{answer.outcome.value}: {', '.join(certificate.names)}, {left} left"))
        click.echo(printable(f"  {answer.path}"))
        if state is not None and state.next_at is not None:
            click.echo(printable(f"  next renewal in {show_left(state.next_at, moment)}: {state.reason}"))


def _encode(answer: Answer) -> dict[str, Any]:
    certificate, state = answer.certificate, answer.state
    return {
        "outcome": answer.outcome.value,
        "names": list(certificate.names),
        "file": str(answer.path),
        "fingerprint": certificate.fingerprint,
        "not_after": certificate.not_after.isoformat(),
        "renew_at": state.next_at.isoformat() if state is not None and state.next_at is not None else None,
        "reason": state.reason if state is not None else "",
    }
