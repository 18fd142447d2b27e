"""What a compose file is overridden with, so that its services serve and trust local HTTPS (pure).

A service with edge in front gets an intermediate of the local root, read-only, and a name below `internal`, which the
root may sign for and the network knows as an alias. Every service gets the roots, and the variables that name them. The
root's key stays on the host.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_certs.errors import CertificateError
from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES

# Beside the compose file, and kept out of version control by a file of its own.
FOLDER = ".edge"
AUTHORITY, BUNDLE, ROOTS = "authority.pem", "bundle.pem", "roots.pem"

# Where they are in a container.
MOUNT = "/run/edge"

# Whom containers run as when root makes the files: the user of the Dockerfile, and never root.
IMAGE_USER = 10001

# A label for services whose command does not say that they run edge.
LABEL = "edge.dev"


@dataclass(frozen=True, slots=True)
class Project:
    """The services of a compose file; those in `edges` have edge in front."""

    services: Mapping[str, Mapping[str, Any]]
    edges: tuple[str, ...]

    @property
    def names(self) -> dict[str, str]:
        """The name by which each service with edge in front is called from the others, with TLS."""
        return {service: f"{service.lower()}.internal" for service in self.edges}


def read_project(content: Mapping[str, Any], chosen: Sequence[str]) -> Project:
    """Return the services in the `content` of a compose file; `chosen` have edge in front, or those that say so.

    Raises CertificateError: there are no services, or none of them has edge in front, or one is not there.
    """
    services = content.get("services")
    if not isinstance(services, Mapping) or not all(isinstance(item, Mapping) for item in services.values()):
        raise CertificateError("no services in it", "name a compose file with --file")
    if missing := [name for name in chosen if name not in services]:
        raise CertificateError(f"no service {missing[0]!r} in it, it has {', '.join(services)}", "name one of these")
    edges = tuple(chosen) or tuple(name for name, service in services.items() if has_edge(service))
    if not edges:
        raise CertificateError(
            "no service runs edge, by its command or a label edge.dev", "name those that do with --edge SERVICE"
        )
    return Project(services, edges)


def has_edge(service: Mapping[str, Any]) -> bool:
    """Return whether a service runs `edge serve`, by its command or entrypoint, or says so by the label `edge.dev`."""
    labels = service.get("labels", {})
    if LABEL in labels or any(str(label).startswith(f"{LABEL}=") for label in labels):
        return True
    words = [word for key in ("entrypoint", "command") for word in _words(service.get(key))]
    return any(word.rpartition("/")[2] == "edge" for word in words)


def make_override(project: Project, user: str) -> dict[str, Any]:
    """Return the content of the override; `user` (UID:GID) may read the intermediate, which nobody else may."""
    return {"services": {name: _service(project, name, user) for name in project.services}}


def _service(project: Project, name: str, user: str) -> dict[str, Any]:
    service, is_edge = project.services[name], name in project.edges
    environment = dict.fromkeys(BUNDLE_VARIABLES, f"{MOUNT}/{BUNDLE}")
    environment |= dict.fromkeys(EXTRA_VARIABLES, f"{MOUNT}/{ROOTS}")
    made: dict[str, Any] = {"environment": environment, "volumes": [_mount(BUNDLE), _mount(ROOTS)]}
    if is_edge:
        environment |= {
            "EDGE_DEV": "1",
            # The volume of the image's own user is closed to the one below; nothing that lasts is written here.
            "EDGE_HOME": "/tmp/edge",
            "EDGE_DEV_AUTHORITY": f"{MOUNT}/{AUTHORITY}",
            "EDGE_DEV_NAME": ",".join((project.names[name], *_names_given(service))),
        }
        made["volumes"].append(_mount(AUTHORITY))
        if "user" not in service:
            made["user"] = user
        if "network_mode" not in service:
            alias = {"aliases": [project.names[name]]}
            made["networks"] = dict.fromkeys(_networks(service), alias)
    return made


def _names_given(service: Mapping[str, Any]) -> list[str]:
    """The names that the file gives already: the override's variable would take their place."""
    environment = service.get("environment", {})
    pairs = environment.items() if isinstance(environment, Mapping) else (str(row).split("=", 1) for row in environment)
    values = [str(pair[1]) for pair in map(tuple, pairs) if pair[0] == "EDGE_DEV_NAME" and len(pair) == 2]
    return [name for value in values for name in value.replace(",", " ").split()]


def _networks(service: Mapping[str, Any]) -> list[str]:
    return list(service.get("networks") or ("default",))


def _mount(file: str) -> dict[str, Any]:
    # The long form: the short one makes a folder where a file is missing, in which nothing can be found.
    return {
        "type": "bind",
        "source": f"./{FOLDER}/{file}",
        "target": f"{MOUNT}/{file}",
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _words(command: object) -> list[str]:
    if isinstance(command, str):
        try:
            return shlex.split(command)
        except ValueError:
            return command.split()
    return [str(word) for word in command] if isinstance(command, Sequence) else []
