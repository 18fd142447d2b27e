"""The words of `--to`: which places of a machine each of them means, and a place again from its record."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from edge_certs.errors import CertificateError
from edge_certs.trust.stores import alpine, arch, debian, redhat, suse
from edge_certs.trust.stores.docker import DockerRegistry, docker_places
from edge_certs.trust.stores.firefox import TARGET as FIREFOX
from edge_certs.trust.stores.firefox import firefox_places
from edge_certs.trust.stores.java import JavaKeystore, java_places
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.macos import MacKeychain
from edge_certs.trust.stores.nss import NssDatabase, chromium_places
from edge_certs.trust.stores.place import Place
from edge_certs.trust.stores.windows import WindowsStore

TARGETS = ("system", "nss", "firefox", "java", "docker")

Make = Callable[[Machine, str], Place]

# In the order in which they are looked for in ID and ID_LIKE of os-release(5).
LINUX: Sequence[tuple[tuple[str, ...], Make]] = (
    (debian.IDS, debian.debian),
    (alpine.IDS, alpine.alpine),
    (redhat.IDS, redhat.redhat),
    (arch.IDS, arch.arch),
    (suse.IDS, suse.suse),
)
KINDS: Mapping[str, Make] = {
    "debian": debian.debian,
    "alpine": alpine.alpine,
    "redhat": redhat.redhat,
    "arch": arch.arch,
    "suse": suse.suse,
    "macos": MacKeychain,
    "windows": WindowsStore,
    "nss": NssDatabase,
    "firefox": lambda machine, location: NssDatabase(machine, location, FIREFOX),
    "java": JavaKeystore,
    "docker": DockerRegistry,
}
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


def find_places(target: str, machine: Machine, registries: Sequence[str] = ()) -> list[Place]:
    """Return the places that `target`, one of `TARGETS`, means on `machine`, at least one; `registries` are docker's.

    Raises CertificateError: there is none.
    """
    match target:
        case "system":
            return [_system_place(machine)]
        case "nss":
            _check_nss(machine, "Chromium")
            return list(chromium_places(machine))
        case "firefox":
            _check_nss(machine, "Firefox")
            return _some(
                firefox_places(machine),
                "firefox: no profile in any of its folders",
                "start Firefox once, then try again",
            )
        case "java":
            return _some(java_places(machine), "java: no runtime with a cacerts file", "set JAVA_HOME to its folder")
        case _:
            found = docker_places(machine, registries)
            advice = "name one with --registry HOST[:PORT]; Docker Hub goes by --to system and a restart of the daemon"
            return _some(found, "docker: no registry has a folder in /etc/docker/certs.d", advice)


def open_place(kind: str, location: str, machine: Machine) -> Place:
    """Return the place that was recorded with these.

    Raises CertificateError: another edge recorded it.
    """
    if kind not in KINDS:
        raise CertificateError(f"store of kind {kind!r}: not known to this edge", "use the edge that wrote the record")
    return KINDS[kind](machine, location)


def _system_place(machine: Machine) -> Place:
    if machine.system == "Darwin":
        return MacKeychain(machine)
    if machine.system == "Windows":
        return WindowsStore(machine)
    names = _linux_names(machine)
    for name in names:
        for ids, make in LINUX:
            if name in ids:
                return make(machine, "")
    raise CertificateError(
        f"system: {names[0] if names else machine.system!r} is not a system whose store is known",
        "install the file of edge trust bundle --base none by its own means",
    )


def _linux_names(machine: Machine) -> list[str]:
    """Return the system's own name, and then what it is made of."""
    text = next(filter(None, map(machine.text, OS_RELEASE)), "")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    words = [word for name in ("ID", "ID_LIKE") for word in shlex.split(fields.get(name, ""))]
    names = " ".join(words).split()
    # openSUSE's are opensuse-leap, opensuse-tumbleweed and opensuse-microos.
    return [name for word in names for name in dict.fromkeys((word, word.partition("-")[0]))]


def _check_nss(machine: Machine, browser: str) -> None:
    if machine.system in ("Darwin", "Windows"):
        raise CertificateError(f"{browser}: reads the system's roots here", "use --to system")
    if not machine.home.is_absolute():
        raise CertificateError(f"{browser}: this user has no home folder", "set HOME")
    # Now, and not when half of it is done: most machines have no certutil.
    machine.run(("certutil", "-H"))


def _some(places: Sequence[Place], found: str, advice: str) -> list[Place]:
    if not places:
        raise CertificateError(found, advice)
    return list(places)
