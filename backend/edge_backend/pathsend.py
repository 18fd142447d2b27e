"""ASGI's path send: the application names a file, and whoever serves sends it (extension http.response.pathsend).

The edge sends what lies below `--sendfile-root`. Of any other file it knows nothing and is told nothing: it may read
more than the application, so that one is read here, with the application's own rights.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Protocol
from urllib.parse import quote

from .errors import ApplicationError

_PIECE = 64 * 1024


class Answer(Protocol):
    """The exchange whose answer the file is."""

    def hand_over(self, path: bytes) -> bool: ...
    async def send(self, message: dict[str, Any]) -> None: ...


def find_below(path: str, root: str) -> bytes | None:
    """Return the path of a file below `root`, quoted as in a URL; None if it lies elsewhere."""
    real, folder = os.path.realpath(path), os.path.realpath(root).rstrip("/") + "/"
    if not real.startswith(folder):
        return None
    return quote(os.fsencode(real[len(folder) :])).encode()


async def send_path(answer: Answer, path: str, root: str) -> None:
    """Send the file at `path`, which the edge does if it lies below `root`.

    Raises ApplicationError if the path is not absolute, OSError if there is no such file.
    """
    if not os.path.isabs(path):
        raise ApplicationError(f"path {path!r} is not absolute; http.response.pathsend takes absolute paths only")
    below = find_below(path, root)
    if below is not None and answer.hand_over(below):
        return
    loop = asyncio.get_running_loop()
    file = await loop.run_in_executor(None, open, path, "rb")
    try:
        while data := await loop.run_in_executor(None, file.read, _PIECE):
            await answer.send({"type": "http.response.body", "body": data, "more_body": True})
    finally:
        file.close()
    await answer.send({"type": "http.response.body", "body": b""})
