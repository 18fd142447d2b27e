"""NSS databases (Chromium, Firefox and others on Linux): certutil(1) of NSS changes them, SQLite shows what is in them.

Where Chromium's is (NSS 3.42 and later, which Chromium follows since M146): `~/.pki/nssdb` if it is there, else
`$XDG_DATA_HOME/pki/nssdb`, that is `~/.local/share/pki/nssdb`. The first one hides the second, even when it is empty.
So it is never made here: a Chromium that used the second would forget what it knew.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from edge_certs.errors import CertificateError, place
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Root
from edge_certs.trust.stores.steps import MakeFolder, Run, Step

# An authority for servers, and for nothing else: neither mail nor code.
TRUST = "C,,"
DATABASE = "cert9.db"
# PKCS #11 2.40 sections 4.4 and 4.6: CKO_CERTIFICATE in a0 (CKA_CLASS), a3 is CKA_LABEL, a11 is CKA_VALUE, its DER.
LABEL_OF_CERTIFICATE = "SELECT a3 FROM nssPublic WHERE a0 = x'00000001' AND a11 = ?"
# How long certutil or a browser may hold it.
LOCK_TIMEOUT = 5.0


class NssDatabase:
    """One NSS database, in the folder `location`."""

    is_personal = True

    def __init__(self, machine: Machine, location: str, target: str = "nss") -> None:
        self._machine = machine
        self.target = target
        self.kind = target
        self.location = location
        self.hint = "restart the browser" if target == "nss" else "restart Firefox"

    @property
    def needs_root(self) -> bool:
        return False

    def installing(self, root: Root) -> Sequence[Step]:
        add = self._certutil("-A", "-a", "-t", TRUST, "-n", root.name, "-i", str(root.file))
        return [Run(add)] if self._exists else [*self._making(), Run(add)]

    def removing(self, root: Root) -> Sequence[Step]:
        label = self._label(root)
        # NSS keeps the name that a certificate had: if ours came second, it is that one.
        return [Run(self._certutil("-D", "-n", label))] if label else []

    def trusts(self, root: Root) -> bool:
        label = self._label(root)
        if not label:
            return False
        listing = self._machine.require(self._certutil("-L")).output.decode("utf-8", "replace")
        flags = [line.rsplit(maxsplit=1)[1] for line in listing.splitlines() if line.startswith(label + " ")]
        return any("C" in flag.partition(",")[0] for flag in flags)

    def holds(self, root: Root) -> bool:
        return self._label(root) != ""

    @property
    def _exists(self) -> bool:
        return (Path(self.location) / DATABASE).is_file()

    def _making(self) -> Sequence[Step]:
        return [MakeFolder(Path(self.location)), Run(self._certutil("-N", "--empty-password"))]

    def _certutil(self, *arguments: str) -> tuple[str, ...]:
        return ("certutil", arguments[0], "-d", f"sql:{self.location}", *arguments[1:])

    def _label(self, root: Root) -> str:
        """Return the name that `root` has in the database; empty when it is not there."""
        if not self._exists:
            return ""
        path = Path(self.location) / DATABASE
        try:
            with closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=LOCK_TIMEOUT)
            ) as database:
                row = database.execute(LABEL_OF_CERTIFICATE, (root.der,)).fetchone()
        except sqlite3.Error as error:
            raise CertificateError(
                f"NSS database {place(path)}: {error}", "close the browser, and try again"
            ) from error
        return bytes(row[0]).decode("utf-8", "replace") if row else ""


def chromium_places(machine: Machine) -> list[NssDatabase]:
    """Return the databases of Chromium and its kin: the user's, there or not, and the snap's if it is there."""
    places = [NssDatabase(machine, str(user_database(machine)))]
    snap = machine.home / "snap/chromium/current"
    if snap.is_dir():
        places.append(NssDatabase(machine, str(snap / ".pki/nssdb")))
    return places


def user_database(machine: Machine) -> Path:
    """Return the folder of the user's database by the rule above; it need not be there."""
    old = machine.home / ".pki/nssdb"
    if old.is_dir():
        return old
    data = machine.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if os.path.isabs(data) else machine.home / ".local/share") / "pki/nssdb"
