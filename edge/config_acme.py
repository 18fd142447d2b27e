"""The options for certificates that are ordered and renewed; `edge.config` puts them beside the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.errors import ConfigError
from edge.options import (
    certificate_names,
    choice,
    choices,
    command,
    email,
    file,
    https_url,
    setting,
    text,
)

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"

# Each needs another option, or does nothing without --acme.
_NEEDS_NAMES = "it is for nothing without --acme; add --acme NAME"


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """Certificates from an authority, each a tuple of names; without any, nothing is ordered.

    Empty `challenges` are http-01 and tls-alpn-01, and before them dns-01 when there is a `dns_hook`.
    """

    certificates: tuple[tuple[str, ...], ...] = setting(
        (),
        certificate_names(),
        "--acme",
        shown="none",
        help="host name or address to get and renew a certificate for; NAME,NAME shares one; repeatable",
    )
    email: str = setting("", email(), "--acme-email", shown="none", help="where the authority may write to")
    directory: str = setting(
        LETS_ENCRYPT, https_url(), "--acme-directory", shown="Let's Encrypt", help="directory of the authority"
    )
    staging: str = setting(
        "",
        https_url(),
        "--acme-staging-directory",
        shown="Let's Encrypt's for Let's Encrypt",
        help="directory of its staging environment, where an attempt is made after a refusal",
    )
    challenges: tuple[str, ...] = setting(
        (),
        choices("http-01", "tls-alpn-01", "dns-01", "dns-persist-01"),
        "--acme-challenge",
        shown="http-01 and tls-alpn-01; with a hook, dns-01 before them",
        help="how a name is proven, the preferred one first; repeatable",
    )
    dns_hook: str = setting(
        "", command(), "--acme-dns-hook", shown="none", help="command that makes and removes DNS records for dns-01"
    )
    key_type: str = setting(
        "p256", choice("p256", "p384", "rsa2048", "rsa3072", "rsa4096"), "--acme-key-type", help="key of certificates"
    )
    profile: str = setting("", text(), "--acme-profile", shown="the authority's own", help="such as shortlived")
    chain: str = setting(
        "", text(), "--acme-chain", shown="the authority's own", help="part of the name of the root that is preferred"
    )
    eab_kid: str = setting("", text(), "--acme-eab-kid", shown="none", help="key identifier for customers' accounts")
    eab_key: str = setting(
        "",
        text(),
        "--acme-eab-key",
        shown="none",
        help="its MAC key in base64url; better as EDGE_ACME_EAB_KEY",
        is_secret=True,
    )
    ca_root: str = setting(
        "", file(), "--acme-ca-root", shown="trusted roots", help="root in PEM of a private authority's own server"
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The challenges that are set up, the preferred one first."""
        # Whoever gives a hook has a reason: a wildcard, or ports that nobody reaches.
        return self.challenges or (*(("dns-01",) if self.dns_hook else ()), "http-01", "tls-alpn-01")


def refuse_acme_contradictions(names: Mapping[str, str], parsed: Mapping[str, Any], settings: AcmeSettings) -> None:
    """Accept `settings` that make sense together; `names` is how the user spelled each option that was given.

    Raises ConfigError: they do not.
    """
    given = [key for key in names if key.startswith("acme_")]
    if given and not settings.certificates:
        raise ConfigError(f"{names[given[0]]}: {_NEEDS_NAMES}")
    if settings.certificates and parsed.get("dev"):
        raise ConfigError(f"{names['acme']}: {names['dev']} is given too; use one of them")
    if bool(settings.eab_kid) != bool(settings.eab_key):
        key, other = ("acme_eab_kid", "--acme-eab-key") if settings.eab_kid else ("acme_eab_key", "--acme-eab-kid")
        raise ConfigError(f"{names[key]}: there is no {other}; give both, as the authority did")
    if "dns-01" in settings.kinds and not settings.dns_hook:
        raise ConfigError(f"{names['acme_challenge']}: dns-01 needs a command; add --acme-dns-hook")
    wildcards = [name for group in settings.certificates for name in group if name.startswith("*.")]
    if wildcards and not {"dns-01", "dns-persist-01"} & set(settings.kinds):
        raise ConfigError(
            f"{names['acme']}: a wildcard such as {wildcards[0]} is proven in the DNS only; "
            "add --acme-dns-hook, or --acme-challenge dns-persist-01"
        )
