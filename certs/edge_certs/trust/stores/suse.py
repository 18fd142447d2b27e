"""openSUSE and SUSE Linux Enterprise: update-ca-certificates(8), which is another one than Debian's."""

from __future__ import annotations

from edge_certs.trust.stores.anchor_folder import AnchorFolder, Layout
from edge_certs.trust.stores.machine import Machine

IDS = ("suse", "opensuse", "sles")
LAYOUT = Layout(
    kind="suse",
    folder="/etc/pki/trust/anchors",
    suffix=".pem",
    refresh=("update-ca-certificates",),
    bundle=("/var/lib/ca-certificates/ca-bundle.pem", "/etc/ssl/ca-bundle.pem"),
)


def suse(machine: Machine, location: str = "") -> AnchorFolder:
    """Return the machine's store; `location` is another folder than the usual one."""
    return AnchorFolder(machine, LAYOUT, location)
