"""Whom a process acts as, when the one that starts it is root and it shall not be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """A user with its groups, by number; `name` and `home` are what the environment says of it."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of its programs says."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    @property
    def popen(self) -> dict[str, Any]:
        """What `subprocess.Popen` is told to start a program of this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def take(self) -> None:
        """Be this user from now on, for ever: called by root.

        On Linux the process cannot be traced afterwards, not even by others of this user, unless it runs another
        program: what is in its memory stays its own.
        """
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)
