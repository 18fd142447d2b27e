"""Content that waits: memory first, then a file without a name, and room that always comes back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.dispatch.spool import IN_MEMORY, Content, NeverFits, Spool, SpoolFull

LARGE = b"x" * IN_MEMORY
ROOM = 4 * IN_MEMORY


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the kernel refuse to let a file grow beyond `size`, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def read_all(content: Content, step: int) -> bytes:
    pieces = []
    while piece := content.read(step):
        pieces.append(piece)
    return b"".join(pieces)


def test_little_content_stays_in_memory_and_is_handed_over() -> None:
    spool = Spool("", 0)
    content = Content(spool)
    content.add(b"ab")
    content.add(b"cd")
    assert (content.size, content.is_in_memory, spool.in_memory) == (4, True, 4)
    assert content.take() == b"abcd"
    assert spool.in_memory == 0
    content.close()
    assert spool.in_memory == 0


def test_content_that_grows_moves_to_a_file_without_a_name(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOM)
    content = Content(spool)
    content.add(b"head")
    content.add(LARGE)
    content.add(b"tail")
    assert not content.is_in_memory
    assert (spool.in_memory, spool.on_disk) == (0, len(LARGE) + 8)
    assert list(tmp_path.iterdir()) == []
    assert read_all(content, 1000) == b"head" + LARGE + b"tail"
    content.position = len(LARGE)
    assert read_all(content, 1000) == LARGE[-4:] + b"tail"
    content.close()
    assert spool.on_disk == 0


def test_full_memory_sends_little_content_to_disk(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOM, max_memory=10)
    first, second = Content(spool), Content(spool)
    first.add(b"12345678")
    second.add(b"abc")
    assert first.is_in_memory
    assert not second.is_in_memory
    assert read_all(second, 10) == b"abc"
    first.close()
    second.close()
    assert (spool.in_memory, spool.on_disk) == (0, 0)


def test_full_memory_is_no_room_for_what_stays_there(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOM, max_memory=10)
    content = Content(spool, in_memory_only=True)
    content.add(b"12345678")
    with pytest.raises(SpoolFull, match="memory is full: 8 bytes wait there"):
        content.add(b"abc")
    assert content.take() == b"12345678"


def test_content_that_is_more_than_the_spool_never_fits(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOM)
    with pytest.raises(NeverFits, match=f"content of {ROOM + 1} bytes is to be held, and there is room for {ROOM}"):
        spool.check(ROOM + 1)
    content = Content(spool)
    for _ in range(4):
        content.add(LARGE)
    with pytest.raises(NeverFits):
        content.add(b"x")
    content.close()
    assert spool.on_disk == 0


def test_content_has_no_room_while_others_hold_it(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOM)
    first, second = Content(spool), Content(spool)
    first.add(LARGE * 3)
    with pytest.raises(SpoolFull, match=f"the spool is full: {3 * IN_MEMORY} bytes wait there, at most {ROOM} allowed"):
        spool.check(2 * IN_MEMORY)
    with pytest.raises(SpoolFull):
        second.add(LARGE * 2)
    first.close()
    spool.check(2 * IN_MEMORY)
    second.add(LARGE * 2)
    assert spool.on_disk == 2 * IN_MEMORY
    second.close()


def test_what_memory_takes_needs_no_disk(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 1)
    spool.check(IN_MEMORY)
    with pytest.raises(NeverFits):
        spool.check(IN_MEMORY + 1)


def test_full_disk_is_an_error_and_gives_the_room_back(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOM)
    content = Content(spool)
    with files_of_at_most(IN_MEMORY):
        content.add(b"x")
        with pytest.raises(OSError, match="File too large"):
            content.add(LARGE)
    assert (spool.in_memory, spool.on_disk) == (0, 0)


def test_folder_that_is_gone_is_an_error_and_gives_the_room_back(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    spool = Spool(str(folder), ROOM)
    content = Content(spool)
    content.add(b"begin")
    with pytest.raises(FileNotFoundError):
        content.add(LARGE)
    assert (content.take(), spool.on_disk) == (b"begin", 0)


def test_file_that_was_cut_is_an_error_and_not_a_shorter_request(tmp_path: Path) -> None:
    content = Content(Spool(str(tmp_path), ROOM))
    content.add(LARGE + b"x")
    assert content._file is not None
    os.ftruncate(content._file.fileno(), 10)
    assert content.read(100) == b"x" * 10
    with pytest.raises(OSError, match="bytes of the file are missing"):
        content.read(100)
    content.close()


def test_closed_content_has_nothing(tmp_path: Path) -> None:
    content = Content(Spool(str(tmp_path), ROOM))
    content.add(LARGE + b"x")
    content.close()
    content.close()
    assert content.read(10) == b""
