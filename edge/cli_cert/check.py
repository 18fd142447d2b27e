"""`edge cert check`: whether an order would succeed, before one is spent on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from edge.cli_cert.authority import authority_options, keeper_settings, open_keeper, read_settings, with_names
from edge.cli_cert.order import port_options
from edge.cli_cert.output import explained, json_option, print_json, printable, run_async
from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge_certs.names import Resolver
    from edge_certs.preflight import Check, Preflight


_RESOLVER = re.compile(r"(?:\[(?P<inner>[^\]]+)\]|(?P<plain>[^:]+)):(?P<port>[0-9]{1,5})")


@click.command("check")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--resolver", metavar="ADDRESS[:PORT]", help="Name server to ask [default: this machine's]")
@authority_options()
@port_options
@json_option
def check_command(
    names: tuple[str, ...], resolver: str | None, http_port: int, tls_port: int, as_json: bool, **given: Any
) -> int:
    """Look at what an order for NAMEs needs: DNS, CAA, ports 80 and 443 with a nonce, the clock, the authority, limits.

    Exit code 0: nothing stands against it. 1: something does.
    """
    from edge_certs.preflight import Preflight, is_ready
    from edge_certs.standalone import Ports

    words = [word for name in names for word in name.split(",") if word]
    settings = keeper_settings(with_names(read_settings(given), words))
    [issuance] = settings.certificates
    with explained():
        issuer = open_keeper(settings).issuer
        preflight = Preflight(issuer, issuance, _resolver(resolver), Ports(http_port, tls_port))
        checks = run_async(_run(preflight, is_quiet=as_json))
    ready = is_ready(checks)
    if as_json:
        rows = [{"verdict": item.verdict.value, "subject": item.subject, "text": item.text} for item in checks]
        print_json({"ready": ready, "checks": rows})
    return int(not ready)


async def _run(preflight: Preflight, *, is_quiet: bool) -> list[Check]:
    """Show each as soon as it is done: some take their time."""
    checks = []
    async for check in preflight.run():
        checks.append(check)
        if not is_quiet:
            click.echo(f"{check.verdict.value:<8} {printable(check.subject)}: {printable(check.text)}")
    return checks


def _resolver(text: str | None) -> Resolver:
    from ipaddress import ip_address

    from edge_certs.names import Resolver

    if text is None:
        return Resolver()
    match = _RESOLVER.fullmatch(text)
    try:
        address = str(ip_address(match["inner"] or match["plain"] if match else text))
        number = int(match["port"]) if match else 53
    except ValueError:
        raise ConfigError(f"--resolver {text!r}: not an address; use ADDRESS or ADDRESS:PORT") from None
    return Resolver(address, number)
