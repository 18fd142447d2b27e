"""What there is of roots on this machine, for `edge trust doctor`: files, folders, variables and workers, as they are.

It reads and never judges; `edge_certs.trust.diagnosis` does. What cannot be read is a fact like any other.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from edge_certs.errors import CertificateError
from edge_certs.files import edge_home
from edge_certs.pem import DER_SEQUENCE, parse_blocks
from edge_certs.trust.anchors import TRUSTED_LABEL, certificate_der
from edge_certs.trust.bundle import HASHED_NAME, MAX_BUNDLE_SIZE
from edge_certs.trust.toolsettings import Setting
from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES, MERGED_VARIABLE, OF_SERVER, parse_merged
from edge_certs.x509 import CERTIFICATE_LABELS

# Each switches the verification of certificates off, with the values that do.
SWITCHES: Mapping[str, re.Pattern[str]] = {
    "NODE_TLS_REJECT_UNAUTHORIZED": re.compile("0"),
    # git looks only whether it is set: "0", "false" and nothing at all count as well (measured with 2.39).
    "GIT_SSL_NO_VERIFY": re.compile(".*", re.DOTALL),
    "NPM_CONFIG_STRICT_SSL": re.compile("false", re.IGNORECASE),
    "npm_config_strict_ssl": re.compile("false", re.IGNORECASE),
    # Names of hosts, for which nothing is verified.
    "PIP_TRUSTED_HOST": re.compile(r".*\S.*", re.DOTALL),
    "UV_INSECURE_HOST": re.compile(r".*\S.*", re.DOTALL),
}


# Of the clock in which proc_pid_stat(5) counts.
TICKS = os.sysconf("SC_CLK_TCK")


class Condition(Enum):
    """What is at a path that should have roots."""

    PEM = "PEM"
    MISSING = "no such file"
    UNREADABLE = "permission denied"
    EMPTY = "empty"
    DER = "DER, not PEM"
    DAMAGED = "damaged"
    FOREIGN = "no certificate in it"
    FOLDER = "a folder"


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder with roots: `name` is the variable, the setting or the store, `certificates` are its DER.

    `undo` is the command of a shell by which the variable or the setting no longer names it.
    `blocks` is the number of certificates with repetitions, `is_hashed` that OpenSSL finds them in this folder.
    """

    name: str
    path: str
    condition: Condition
    certificates: frozenset[bytes] = field(default=frozenset(), repr=False)
    blocks: int = 0
    is_hashed: bool = False
    undo: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that `edge serve` started: the bundle that its variables name, and whether that changed since.

    `is_of_server`: its server made the bundle for itself, and does not change it.
    """

    pid: int
    bundle: str
    is_outdated: bool
    is_of_server: bool = False


def read_place(name: str, path: Path) -> Place:
    """Return what is at `path`."""
    if os.path.isdir(path):
        return _read_folder(name, path)
    try:
        with open(path, "rb", opener=lambda text, flags: os.open(text, flags | os.O_NONBLOCK)) as file:
            content = file.read(MAX_BUNDLE_SIZE) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except PermissionError:
        return Place(name, str(path), Condition.UNREADABLE)
    except OSError:
        return Place(name, str(path), Condition.MISSING)
    condition, found = _certificates(content)
    return Place(name, str(path), condition, frozenset(found), len(found))


def read_variables(environ: Mapping[str, str]) -> Iterator[Place]:
    """Yield what each variable that names roots and is set names; variables of several paths give several."""
    for name in (*BUNDLE_VARIABLES, *EXTRA_VARIABLES):
        if environ.get(name):
            yield _named(name, environ[name])
    for path in filter(None, environ.get("SSL_CERT_DIR", "").split(os.pathsep)):
        yield _named("SSL_CERT_DIR", path)
    for path in parse_merged(environ.get(MERGED_VARIABLE, "")):
        yield _named(MERGED_VARIABLE, path)


def read_setting(setting: Setting) -> Place:
    """Return what a tool's own setting names."""
    return replace(read_place(setting.name, Path(setting.value).expanduser()), undo=setting.undo)


