"""Where content of requests waits until it is whole: in memory as long as it is little, else in a file without a name.

Theory of operation
-------------------
A process has one `Spool`, which counts what all `Content` takes, in memory and on disk. Content begins in memory. When
it has more than `IN_MEMORY` bytes, or memory is full, all of it moves to a file that was never linked (or is unlinked
at once, where the file system knows no other way): nobody else can open it, and nothing is left behind, however the
process ends.

Files are written and read in the event loop: what is written goes to the page cache, and what is read was written a
moment ago; a thread for each would cost more than the copy.
"""

from __future__ import annotations

import os
import tempfile
from io import FileIO

# Content of one request up to this size stays in memory; a worker gets it with the head, in one frame.
IN_MEMORY = 64 * 1024
# What all content of a process takes of memory while it comes: a thousand slow forms.
MAX_MEMORY = 64 * 1024 * 1024


class SpoolFull(Exception):
    """There is no room now: others hold it."""


class NeverFits(Exception):
    """There will never be room for content of this size."""


class Spool:
    """The room of one process for content that waits. Sizes in bytes."""

    __slots__ = ("_max_disk", "_max_memory", "folder", "in_memory", "on_disk")

    def __init__(self, folder: str, max_disk: int, *, max_memory: int = MAX_MEMORY) -> None:
        self.folder = folder
        self.in_memory = 0
        self.on_disk = 0
        self._max_disk = max_disk
        self._max_memory = max_memory

    def check(self, size: int) -> None:
        """Look whether content of `size` bytes would find room now; none is taken.

        Raises NeverFits if it is more than all the room there is, SpoolFull if others hold too much of that.
        """
        if not self._fits_memory(size, size):
            self._check_disk(size, size)

    def take_memory(self, size: int, total: int) -> bool:
        """Take room for `size` bytes of content that is `total` bytes with them; False if it belongs on disk."""
        if not self._fits_memory(size, total):
            return False
        self.in_memory += size
        return True

    def take_disk(self, size: int, total: int) -> None:
        """Take room for `size` bytes of content that is `total` bytes with them. Raises as `check` does."""
        self._check_disk(size, total)
        self.on_disk += size

    def _fits_memory(self, size: int, total: int) -> bool:
        return total <= IN_MEMORY and self.in_memory + size <= self._max_memory

    def _check_disk(self, size: int, total: int) -> None:
        if total > self._max_disk:
            raise NeverFits(f"content of {total} bytes is to be held, and there is room for {self._max_disk}")
        if self.on_disk + size > self._max_disk:
            raise SpoolFull(f"the spool is full: {self.on_disk} bytes wait there, at most {self._max_disk} allowed")


class Content:
    """The content of one request. It is written once and may be read several times; `close()` gives its room back."""

    __slots__ = ("_file", "_in_memory_only", "_pieces", "_spool", "position", "size")

    def __init__(self, spool: Spool, *, in_memory_only: bool = False) -> None:
        self.size = 0
        self._in_memory_only = in_memory_only
        self.position = 0  # of what `read` gives next
        self._spool = spool
        self._pieces: list[bytes] = []
        self._file: FileIO | None = None

    @property
    def is_in_memory(self) -> bool:
        """True as long as no file was needed."""
        return self._file is None

    def add(self, piece: bytes) -> None:
        """Take content that has come; after an error it is in memory as before, or closed.

        Raises NeverFits and SpoolFull if there is no room for it, OSError if it cannot be written.
        """
        size, total = len(piece), self.size + len(piece)
        if self._file is not None:
            self._spool.take_disk(size, total)
        elif self._spool.take_memory(size, total):
            self._pieces.append(piece)
            self.size = total
            return
        elif self._in_memory_only:
            raise SpoolFull(f"memory is full: {self._spool.in_memory} bytes wait there")
        else:
            self._spool.take_disk(total, total)
            self._file = _open(self._spool, total)
            piece = self._leave_memory() + piece
        self.size = total
        self._write(self._file, piece)

    def take(self) -> bytes:
        """Return what is in memory; it is the caller's from here on."""
        return self._leave_memory()

    def read(self, size: int) -> bytes:
        """Return the next bytes of the file, at most `size`; none behind the end. Raises OSError."""
        if self._file is None:
            return b""
        piece = os.pread(self._file.fileno(), size, self.position)
        if not piece and self.position < self.size:
            raise OSError(f"{self.size - self.position} bytes of the file are missing")
        self.position += len(piece)
        return piece

    def close(self) -> None:
        """Give the room back."""
        self._leave_memory()
        file, self._file = self._file, None
        if file is not None:
            self._spool.on_disk -= self.size
            file.close()

    def _leave_memory(self) -> bytes:
        content, self._pieces = b"".join(self._pieces), []
        self._spool.in_memory -= len(content)
        return content

    def _write(self, file: FileIO, piece: bytes) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            self.close()
            raise


def _open(spool: Spool, taken: int) -> FileIO:
    """Return a file without a name in the spool's folder; `taken` bytes of room go back if there can be none."""
    try:
        return tempfile.TemporaryFile(dir=spool.folder, buffering=0)
    except OSError:
        spool.on_disk -= taken
        raise
