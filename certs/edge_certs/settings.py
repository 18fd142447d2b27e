"""What whoever keeps certificates has to know, and how it is handed over: one JSON line on a socket."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_certs.jws import Binding, parse_base64url
from edge_certs.state import Issuance


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """An authority, by the URL of its `directory`, and who we are there.

    `staging` is the directory of its staging environment, empty without one. `contacts` are e-mail addresses. `kid` and
    `mac_key` (base64url) are what it gave its customer, empty without. `ca_root` is the PEM file that its own
    certificate is checked with, empty for the roots that this machine trusts.
    """

    directory: str
    staging: str = ""
    contacts: tuple[str, ...] = ()
    kid: str = ""
    mac_key: str = field(default="", repr=False)
    ca_root: str = ""

    @property
    def binding(self) -> Binding | None:
        """What makes a new account the customer's. Raises CertificateError: the MAC key is not base64url."""
        return Binding(self.kid, parse_base64url(self.mac_key)) if self.kid else None


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """The certificates to keep, from which authority, and the folder that they lie in."""

    home: Path
    authority: AuthoritySettings
    certificates: tuple[Issuance, ...]
    log_level: str = "info"

    def encode(self) -> bytes:
        """Return the settings as one line; it may hold a secret."""
        return json.dumps({**asdict(self), "home": str(self.home)}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> KeeperSettings:
        """Return the settings that `encode` wrote."""
        value = json.loads(line)
        return cls(
            home=Path(value["home"]),
            authority=AuthoritySettings(**_tuples(value["authority"])),
            certificates=tuple(Issuance(**_tuples(each)) for each in value["certificates"]),
            log_level=value["log_level"],
        )


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
