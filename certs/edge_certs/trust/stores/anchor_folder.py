"""The way of all Linux systems: a folder of PEM files, a command that makes one bundle of them, the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_certs.errors import CertificateError
from edge_certs.trust.bundle import read_source
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Root
from edge_certs.trust.stores.steps import RemoveFile, Run, Step, WriteFile


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family of systems does it: `folder` takes files that end with `suffix`, one root each.

    `refresh` makes `bundle`, which is a list of files of which the first that is there counts.
    """

    kind: str
    folder: str
    suffix: str
    refresh: tuple[str, ...]
    bundle: tuple[str, ...]


class AnchorFolder:
    """The store of a Linux system with that layout."""

    target = "system"
    is_personal = False
    hint = "programs that run already see it after a restart"

    def __init__(self, machine: Machine, layout: Layout, location: str = "") -> None:
        self._machine = machine
        self._layout = layout
        self.kind = layout.kind
        self.location = location or layout.folder

    @property
    def needs_root(self) -> bool:
        return not self._machine.is_root

    def installing(self, root: Root) -> Sequence[Step]:
        return [WriteFile(self._file(root), root.pem), Run(self._layout.refresh)]

    def removing(self, root: Root) -> Sequence[Step]:
        return [RemoveFile(self._file(root)), Run(self._layout.refresh)]

    def trusts(self, root: Root) -> bool:
        return root.der in read_source("this system's roots", self.bundle()).certificates

    def holds(self, root: Root) -> bool:
        return self._file(root).exists()

    def bundle(self) -> Path:
        """Return the file that programs read. Raises CertificateError: there is none."""
        candidates = [self._machine.path(name) for name in self._layout.bundle]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise CertificateError(
                f"this system's roots: no file {' or '.join(self._layout.bundle)}", "install ca-certificates"
            )
        return found

    def _file(self, root: Root) -> Path:
        return self._machine.path(self.location) / f"{root.name}{self._layout.suffix}"
