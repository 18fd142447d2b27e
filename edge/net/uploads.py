"""Content that clients are sending on one HTTP/2 connection: what of it waits here, and which of it comes too slowly.

What a worker has not taken keeps its room in the client's windows: they open again as it is handed on, or dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge.http.http2 import Http2Connection
from edge.net.service import RATE_GRACE


class _Upload:
    """Content of one request: when it began, when the last of it came, how much, and what waits here."""

    __slots__ = ("began_at", "came_at", "is_timed", "size", "waiting")

    def __init__(self, now: float, *, is_timed: bool) -> None:
        self.is_timed = is_timed  # it is the client that has to go on
        self.began_at = now
        self.came_at = now
        self.size = 0
        self.waiting = 0  # bytes that no worker has taken yet


class Uploads:
    """The requests of a connection whose content is not whole, by their streams."""

    __slots__ = ("_core", "_uploads")

    def __init__(self, core: Http2Connection) -> None:
        self._core = core
        self._uploads: dict[int, _Upload] = {}

    def __bool__(self) -> bool:
        return bool(self._uploads)

    def begin(self, number: int, now: float, *, is_timed: bool) -> None:
        """Content will follow a head; `is_timed`: the client has no reason to wait with it."""
        self._uploads[number] = _Upload(now, is_timed=is_timed)

    def receive(self, number: int, size: int, now: float, *, is_last: bool) -> None:
        """So much content came, and waits."""
        upload = self._uploads[number]
        upload.came_at = now
        upload.is_timed = upload.is_timed and not is_last
        upload.size += size
        upload.waiting += size

    def hand_on(self, number: int) -> None:
        """All that waits has been taken, unless it is forgotten by now: the client may send as much again."""
        upload = self._uploads.get(number)
        if upload is not None:
            self._core.consumed(number, upload.waiting)
            upload.waiting = 0

    def ask(self, number: int, now: float) -> None:
        """The client is told to send its content: until now it was not the one to wait for."""
        upload = self._uploads.get(number)
        if upload is not None:
            upload.began_at = upload.came_at = now
            upload.is_timed = True

    def go_on(self, number: int, now: float) -> bool:
        """The worker has room again; tell whether anything waited for that."""
        upload = self._uploads.get(number)
        if upload is None or not upload.waiting:
            return False
        self.hand_on(number)
        upload.began_at = upload.came_at = now
        upload.size = 0
        return True

    def forget(self, number: int) -> None:
        """Drop what waits of a request: other requests of the connection may have its room."""
        upload = self._uploads.pop(number, None)
        if upload is not None and upload.waiting:
            self._core.consumed(number, upload.waiting)

    def clear(self) -> None:
        """The client has left."""
        self._uploads.clear()

    def late(self, now: float, idle: float, least: float) -> Iterator[tuple[int, str]]:
        """Yield the streams whose content stopped coming `idle` seconds ago, or comes at fewer than `least` bytes a
        second, and why each is refused; meanwhile they may be forgotten."""
        for number, upload in list(self._uploads.items()):
            if not upload.is_timed:
                continue
            if upload.waiting:
                upload.came_at = now  # it is the worker that is slow
            elif now - upload.came_at > idle:
                yield number, "content stopped coming"
            elif least and now - upload.began_at > RATE_GRACE:
                rate = upload.size / (now - upload.began_at)
                if rate < least:
                    yield number, f"content comes at {rate:.0f} bytes/s, at least {least} expected"
