"""Windows: the machine's store of root authorities and certutil.exe.

Edge, Chrome, .NET and Python's truststore read it; Firefox does since version 120.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Root
from edge_certs.trust.stores.steps import Run, Step

STORE = "Root"


class WindowsStore:
    """The store of root authorities of this machine, for all its users."""

    target = "system"
    kind = "windows"
    is_personal = False
    hint = ""

    def __init__(self, machine: Machine, location: str = "") -> None:
        self._machine = machine
        self.location = location or STORE

    @property
    def needs_root(self) -> bool:
        return not self._machine.is_root

    def installing(self, root: Root) -> Sequence[Step]:
        return [Run(("certutil.exe", "-f", "-addstore", self.location, str(root.file)))]

    def removing(self, root: Root) -> Sequence[Step]:
        # By its SHA-1: Windows' own name for a certificate.
        return [Run(("certutil.exe", "-delstore", self.location, root.sha1))] if self.holds(root) else []

    def trusts(self, root: Root) -> bool:
        return self.holds(root)

    def holds(self, root: Root) -> bool:
        # Its exit code is that of the failure when there is no such certificate, 0 when it shows one.
        return self._machine.run(("certutil.exe", "-store", self.location, root.sha1)).code == 0
