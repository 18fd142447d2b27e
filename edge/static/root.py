"""A folder whose files are served: each is opened beneath it, name by name, by descriptors alone.

Theory of operation
-------------------
A path is never handed to the kernel as a whole, so it does not matter what is renamed or swapped meanwhile: each name
is opened in the directory that the one before has opened, and never through a symbolic link. A link is read and its
names are walked in the same way, so one that stays beneath the root is followed, and one that does not leads nowhere.
`..` in a link goes back to the directory that was opened on the way, not to what is above it by then.

The root itself is the operator's word: links on the way to it are followed, and when it is another folder than before
(`current -> release-42`), that is served from the next second on.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

# A link that leads to itself is noticed by counting, as the kernel does (Linux: 40).
_MAX_LINKS = 40
# How long a root is believed to be the same folder, in seconds.
_ROOT_AGE = 1.0

# O_PATH asks for no permission to list. Elsewhere than on Linux a directory has to be readable.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO without a writer would wait for one, and a terminal could become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# Reading 256 KiB takes 0.05 ms out of memory, 3.4 ms from the disk that this was measured on, and a thread costs 0.045:
# so whoever reads asks first if it would have to wait (docs/performance.md). Linux alone can tell (preadv2).
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

# Up to here it costs less to copy what was read than to ask first.
SMALL = 16 * 1024

# What opening says of a symbolic link: ELOOP, of a directory ENOTDIR; FreeBSD and NetBSD have their own.
_IS_LINK = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP)))


class NotServedError(Exception):
    """There is no such file here; `reason` is for the log, and empty when that is nothing to tell the operator."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class OpenFile:
    """A file or folder that is open, and what it was when it was opened. It is closed when nobody uses it any more."""

    __slots__ = ("_users", "descriptor", "status")

    def __init__(self, descriptor: int) -> None:
        """Own the descriptor, with one user."""
        self.descriptor = descriptor
        self._users = 1
        self.status = os.fstat(descriptor)

    @property
    def is_folder(self) -> bool:
        """Tell whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def identity(self) -> tuple[int, ...]:
        """What differs when the file was replaced or changed."""
        found = self.status
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def hold(self) -> None:
        """Count one more user."""
        self._users += 1

    def release(self) -> None:
        """One user has done with it."""
        self._users -= 1
        if not self._users:
            os.close(self.descriptor)

    def read_now(self, start: int, size: int) -> bytes | None:
        """Return what `read` would, if no disk has to be waited for; None if one has.

        Where the system cannot tell, it may be waited for. Raises OSError.
        """
        if not _NOWAIT:
            return self.read(start, size)
        # Of much, the last byte stands for all: what is read in one go is forgotten in one go.
        probe = bytearray(size if size <= SMALL else 1)
        try:
            count = os.preadv(self.descriptor, (probe,), start + size - len(probe), _NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            count = 0
        return bytes(probe) if count == size else self.read(start, size)

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from `start` on; fewer only where the file ends.

        Raises OSError.
        """
        data = os.pread(self.descriptor, size, start)
        while len(data) < size:
            more = os.pread(self.descriptor, size - len(data), start + len(data))
            if not more:
                break
            data += more
        return data


class Root:
    """The folder at `path`, which need not be there yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._real = b""
        self._folder = -1
        self._checked_at = -_ROOT_AGE

    def close(self) -> None:
        """Let go of the folder."""
        if self._folder >= 0:
            os.close(self._folder)
        self._folder = -1

    def open(self, names: Sequence[str], now: float) -> OpenFile:
        """Open what the names lead to, one below the other: a regular file or a folder. `now` is monotonic.

        Raises NotServedError.
        """
        self._find_root(now)
        walk = _Walk(self._folder, self._real)
        try:
            descriptor = walk.open([name.encode() for name in names])
        except OSError as error:
            raise NotServedError(_explain(error)) from None
        finally:
            walk.close()
        file = OpenFile(descriptor)
        if not (file.is_folder or stat.S_ISREG(file.status.st_mode)):
            file.release()
            raise NotServedError(f"{'/'.join(names)!r} is neither a file nor a folder")
        return file

    def _find_root(self, now: float) -> None:
        """Open the root, again when its path leads elsewhere by now."""
        if self._folder >= 0 and now - self._checked_at < _ROOT_AGE:
            return
        try:
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise NotServedError(f"static root {self._path!r}: {_strerror(error)}") from None
        self.close()
        self._folder, self._checked_at = folder, now
        self._real = os.path.realpath(self._path).encode()


class _Walk:
    """One way through a root: the directories that are open on it."""

    def __init__(self, root: int, real: bytes) -> None:
        self._root = root
        self._real = real
        self._opened: list[int] = []
        self._links = 0

    def close(self) -> None:
        """Close the directories on the way."""
        for folder in self._opened:
            os.close(folder)
        self._opened.clear()

    def open(self, names: list[bytes]) -> int:
        """Return a descriptor of what the names lead to.

        Raises OSError.
        """
        ahead = names[::-1] or [b"."]
        while True:
            name = ahead.pop()
            if name == b"..":
                self._go_back()
            elif ahead:
                self._enter(name, ahead)
            else:
                found = self._open_last(name, ahead)
                if found is not None:
                    return found
            if not ahead:
                ahead.append(b".")  # a link that ended with `..`, or led to the root

    def _here(self) -> int:
        return self._opened[-1] if self._opened else self._root

    def _go_back(self) -> None:
        if not self._opened:
            raise OSError(errno.EXDEV, "a symbolic link leads out of the root")
        os.close(self._opened.pop())

    def _enter(self, name: bytes, ahead: list[bytes]) -> None:
        if name == b".":
            return
        try:
            self._opened.append(os.open(name, _FOLDER, dir_fd=self._here()))
        except OSError as error:
            self._follow(name, ahead, error)

    def _open_last(self, name: bytes, ahead: list[bytes]) -> int | None:
        try:
            return os.open(name, _FILE, dir_fd=self._here())
        except OSError as error:
            self._follow(name, ahead, error)
            return None

    def _follow(self, name: bytes, ahead: list[bytes], error: OSError) -> None:
        """Put the names that a link stands for before those that are ahead; raise `error` if it is none."""
        if error.errno not in _IS_LINK:
            raise error
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, "more than 40 symbolic links")
        try:
            target = os.readlink(name, dir_fd=self._here())
        except OSError:
            raise error from None
        if target.startswith(b"/"):
            target = self._beneath(target)
        ahead += [part for part in target.split(b"/")[::-1] if part not in (b"", b".")]

    def _beneath(self, target: bytes) -> bytes:
        """Return an absolute link's names below the root, from which the walk begins again."""
        if target != self._real and not target.startswith(self._real.rstrip(b"/") + b"/"):
            raise OSError(errno.EXDEV, "a symbolic link leads out of the root")
        self.close()
        return target[len(self._real) :]


def _explain(error: OSError) -> str:
    """Return what the operator should know of a file that could not be opened: nothing when there is just none."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return ""
    return _strerror(error)


def _strerror(error: OSError) -> str:
    return str(error.strerror).lower()
