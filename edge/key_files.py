"""Who may read the file of a private key: whoever can is the site, for every client that believes the certificate."""

from __future__ import annotations

import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edge_certs.errors import CertificateError, place, reason


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The file of a private key: its permissions, the name of its group, and whether this user may change them."""

    place: str
    mode: int
    group: str
    is_ours: bool

    @property
    def exposure(self) -> str:
        """Who else may read it and what to do, in one line; empty if its owner alone may."""
        if not self.mode & (stat.S_IRGRP | stat.S_IROTH):
            return ""
        is_public = self.mode & stat.S_IROTH
        who = "everybody" if is_public else f"group {self.group!r}"
        if not self.is_ours:
            # Who reads it by its group would be shut out by another mode.
            do = "serve a copy that this user owns with mode 600, or start as root with --user"
        elif is_public:
            do = "chmod 600"
        else:
            do = "chmod 600, or serve a copy with that mode where the group needs this one"
        return f"key {self.place}: mode {self.mode:03o}, {who} may read it; {do}"


def look_at_key(path: Path) -> KeyFile:
    """Return what there is to know of the file of a key.

    Raises CertificateError: it is not there any more, or in a folder that is closed.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CertificateError(f"key {place(path)}: {reason(error)}", "name a file that this user may read") from error
    return KeyFile(
        place(path), stat.S_IMODE(status.st_mode), _group_name(status.st_gid), os.geteuid() in (0, status.st_uid)
    )


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
