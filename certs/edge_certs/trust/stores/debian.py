"""Debian, Ubuntu and what is made of them: update-ca-certificates(8).

Files there must end with `.crt`, be PEM, and hold one certificate: the command passes over any other name without a
word, and says "added" for DER, which then nobody trusts.
"""

from __future__ import annotations

from edge_certs.trust.stores.anchor_folder import AnchorFolder, Layout
from edge_certs.trust.stores.machine import Machine

IDS = ("debian", "ubuntu")
LAYOUT = Layout(
    kind="debian",
    folder="/usr/local/share/ca-certificates",
    suffix=".crt",
    refresh=("update-ca-certificates",),
    bundle=("/etc/ssl/certs/ca-certificates.crt",),
)


def debian(machine: Machine, location: str = "") -> AnchorFolder:
    """Return the machine's store; `location` is another folder than the usual one."""
    return AnchorFolder(machine, LAYOUT, location)
