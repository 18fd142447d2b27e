"""This machine with its trust stores replaced by copies, in a mount namespace: what is changed there, nobody else sees.

Each command runs in a namespace of its own over the same copies, so they follow one another as on a real machine.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# What stores are made of; of /usr/lib/jvm, the folders that hold a keystore.
STORES = ("/etc/ssl/certs", "/usr/local/share/ca-certificates", "/etc/ca-certificates/update.d")
RUNTIMES = "/usr/lib/jvm"
_NAMESPACE = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "--propagation", "private"]


class SystemTree:
    """Copies of the stores below `folder`. Hooks of update-ca-certificates are left out: they change other packages."""

    def __init__(self, folder: Path) -> None:
        self.copies = {store: folder / store.strip("/").replace("/", "-") for store in _stores()}
        for store, copy in self.copies.items():
            if Path(store).is_dir() and store != STORES[2]:
                shutil.copytree(store, copy, symlinks=True)
            else:
                copy.mkdir(parents=True)

    def copy_of(self, path: str) -> Path:
        """Return where the file `path` of the tree lies for those outside."""
        store = next(store for store in self.copies if path.startswith(f"{store}/"))
        return self.copies[store] / path.removeprefix(f"{store}/")

    def wrapper(self) -> list[str]:
        """Return the words before a command that make it run in the tree."""
        binds = [
            f"mount --bind {shlex.quote(str(copy))} {shlex.quote(store)}"
            for store, copy in self.copies.items()
            if Path(store).is_dir()
        ]
        return [*_NAMESPACE, "sh", "-ec", "\n".join([*binds, 'exec "$@"']), "sh"]

    def run(self, *command: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the tree to its end."""
        return subprocess.run(
            [*self.wrapper(), *command],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def fingerprint_of_stores() -> str:
    """Return a digest of every name, link and byte in this machine's stores."""
    digest = hashlib.sha256()
    for store in _stores():
        for path in sorted(Path(store).rglob("*")):
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            digest.update(b"%s %d " % (os.fsencode(path), len(content)) + content)
    return digest.hexdigest()


def need_tree() -> None:
    """Skip the test where nothing can be mounted, or the system is not Debian's kind."""
    if shutil.which("update-ca-certificates") is None:
        pytest.skip("needs update-ca-certificates of ca-certificates")
    probe = [*_NAMESPACE, "mount", "--bind", "/etc", "/etc"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs unshare --mount")


def _stores() -> Iterator[str]:
    yield from STORES
    for path in sorted(Path(RUNTIMES).glob("*/lib/security")):
        if not path.parents[1].is_symlink():
            yield str(path)
