"""Looks at every store and variable, and has each judged: `edge trust doctor` without its words."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certifi import where as certifi_where
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError, place, reason
from edge_certs.trust.bundle import SYSTEM_BUNDLES
from edge_certs.trust.diagnosis import (
    Finding,
    Known,
    broken,
    diagnose_anchors,
    diagnose_certifi,
    diagnose_local,
    diagnose_switches,
    diagnose_system,
    diagnose_variable,
    diagnose_workers,
    group,
    warning,
)
from edge_certs.trust.inspection import LOCAL_ANCHOR_FOLDERS
from edge_certs.trust.installations import Installation, Installations, root_of
from edge_certs.trust.leftovers import leftovers
from edge_certs.trust.store import Anchor, TrustStore
from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.targets import TARGETS, find_places, open_place
from edge_certs.trust.survey import (
    Place,
    changed_certifi,
    read_place,
    read_setting,
    read_variables,
    read_workers,
    switched_off,
    writable_by_others,
)
from edge_certs.trust.toolsettings import is_switch, read_settings
from edge_certs.trust.variables import stale_bundles

PROBE = """
import ssl
try:
    import certifi
    print(certifi.where())
except ImportError:
    print()
print(ssl.SSLContext.__module__)
"""


@dataclass(frozen=True, slots=True)
class Store:
    """A store of the system or of a program, by its word for `--to`; `added` is how many added roots it trusts."""

    target: str
    location: str
    added: int


@dataclass(frozen=True, slots=True)
class _Own:
    """What edge's own folder holds; not sound when a part of it cannot be read."""

    anchors: tuple[Anchor, ...]
    entries: tuple[Installation, ...]
    is_sound: bool


@dataclass(frozen=True, slots=True)
class Report:
    """`places` and `stores` are all that was looked at, `findings` what is wrong, the worst first."""

    places: tuple[Place, ...]
    stores: tuple[Store, ...]
    known: Known
    findings: tuple[Finding, ...]


def examine(machine: Machine, home: Path, now: datetime, hook: Callable[[str], str]) -> Report:
    """Look at `machine`, with edge's own folder `home`, and return what there is and what is wrong; `now` is in UTC.

    Nothing is changed.

    `hook` gives the Python code by which workers make certifi answer with a file.
    """
    store = TrustStore(home)
    own, findings = _own(store, home)
    certifi, system, family = read_place("certifi", Path(certifi_where())), _system(machine), _family(machine)
    settings = list(read_settings(machine))
    named = [read_setting(setting) for setting in settings if not is_switch(setting)]
    local, variables = list(_local(machine)), [*read_variables(machine.environ), *named]
    known = _known(own.anchors, certifi, system, local, now)
    findings += diagnose_system(system, family, known)
    findings += diagnose_local(local, family, system)
    findings += diagnose_certifi(certifi, is_changed=changed_certifi())
    for variable in variables:
        findings += diagnose_variable(variable, known)
    findings += diagnose_switches([*switched_off(machine.environ), *filter(is_switch, settings)])
    findings += diagnose_anchors(own.anchors, now, is_strict=sys.version_info >= (3, 13))
    findings += _diagnose_rights(store, home)
    if own.is_sound:
        findings += _diagnose_age(home, machine)
    findings += _diagnose_installed(own, store, machine)
    bundles = [str(path) for path in _inside(store.folder) if path.match("bundle*.pem")] if own.anchors else []
    findings += diagnose_workers(read_workers(machine.path("/proc"), home, _booted_at()), bundles)
    findings += diagnose_hook(hook, machine.environ, str(store.folder / "bundle.pem"))
    places = [*filter(None, (system, certifi)), *local, *variables]
    return Report(tuple(places), tuple(_stores(own.anchors, store, machine)), known, tuple(group(findings)))


def _stores(anchors: Sequence[Anchor], store: TrustStore, machine: Machine) -> Iterator[Store]:
    """Without added roots there is nothing to ask them for, and Java's takes a second to answer."""
    roots = [root_of(anchor, store) for anchor in anchors]
    for target in TARGETS if roots else ():
        with suppress(CertificateError):  # there is none, or nobody can look into it
            for where in find_places(target, machine):
                with suppress(CertificateError):
                    yield Store(target, where.location, sum(map(where.trusts, roots)))


def _known(
    anchors: Iterable[Anchor], certifi: Place, system: Place | None, local: Iterable[Place], now: datetime
) -> Known:
    """What people put there is not public, also where a distribution's certifi is the system's store."""
    added = frozenset(anchor.certificate.public_bytes(Encoding.DER) for anchor in anchors)
    own = added.union(*(place.certificates for place in local))
    everything = system.certificates if system else frozenset()
    return Known(certifi.certificates - own, everything, added, now)


