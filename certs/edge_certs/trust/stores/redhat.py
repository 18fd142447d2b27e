"""Fedora, RHEL and what is made of them: update-ca-trust(8)."""

from __future__ import annotations

from edge_certs.trust.stores.anchor_folder import AnchorFolder, Layout
from edge_certs.trust.stores.machine import Machine

IDS = ("fedora", "rhel", "centos", "amzn")
LAYOUT = Layout(
    kind="redhat",
    folder="/etc/pki/ca-trust/source/anchors",
    suffix=".pem",
    refresh=("update-ca-trust", "extract"),
    bundle=("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",),
)


def redhat(machine: Machine, location: str = "") -> AnchorFolder:
    """Return the machine's store; `location` is another folder than the usual one."""
    return AnchorFolder(machine, LAYOUT, location)
