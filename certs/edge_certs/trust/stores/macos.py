"""macOS: the system's keychain and security(1).

Firefox and Chrome read it; so do Python's truststore, curl and what else uses Apple's TLS.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_certs.errors import CertificateError
from edge_certs.trust.anchors import AnchorRefused, fingerprint, parse_anchors
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Root
from edge_certs.trust.stores.steps import Run, Step

KEYCHAIN = "/Library/Keychains/System.keychain"


class MacKeychain:
    """The system's keychain of this Mac."""

    target = "system"
    kind = "macos"
    is_personal = False
    hint = ""

    def __init__(self, machine: Machine, location: str = "") -> None:
        self._machine = machine
        self.location = location or KEYCHAIN

    @property
    def needs_root(self) -> bool:
        return not self._machine.is_root

    def installing(self, root: Root) -> Sequence[Step]:
        add = ("security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", self.location, str(root.file))
        return [Run(add)]

    def removing(self, root: Root) -> Sequence[Step]:
        distrust = ("security", "remove-trusted-cert", "-d", str(root.file))
        # By its SHA-1, which every version takes: the only name that means this certificate and no other.
        delete = ("security", "delete-certificate", "-Z", root.sha1.upper(), self.location)
        return [Run(distrust), Run(delete)] if self.trusts(root) else [Run(delete)] if self.holds(root) else []

    def trusts(self, root: Root) -> bool:
        # Being in the keychain is not being trusted: this asks the policy that TLS clients ask.
        if not self.holds(root):
            return False
        verify = ("security", "verify-cert", "-L", "-l", "-c", str(root.file), "-p", "ssl", "-k", self.location)
        return self._machine.run(verify).code == 0

    def holds(self, root: Root) -> bool:
        listing = self._machine.require(("security", "find-certificate", "-a", "-p", self.location)).output
        if b"-----BEGIN" not in listing:
            return False
        try:
            return root.sha256 in {fingerprint(certificate) for certificate in parse_anchors(listing)}
        except AnchorRefused as error:
            raise CertificateError(
                f"keychain {self.location}: {error.found}", "look into it with Keychain Access"
            ) from error
