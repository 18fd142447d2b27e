"""Which authority a command means: the options of `edge serve --acme`, without the `acme-`, and its variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge.cli_cert.output import home, named
from edge.config_acme import AcmeSettings, refuse_acme_contradictions
from edge.errors import ConfigError
from edge.options import Option, options_of

if TYPE_CHECKING:
    from edge_certs.keeper import Keeper
    from edge_certs.settings import KeeperSettings
    from edge_certs.state import Issuance

_Command = TypeVar("_Command", bound=Callable[..., Any])

# Below these the names of the certificates stand; there is a field for each of the others.
_NAMES = "certificates"
# What says who we are and how to get there; the rest is how a certificate is asked for, and is kept with it.
_ACCOUNT = ("email", "directory", "staging", "eab_kid", "eab_key", "ca_root")


def _options(names: Sequence[str]) -> dict[str, Option]:
    return {item.name: options_of(item)[0] for item in fields(AcmeSettings) if item.name in names}


ALL = tuple(item.name for item in fields(AcmeSettings) if item.name != _NAMES)


def authority_options(names: Sequence[str] = ALL) -> Callable[[_Command], _Command]:
    """Return a decorator that gives a command the options for these fields; see `read_settings`."""

    def decorate(command: _Command) -> _Command:
        for name, option in reversed(_options(names).items()):
            short = "--" + option.flags[0].removeprefix("--acme-")
            declaration = click.option(
                short,
                *option.flags,
                f"acme_{name}",
                multiple=option.kind.repeat,
                metavar=option.kind.metavar,
                help=f"{option.help} [default: {option.shown}]",
            )
            command = declaration(command)
        if "directory" in names:
            staging = click.option("--staging", "is_staging", is_flag=True, help="Use its staging environment")
            command = staging(command)
        return command

    return decorate


def account_options() -> Callable[[_Command], _Command]:
    """Return a decorator for commands that only need the account."""
    return authority_options(_ACCOUNT)


def read_settings(given: Mapping[str, Any]) -> AcmeSettings:
    """Return the settings from a command's options, and from `EDGE_ACME_*` for those that were not given.

    Raises ConfigError: a value cannot be.
    """
    values: dict[str, Any] = {}
    for name, option in _options(ALL).items():
        spelled, value = _given(given, name, option)
        if value is None:
            continue
        try:
            values[name] = option.kind.parse(value)
        except ConfigError as error:
            raise ConfigError(f"{spelled}{error}") from error
    settings = AcmeSettings(**values)
    return _rehearsing(settings) if given.get("is_staging") else settings


def with_names(settings: AcmeSettings, names: Sequence[str]) -> AcmeSettings:
    """Return `settings` for one certificate with these names.

    Raises ConfigError: they contradict each other, as a wildcard without a DNS challenge does.
    """
    wanted = replace(settings, certificates=(tuple(names),))
    spelled = {
        "acme": names[0],
        "acme_challenge": "--challenge",
        "acme_eab_kid": "--eab-kid",
        "acme_eab_key": "--eab-key",
    }
    refuse_acme_contradictions(spelled, {}, wanted)
    return wanted


def keeper_settings(settings: AcmeSettings) -> KeeperSettings:
    """Return what gets certificates with `settings` has to know.

    Raises ConfigError: a name, a file or a URL in them cannot be.
    """
    from edge.acme import keeper_settings as make

    with named():
        return make(settings, home(), "info")


def open_keeper(settings: KeeperSettings, **hooks: Any) -> Keeper:
    """Return what gets certificates by `settings`; `hooks` are the `Issuer`'s.

    Raises CertificateError: the folder cannot be used.
    """
    from edge_certs.acme_client import utc_now
    from edge_certs.issuance import Issuer
    from edge_certs.keeper import Keeper
    from edge_certs.storage import Storage

    storage = Storage(settings.home)
    storage.check()
    return Keeper(storage, Issuer(storage, settings.authority, **hooks), utc_now)


def authority_of(settings: AcmeSettings, issuance: Issuance) -> AcmeSettings:
    """Return `settings` with the authority that `issuance` is from: a renewal asks where the first one was got."""
    if settings.directory == issuance.directory:
        return settings
    return replace(settings, directory=issuance.directory, staging="")


def _given(given: Mapping[str, Any], name: str, option: Option) -> tuple[str, Any]:
    value = given.get(f"acme_{name}")
    if value not in (None, ()):
        return f"--{option.flags[0].removeprefix('--acme-')} ", value
    for variable in option.variables:
        if text := os.environ.get(variable):
            return f"{variable}=", text.replace(",", " ").split() if option.kind.repeat else text
    return "", None


def _rehearsing(settings: AcmeSettings) -> AcmeSettings:
    from edge_certs.ledger import staging_of

    staging = settings.staging or staging_of(settings.directory)
    if not staging:
        raise ConfigError(
            f"--staging: no staging environment of {settings.directory} is known; name it with --staging-directory"
        )
    return replace(settings, directory=staging, staging="")
