"""What a place is where a root can be installed, and the root as such a place sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_certs.trust.stores.steps import Step

# So many digits of a fingerprint tell two roots apart, and fit into a name that people see.
NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Root:
    """A root to install: its fingerprints as hexadecimal digits, its DER, and `file`, which holds it as PEM."""

    sha256: str
    sha1: str
    der: bytes = field(repr=False)
    pem: bytes = field(repr=False)
    file: Path

    @property
    def name(self) -> str:
        """What it is called in stores that want a name, made of its fingerprint: no other root has it."""
        return f"edge-trust-{self.sha256[:NAME_DIGITS]}"


class Place(Protocol):
    """One store of one machine. `kind` and `location` say again, later, which one it was.

    `target` is its word for `--to`. `is_personal` places are one user's; the others are everybody's on the machine.
    `needs_root` is whether this user may not change it. `hint` is what to do so that it is seen, empty when nothing.
    """

    target: str
    kind: str
    location: str
    is_personal: bool
    hint: str

    @property
    def needs_root(self) -> bool: ...

    def installing(self, root: Root) -> Sequence[Step]:
        """Return the steps that install `root`. Raises CertificateError: they cannot be known."""
        ...

    def removing(self, root: Root) -> Sequence[Step]:
        """Return the steps that undo `installing`, whether or not it was completed; raises as it does."""
        ...

    def trusts(self, root: Root) -> bool:
        """Return whether programs that use this place trust `root`, whoever installed it.

        Raises CertificateError: it cannot be known.
        """
        ...

    def holds(self, root: Root) -> bool:
        """Return whether what `installing` puts there is there, trusted or not; raises as `trusts`."""
        ...