def _booted_at() -> float:
    """Zero where there is neither such a clock nor a /proc."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time() - time.clock_gettime(clock) if clock is not None else 0.0


def _own(store: TrustStore, home: Path) -> tuple[_Own, list[Finding]]:
    if not store.is_readable:
        text = f"{place(store.folder)}: this user may not read it, so none of its roots count here"
        return _Own((), (), is_sound=False), [warning("store-closed", "edge", text, "")]
    anchors: list[Anchor] = []
    entries: list[Installation] = []
    findings = []
    try:
        anchors = store.anchors()
    except CertificateError as error:
        findings.append(_damaged(store.folder, error))
    try:
        entries = Installations(home).all()
    except CertificateError as error:
        findings.append(_damaged(store.folder / "installed.json", error))
    return _Own(tuple(anchors), tuple(entries), is_sound=not findings), findings


def _damaged(path: Path, error: CertificateError) -> Finding:
    quoted = shlex.quote(str(path))
    text = f"{error.found}; then add the roots again"
    return broken("store-damaged", "edge", text, f"mv {quoted} {quoted}.damaged")


def _system(machine: Machine) -> Place | None:
    path = next((path for path in map(machine.path, SYSTEM_BUNDLES) if path.exists()), None)
    return read_place("system", path) if path else None


def _family(machine: Machine) -> str:
    with suppress(CertificateError):
        [place] = find_places("system", machine)
        return place.kind
    return ""


def _local(machine: Machine) -> Iterator[Place]:
    for folder in LOCAL_ANCHOR_FOLDERS:
        # update-ca-certificates takes files of folders below, too.
        for path in sorted(machine.path(folder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield read_place("local", path)


def _diagnose_installed(own: _Own, store: TrustStore, machine: Machine) -> Iterator[Finding]:
    """Whatever replaces a store, such as a new browser profile or Java, does not ask whether somebody added to it."""
    roots = {anchor.sha256: root_of(anchor, store) for anchor in own.anchors}
    for entry in own.entries:
        root = roots.get(entry.sha256)
        if root is None or not entry.complete:
            continue
        with suppress(CertificateError):  # without a store's tool, nobody can tell
            if not open_place(entry.kind, entry.location, machine).trusts(root):
                text = f"root {root.sha256[:16]} was installed in {entry.location} and is not trusted there any more"
                command = f"edge trust add {shlex.quote(str(root.file))} --to {entry.target}"
                yield warning("installed-and-gone", entry.target, text, command)


def _inside(folder: Path) -> list[Path]:
    """Nothing for a folder that is closed to us."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _diagnose_rights(store: TrustStore, home: Path) -> Iterator[Finding]:
    inside = [*_inside(store.folder), *_inside(store.folder / "anchors")]
    for path in writable_by_others([home, store.folder, *inside]):
        text = f"{place(path)}: another user may write there, and so add roots"
        quoted = shlex.quote(str(path))
        yield broken("writable-by-others", "edge", text, f"chown $(id -u) {quoted}; chmod go-w {quoted}")


def _diagnose_age(home: Path, machine: Machine) -> Iterator[Finding]:
    for item in leftovers(home, machine.tree):
        yield warning("leftover", "edge", f"{place(item.path)}: {item.text}", item.command)
    for path in stale_bundles(home):
        text = f"{place(path)}: the roots of the system, of certifi or of edge changed since it was written"
        yield warning("stale-bundle", "edge", text, "edge trust refresh")


def diagnose_hook(hook: Callable[[str], str], environ: Mapping[str, str], bundle: str) -> Iterator[Finding]:
    """Ask a process that begins as a worker does; a sitecustomize or a .pth file may come before it."""
    python = shlex.quote(sys.executable)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"{hook(bundle)}\n{PROBE}"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rpartition("\n")[2]
        yield broken("no-worker", "workers", f"a worker's Python does not start: {last}", f"{python} -P -c 0")
        return
    except OSError as error:
        yield broken("no-worker", "workers", f"{sys.executable}: {reason(error)}", f"{python} -P -c 0")
        return
    where, _, module = done.stdout.rstrip("\n").rpartition("\n")
    if where not in ("", bundle):
        text = f"certifi answers {where!r} in them, not edge's bundle: something else replaces it"
        yield broken("certifi-hook-not-active", "workers", text, f"{python} -P -v -c 'import certifi'")
    if module != "ssl":
        text = f"ssl.SSLContext is {module}'s from the start on, which is slow and breaks servers that choose by name"
        yield broken("ssl-replaced", "workers", text, f"{python} -m pip uninstall pip-system-certs")
