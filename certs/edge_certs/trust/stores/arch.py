"""Arch Linux and what is made of it: trust(1) of p11-kit."""

from __future__ import annotations

from edge_certs.trust.stores.anchor_folder import AnchorFolder, Layout
from edge_certs.trust.stores.machine import Machine

IDS = ("arch",)
LAYOUT = Layout(
    kind="arch",
    folder="/etc/ca-certificates/trust-source/anchors",
    suffix=".crt",
    refresh=("trust", "extract-compat"),
    bundle=("/etc/ca-certificates/extracted/tls-ca-bundle.pem", "/etc/ssl/certs/ca-certificates.crt"),
)


def arch(machine: Machine, location: str = "") -> AnchorFolder:
    """Return the machine's store; `location` is another folder than the usual one."""
    return AnchorFolder(machine, LAYOUT, location)
