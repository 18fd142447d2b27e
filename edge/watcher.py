"""The program that watches files: `python -P -m edge.watcher DESCRIPTOR`, its orders a JSON line on that socket.

It answers `{"watching": true}` when nothing can escape it any more, then one line `{"changed": [path, ...]}` for each
group of changes. It is a process because the master has no event loop and no threads (decision 8): forking does not go
with threads.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

# How long the end of the master may go unnoticed.
_TICK_MS = 500
# Changes that do not stop count as one after this many delays.
_LONGEST = 10


class SourceFilter:
    """Which files count. A pattern with a slash is held against the path below the directory that is watched; one
    without against the name, and one of `excludes` against the name of each directory on the way too.
    """

    def __init__(self, folders: Sequence[Path], includes: Sequence[str], excludes: Sequence[str]) -> None:
        self._folders = folders
        self._includes = includes
        self._excludes = excludes

    def is_wanted(self, path: PurePath) -> bool:
        """True if a change of this file is a change of the code."""
        below = [path.relative_to(folder) for folder in self._folders if path.is_relative_to(folder)]
        return any(self._counts(item) for item in below)

    def _counts(self, path: PurePath) -> bool:
        if any(self._matches(pattern, path, path.parts) for pattern in self._excludes):
            return False
        return any(self._matches(pattern, path, path.parts[-1:]) for pattern in self._includes)

    @staticmethod
    def _matches(pattern: str, path: PurePath, names: Sequence[str]) -> bool:
        if "/" in pattern:
            return fnmatchcase(path.as_posix(), pattern)
        return any(fnmatchcase(name, pattern) for name in names)


def watch_files(control: socket.socket) -> None:
    """Take orders from the socket, report there, and return when the other end is closed."""
    from watchfiles import watch

    with control, control.makefile("r") as lines:
        order = json.loads(lines.readline())
        folders = [Path(folder) for folder in order["folders"]]
        wanted = SourceFilter(folders, order["includes"], order["excludes"])
        delay = max(1, round(order["delay"] * 1000))
        groups = watch(
            *folders,
            watch_filter=lambda _, path: wanted.is_wanted(PurePath(path)),
            step=delay,
            debounce=_LONGEST * delay,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        is_watching = False
        for group in groups:
            if select.select([control], [], [], 0)[0]:
                return
            if not is_watching:
                # Not before the first answer: now it is sure that the watch has begun.
                control.sendall(b'{"watching": true}\n')
                is_watching = True
            if group:
                changed = sorted({path for _, path in group})
                control.sendall(json.dumps({"changed": changed}).encode() + b"\n")


if __name__ == "__main__":
    # Ctrl-C goes to the whole group; what it means is for the master to decide.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the master has ended
        watch_files(socket.socket(fileno=int(sys.argv[1])))
