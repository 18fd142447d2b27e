"""Java: the `cacerts` of each runtime, changed by its keytool(1).

keytool writes the file in place; so it gets a copy, which then takes the file's place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_certs.errors import CertificateError, place, reason
from edge_certs.trust.anchors import fingerprint, parse_anchors
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Root
from edge_certs.trust.stores.steps import COPY, Rework, Step

# Java's own, in every runtime: it guards nothing, and keytool asks for it.
PASSWORD = "changeit"
CACERTS = "lib/security/cacerts"
OLD_CACERTS = "jre/lib/security/cacerts"
PACKAGE_FOLDERS = ("/usr/lib/jvm", "/opt/java")
MAC_FOLDER = "/Library/Java/JavaVirtualMachines"
# The first bytes of Java's own format; the other one is PKCS#12.
JKS = b"\xfe\xed\xfe\xed"


class JavaKeystore:
    """One `cacerts`; `location` is its path."""

    target = "java"
    kind = "java"
    is_personal = False
    hint = "restart what runs on Java"

    def __init__(self, machine: Machine, location: str) -> None:
        self._machine = machine
        self.location = location

    @property
    def needs_root(self) -> bool:
        folder = Path(self.location).resolve().parent
        return not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)

    def installing(self, root: Root) -> Sequence[Step]:
        return [self._change("-importcert", "-noprompt", "-trustcacerts", "-alias", root.name, "-file", str(root.file))]

    def removing(self, root: Root) -> Sequence[Step]:
        return [self._change("-delete", "-alias", root.name)] if self.holds(root) else []

    def trusts(self, root: Root) -> bool:
        return self._may_hold(root) and root.sha256 in self._fingerprints("-list")

    def holds(self, root: Root) -> bool:
        return self._may_hold(root) and root.sha256 in self._fingerprints("-exportcert", "-alias", root.name)

    def _may_hold(self, root: Root) -> bool:
        """Looking takes 1 ms and asking 500: JKS, and PKCS#12 as Java makes it, have certificates as they are."""
        try:
            content = Path(self.location).read_bytes()
        except FileNotFoundError:
            return False  # the runtime was removed, and whatever it trusted with it
        except OSError as error:
            raise CertificateError(
                f"Java keystore {place(self.location)}: {reason(error)}", "let this user read it"
            ) from error
        return root.der in content or not content.startswith(JKS)

    def _change(self, *command: str) -> Step:
        return Rework(Path(self.location), self._keytool(*command, keystore=COPY))

    def _fingerprints(self, *command: str) -> set[str]:
        done = self._machine.run(self._keytool(*command, "-rfc", keystore=self.location))
        if b"-----BEGIN" not in done.output:
            # Its exit code for "no such alias" is that of a damaged file, and its words are the difference.
            if done.code == 0 or b"does not exist" in done.output + done.errors:
                return set()
            raise CertificateError(
                f"Java keystore {place(self.location)}: {done.complaint}", "repair it, or reinstall Java"
            )
        return {fingerprint(certificate) for certificate in parse_anchors(done.output)}

    def _keytool(self, *command: str, keystore: str) -> tuple[str, ...]:
        # The runtime's own: an older one may not read the format of a newer one.
        own = _runtime(Path(self.location)) / "bin/keytool"
        tool = str(own) if own.exists() else "keytool"
        return (tool, *command, "-keystore", keystore, "-storepass", PASSWORD)


def java_places(machine: Machine) -> list[JavaKeystore]:
    """Return the `cacerts` of the runtimes in JAVA_HOME, in PATH and where packages put them; links lead to one."""
    found: dict[Path, str] = {}
    for runtime in _runtimes(machine):
        for name in (CACERTS, OLD_CACERTS):
            if (runtime / name).is_file():
                found.setdefault((runtime / name).resolve(), str(runtime / name))
    return [JavaKeystore(machine, location) for location in found.values()]


def _runtimes(machine: Machine) -> Iterator[Path]:
    if chosen := machine.environ.get("JAVA_HOME"):
        yield Path(chosen)
    if tool := shutil.which("keytool", path=machine.environ.get("PATH")):
        yield Path(tool).resolve().parent.parent
    for folder in PACKAGE_FOLDERS:
        yield from (path for path in sorted(machine.path(folder).glob("*/")) if not path.is_symlink())
    yield from sorted(machine.path(MAC_FOLDER).glob("*/Contents/Home"))


def _runtime(keystore: Path) -> Path:
    old = keystore.parents[3]
    return old if str(keystore).endswith(OLD_CACERTS) else keystore.parents[2]