def switched_off(environ: Mapping[str, str]) -> list[Setting]:
    """Return the variables that are set so that nothing, or not everything, is verified."""
    found = [name for name, values in SWITCHES.items() if name in environ and values.fullmatch(environ[name])]
    return [Setting(name, environ[name], f"unset {name}") for name in found]


def changed_certifi() -> bool:
    """Return whether certifi's file is another one than pip installed; False when nobody knows."""
    try:
        files = distribution("certifi").files or ()
    except PackageNotFoundError:
        return False
    for file in files:
        if file.name == "cacert.pem" and file.hash is not None and file.hash.mode == "sha256":
            try:
                content = Path(str(file.locate())).read_bytes()
            except OSError:
                return False
            return base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode() != file.hash.value
    return False


def writable_by_others(paths: Iterable[Path]) -> list[Path]:
    """Return those of `paths` that another user could change, by their mode or as their owner."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
            found.append(path)
    return found


def read_workers(proc: Path, home: Path, booted_at: float) -> list[Worker]:
    """Return the running workers that this user may look at and whose EDGE_HOME is `home`; none without a /proc.

    `booted_at` is when the machine was started, in seconds since the epoch.
    """
    found = []
    for folder in sorted(proc.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        try:
            if b"edge_backend" in (folder / "cmdline").read_bytes().split(b"\0"):
                environ = _environ(folder)
                if edge_home(environ) == home:
                    found.append(_worker(folder, environ.get("SSL_CERT_FILE", ""), home, booted_at))
        except (OSError, CertificateError):
            continue  # gone meanwhile, or another user's
    return found


def _named(variable: str, path: str) -> Place:
    return replace(read_place(variable, Path(path)), undo=f"unset {variable}")


def _environ(folder: Path) -> dict[str, str]:
    items = (folder / "environ").read_bytes().split(b"\0")
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in (item.partition(b"=") for item in items)}


def _worker(folder: Path, bundle: str, home: Path, booted_at: float) -> Worker:
    # proc_pid_stat(5): the 22nd field, of which the second may hold spaces, is the start in ticks since the boot.
    started_at = booted_at + int((folder / "stat").read_text().rpartition(")")[2].split()[19]) / TICKS
    is_of_server = False
    try:
        with open(bundle, "rb", opener=lambda text, flags: os.open(text, flags | os.O_NONBLOCK)) as file:
            is_of_server = file.read(len(OF_SERVER)) == OF_SERVER
            changed_at = os.fstat(file.fileno()).st_mtime
        # What was added or removed since it was made is not in it, whenever the worker was started.
        is_outdated = _changed_at(home / "trust/state.json") > changed_at if is_of_server else changed_at > started_at
    except OSError:
        is_outdated = True
    return Worker(int(folder.name), bundle, is_outdated, is_of_server)


def _changed_at(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _read_folder(name: str, path: Path) -> Place:
    found: list[bytes] = []
    try:
        files = sorted(file for file in path.iterdir() if file.is_file())
        for file in files:
            with open(file, "rb") as opened:
                found += _certificates(opened.read(MAX_BUNDLE_SIZE))[1]
    except PermissionError:
        return Place(name, str(path), Condition.UNREADABLE)
    is_hashed = any(HASHED_NAME.fullmatch(file.name) for file in files)
    return Place(name, str(path), Condition.FOLDER, frozenset(found), len(found), is_hashed)


def _certificates(content: bytes) -> tuple[Condition, list[bytes]]:
    if not content.strip():
        return Condition.EMPTY, []
    labels = (*CERTIFICATE_LABELS, TRUSTED_LABEL)
    try:
        found = [certificate_der(block) for block in parse_blocks(content) if block.label in labels]
    except CertificateError:
        return Condition.DAMAGED, []
    if found:
        return Condition.PEM, found
    return (Condition.DER if content.startswith(DER_SEQUENCE) else Condition.FOREIGN), []
