"""`--user` and `--group`: who edges and workers are, once the master has bound the ports and read the keys.

The master stays root: it reads keys again, binds nothing but forks edges and starts workers as the other user, and no
byte of a client comes to it (docs/design/decisions/0023-the-master-stays-root.md).
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edge.errors import ConfigError
from edge_backend.identity import Identity

# What Python takes to start and to import the worker, on a machine that is busy.
TRIAL_TIMEOUT = 30.0


def find_identity(user: str, group: str) -> Identity | None:
    """Return who edges and workers are to be, None if that is who we are anyway.

    Raises ConfigError: there is no such user or group, it is root, or we are not root and so cannot be anybody else.
    """
    if not user:
        if group:
            raise ConfigError(f"--group {group!r}: without --user it is for nothing; add --user")
        return None
    account = _account(user)
    gid = _gid(group) if group else account.pw_gid if account is not None else None
    uid = int(user) if account is None else account.pw_uid
    if gid is None:
        raise ConfigError(f"--user {user!r}: no account has that number, so its group is not known; add --group")
    if uid == 0:
        raise ConfigError(f"--user {user!r}: it is root that edges and workers are not to be; use another account")
    if os.geteuid() != 0:
        if (uid, gid) == (os.geteuid(), os.getegid()):
            return None
        raise ConfigError(f"--user {user!r}: only root can become another user; start as root, or leave out --user")
    if account is None:
        return Identity(uid, gid, (gid,), user, "/")
    return Identity(uid, gid, tuple(os.getgrouplist(account.pw_name, gid)), account.pw_name, account.pw_dir)


def refuse_unable(identity: Identity, python: str, environ: Mapping[str, str]) -> None:
    """Have the user run `python` and import what a worker is made of.

    Raises ConfigError: it cannot, as where Python or the environment lies in a folder that is closed to it.
    """
    what = f"--user {identity.name!r}: cannot run {python}"
    do = "let that user read it and what it imports"
    command = [python, "-P", "-c", "import edge_backend.process"]
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**environ, **identity.variables},
            timeout=TRIAL_TIMEOUT,
            **identity.popen,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error.strerror).lower() if isinstance(error, OSError) else "it takes too long"
        raise ConfigError(f"{what}: {reason}; {do}") from None
    if done.returncode:
        [*_, last] = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConfigError(f"{what}: {last}; {do}")


def can_enter(identity: Identity, folder: Path) -> bool:
    """True if the user gets into `folder`, by its permissions and those of all folders on the way."""
    path = folder.absolute()
    return all(_may_search(identity, place) for place in (path, *path.parents))


def let_in(identity: Identity, folder: Path, top: Path) -> None:
    """Let the user get at what is in `folder` and is for others: it may enter it and the folders above up to `top`.

    It may list neither. Raises ConfigError: a folder above `top` is closed to it.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            place.chmod(place.stat().st_mode & 0o7777 | 0o011)
        if place == top:
            break
    if not can_enter(identity, top):
        what = f"--user {identity.name!r}: may not enter {str(top)!r}, where what it needs is"
        raise ConfigError(f"{what}; set EDGE_HOME to another folder")


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if user.isdigit():
            return None
        raise ConfigError(f"--user {user!r}: no such user here; use one that exists, or its number") from None


def _gid(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"--group {group!r}: no such group here; use one that exists, or its number") from None


def _may_search(identity: Identity, folder: Path) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return False
    if status.st_uid == identity.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid in (identity.gid, *identity.groups):
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)
