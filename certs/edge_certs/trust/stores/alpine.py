"""Alpine: as Debian with the package ca-certificates, and a bare bundle without it.

The base image has only the bundle. Behind an intercepting proxy the package cannot be fetched before the root is
trusted, so there it goes into the bundle itself; its file waits for the package, which makes the bundle anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_certs.files import read_file
from edge_certs.trust.bundle import MAX_BUNDLE_SIZE, encode_pem
from edge_certs.trust.stores.anchor_folder import AnchorFolder, Layout
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Place, Root
from edge_certs.trust.stores.steps import Step, WriteFile

IDS = ("alpine",)
REFRESH = "/usr/sbin/update-ca-certificates"
LAYOUT = Layout(
    kind="alpine",
    folder="/usr/local/share/ca-certificates",
    suffix=".crt",
    refresh=("update-ca-certificates",),
    bundle=("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"),
)


def alpine(machine: Machine, location: str = "") -> Place:
    """Return the machine's store; `location` is another folder than the usual one."""
    folder = AnchorFolder(machine, LAYOUT, location)
    return folder if machine.path(REFRESH).exists() else BareAlpine(machine, folder)


class BareAlpine:
    """Alpine without the package: no command makes the bundle, so it is edited."""

    target = AnchorFolder.target
    kind = LAYOUT.kind
    is_personal = AnchorFolder.is_personal
    hint = AnchorFolder.hint

    def __init__(self, machine: Machine, folder: AnchorFolder) -> None:
        self._machine = machine
        self._folder = folder
        self.location = folder.location

    @property
    def needs_root(self) -> bool:
        return self._folder.needs_root

    def installing(self, root: Root) -> Sequence[Step]:
        bundle, content = self._bundle()
        gap = b"" if content.endswith(b"\n") else b"\n"
        # The bundle is the last step: what is in it is trusted.
        return [self._folder.installing(root)[0], WriteFile(bundle, content + gap + _block(root))]

    def removing(self, root: Root) -> Sequence[Step]:
        bundle, content = self._bundle()
        return [self._folder.removing(root)[0], WriteFile(bundle, content.replace(_block(root), b""))]

    def trusts(self, root: Root) -> bool:
        return self._folder.trusts(root)

    def holds(self, root: Root) -> bool:
        return self._folder.holds(root)

    def _bundle(self) -> tuple[Path, bytes]:
        path = self._folder.bundle().resolve()
        return path, read_file(path, "bundle", MAX_BUNDLE_SIZE)


def _block(root: Root) -> bytes:
    return encode_pem(root.der).encode() + b"\n"
