"""Docker's daemon: `/etc/docker/certs.d/REGISTRY/`, whose roots count for that registry, beside the system's.

Docker Hub never goes by this folder, only by the system's roots; so the daemon needs `--to system` for it, and then a
restart. For what is in this folder it needs none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edge_certs.errors import CertificateError
from edge_certs.files import read_file
from edge_certs.trust.anchors import AnchorRefused, fingerprint, parse_anchors
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.place import Root
from edge_certs.trust.stores.steps import RemoveFile, Step, WriteFile

FOLDER = "/etc/docker/certs.d"
# A host name or an address, and a port if it is not 443; the folder has the same name.
REGISTRY = re.compile(r"(?!\.)(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class DockerRegistry:
    """The roots of one registry; `location` is its folder."""

    target = "docker"
    kind = "docker"
    is_personal = False
    hint = ""

    def __init__(self, machine: Machine, location: str) -> None:
        self._machine = machine
        self.location = location

    @property
    def needs_root(self) -> bool:
        return not self._machine.is_root

    def installing(self, root: Root) -> Sequence[Step]:
        return [WriteFile(self._file(root), root.pem)]

    def removing(self, root: Root) -> Sequence[Step]:
        return [RemoveFile(self._file(root))]

    def trusts(self, root: Root) -> bool:
        # The daemon reads each .crt there, whoever put it there.
        return any(root.sha256 in _fingerprints(path) for path in self._machine.path(self.location).glob("*.crt"))

    def holds(self, root: Root) -> bool:
        return self._file(root).exists()

    def _file(self, root: Root) -> Path:
        return self._machine.path(self.location) / f"{root.name}.crt"


def is_registry(name: str) -> bool:
    """Return whether `name` is HOST or HOST:PORT, as docker names registries."""
    return REGISTRY.fullmatch(name) is not None


def docker_places(machine: Machine, registries: Sequence[str] = ()) -> list[DockerRegistry]:
    """Return the folders of `registries` (`is_registry`), and without any, of those that have a folder already."""
    there = sorted(path.name for path in machine.path(FOLDER).glob("*/"))
    return [DockerRegistry(machine, f"{FOLDER}/{name}") for name in registries or there]


def _fingerprints(path: Path) -> set[str]:
    try:
        return {fingerprint(certificate) for certificate in parse_anchors(read_file(path, "root"))}
    except (AnchorRefused, CertificateError):
        return set()
