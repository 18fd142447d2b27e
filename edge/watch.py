"""The process that watches the application's files, as the master sees it: started, heard, ended (edge/watcher.py)."""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edge.config_reload import EXCLUDED, INCLUDED, ReloadSettings

logger = logging.getLogger("edge.master")

# So many names of changed files are enough for a line of the log.
_NAMED = 3


class CodeWatch:
    """Calls `changed` when files of the application have changed. It runs if the settings say so."""

    def __init__(
        self,
        settings: ReloadSettings,
        app_dir: str,
        selector: selectors.BaseSelector,
        changed: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._changed = changed
        self._buffer = b""
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        if settings.on:
            self._folders = settings.folders(app_dir)
            self._running = self._start(settings)

    @property
    def is_on(self) -> bool:
        """True if the settings say so."""
        return self._running is not None

    @property
    def pids(self) -> list[int]:
        """The process, if there is one."""
        return [self._running[0].pid] if self._running is not None else []

    def leave(self) -> None:
        """In a child: close what is the master's."""
        if self._running is not None:
            self._running[1].close()

    def end(self) -> None:
        """End and reap it."""
        if self._running is None:
            return
        process, control = self._running
        control.close()
        process.kill()  # it holds nothing that could be lost
        process.wait()
        self._running = None

    def _start(self, settings: ReloadSettings) -> tuple[subprocess.Popen[bytes], socket.socket]:
        control, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "edge.watcher", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        order = {
            "folders": [str(folder) for folder in self._folders],
            # A default that is named on the other side gives way to it.
            "includes": [*(set(INCLUDED) - set(settings.excludes)), *settings.includes],
            "excludes": [*(set(EXCLUDED) - set(settings.includes)), *settings.excludes],
            "delay": settings.delay,
        }
        control.sendall(json.dumps(order).encode() + b"\n")
        control.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ, lambda: self._readable(control))
        return process, control

    def _readable(self, control: socket.socket) -> None:
        try:
            data = control.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(control)
            logger.error("reload: the process that watches files has ended; restart the server to have one again")
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        paths: list[str] = []
        for report in map(json.loads, lines):
            if "watching" in report:
                logger.info("reload: watching %s", ", ".join(map(str, self._folders)))
            paths += report.get("changed", [])
        if paths:
            names = [os.path.relpath(path, _parent(path, self._folders)) for path in dict.fromkeys(paths)]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            logger.info("reload: %s%s changed; requests wait for the new code", ", ".join(names[:_NAMED]), more)
            self._changed()


def _parent(path: str, folders: list[Path]) -> Path:
    return next((folder for folder in folders if Path(path).is_relative_to(folder)), Path("/"))
