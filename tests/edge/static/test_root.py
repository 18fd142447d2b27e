"""Files below a folder: links that stay inside, links that do not, and what is no file at all."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.static.root import NotServedError, OpenFile, Root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    (public / "a/b").mkdir(parents=True)
    (public / "a/b/file.txt").write_text("inside")
    (public / "top.txt").write_text("top")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.txt").write_text("secret")
    return public


@pytest.fixture
def root(folder: Path) -> Iterator[Root]:
    found = Root(str(folder))
    yield found
    found.close()


def read(root: Root, path: str, now: float = 0.0) -> str:
    file = root.open(path.split("/"), now)
    try:
        return "folder" if file.is_folder else file.read(0, 100).decode()
    finally:
        file.release()


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_file_and_folder_are_opened(root: Root) -> None:
    assert read(root, "top.txt") == "top"
    assert read(root, "a/b/file.txt") == "inside"
    assert read(root, "a/b") == "folder"
    file = root.open((), 0.0)
    assert file.is_folder
    file.release()


@pytest.mark.parametrize("path", ["none", "none/x", "top.txt/x", "a/b/none", "x" * 300])
def test_what_is_not_there_needs_no_word(root: Root, path: str) -> None:
    with pytest.raises(NotServedError) as refused:
        read(root, path)
    assert not refused.value.reason


@pytest.mark.parametrize(
    ("link", "target", "path", "content"),
    [
        ("link", "top.txt", "link", "top"),
        ("link", "./a/b/file.txt", "link", "inside"),
        ("link", "a", "link/b/file.txt", "inside"),
        ("a/link", "../top.txt", "a/link", "top"),
        ("a/b/link", "../../a/b/", "a/b/link/file.txt", "inside"),
        ("a/link", "..", "a/link", "folder"),
        ("a/link", "b/..", "a/link", "folder"),
        ("link", "{root}/a/b/file.txt", "link", "inside"),
        ("a/link", "{root}", "a/link/top.txt", "top"),
        ("a/link", "{root}", "a/link", "folder"),
    ],
)
def test_link_that_stays_inside_is_followed(
    root: Root, folder: Path, link: str, target: str, path: str, content: str
) -> None:
    (folder / link).symlink_to(target.format(root=folder))
    assert read(root, path) == content


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link", "../outside/secret.txt", "link"),
        ("link", "../outside", "link/secret.txt"),
        ("link", "/etc/passwd", "link"),
        ("link", "{root}/../outside/secret.txt", "link"),
        ("link", "{root}2/x", "link"),
        ("a/link", "../../outside/secret.txt", "a/link"),
        ("a/link", "b/../../../outside/secret.txt", "a/link"),
        ("link", "../public/top.txt", "link"),  # inside again, but by way of what is outside
    ],
)
def test_link_that_leads_out_is_not(root: Root, folder: Path, link: str, target: str, path: str) -> None:
    (folder / link).symlink_to(target.format(root=folder))
    with pytest.raises(NotServedError, match="leads out of the root"):
        read(root, path)


def test_links_in_a_circle_end(root: Root, folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    with pytest.raises(NotServedError, match="more than 40"):
        read(root, "one")
    with pytest.raises(NotServedError, match="more than 40"):
        read(root, "one/x")


def test_link_to_nothing_is_nothing(root: Root, folder: Path) -> None:
    (folder / "link").symlink_to("gone")
    with pytest.raises(NotServedError) as refused:
        read(root, "link")
    assert not refused.value.reason


def test_fifo_and_socket_are_no_files(root: Root, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "fifo")
    with pytest.raises(NotServedError, match="neither a file nor a folder"):
        read(root, "fifo")  # without a writer: opening it must not wait
    monkeypatch.chdir(folder)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(NotServedError):
            read(root, "socket")


def test_file_that_may_not_be_read_says_so_to_the_operator(root: Root, folder: Path) -> None:
    (folder / "a/b/file.txt").chmod(0)
    assert read(root, "top.txt") == "top"
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(NotServedError, match="permission denied"):
            read(root, "a/b/file.txt")
    finally:
        os.seteuid(user)


def test_file_that_is_only_on_the_disk_is_not_at_hand(folder: Path) -> None:
    content = os.urandom(1 << 20)
    (folder / "cold").write_bytes(content)
    file = OpenFile(os.open(folder / "cold", os.O_RDONLY))
    try:
        os.fsync(file.descriptor)
        os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if file.read_now(0, 1 << 19) is not None:
            pytest.skip("the file system keeps files in memory (tmpfs), or does not say so (RWF_NOWAIT)")
        assert file.read(0, 1 << 20) == content
        assert file.read_now(0, 1 << 20) == content
    finally:
        file.release()


def test_nothing_stays_open(root: Root, folder: Path) -> None:
    (folder / "link").symlink_to("../outside/secret.txt")
    read(root, "top.txt")
    before = count_descriptors()
    for path in ("a/b/file.txt", "a/b", "none", "a/b/none", "link"):
        try:
            read(root, path)
        except NotServedError:
            continue
    assert count_descriptors() == before


def test_root_that_becomes_another_folder_is_served_a_second_later(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    (tmp_path / "current").symlink_to("one")
    root = Root(str(tmp_path / "current"))
    assert read(root, "name", 10.0) == "one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "current")
    assert read(root, "name", 10.5) == "one"
    assert read(root, "name", 11.5) == "two"
    (tmp_path / "current").unlink()
    with pytest.raises(NotServedError, match="no such file"):
        read(root, "name", 13.0)
    (tmp_path / "current").symlink_to("one")
    assert read(root, "name", 13.1) == "one"
    root.close()


def test_file_is_closed_by_its_last_user(folder: Path) -> None:
    file = OpenFile(os.open(folder / "top.txt", os.O_RDONLY))
    file.hold()
    file.release()
    assert file.read(1, 9) == b"op"
    assert file.read_now(1, 2) == b"op"
    file.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.descriptor)


def test_identity_differs_when_a_file_is_replaced_or_written(root: Root, folder: Path) -> None:
    identities = []
    for change in (lambda: None, lambda: (folder / "top.txt").write_text("more"), lambda: os.utime(folder / "top.txt")):
        change()
        file = root.open(("top.txt",), 0.0)
        identities.append(file.identity)
        file.release()
    (folder / "new").write_text("more")
    (folder / "new").replace(folder / "top.txt")
    file = root.open(("top.txt",), 0.0)
    identities.append(file.identity)
    file.release()
    assert len(set(identities)) == 4


def test_swapped_link_never_leads_out(root: Root, folder: Path) -> None:
    """One thread swaps a file, and a folder, for links that lead out, as fast as it can, while another opens them."""
    outside = folder.parent / "outside"
    (outside / "file.txt").write_text("secret")
    over = threading.Event()

    def swap() -> None:
        spare, link = folder / "spare", folder / "link"
        while not over.is_set():
            for name, good in (("swapped.txt", folder / "top.txt"), ("swapped", folder / "a/b")):
                for target in (good, outside / "secret.txt" if name.endswith("txt") else outside):
                    spare.symlink_to(target)
                    spare.replace(folder / name)
            link.mkdir(exist_ok=True)
            (link / "file.txt").write_text("inside")
            link.rename(folder / "moved")
            link.symlink_to(outside)
            link.unlink()
            (folder / "moved").rename(link)

    thread = threading.Thread(target=swap)
    thread.start()
    seen: dict[str, int] = {}
    try:
        for number in range(6000):
            path = ("swapped.txt", "swapped/file.txt", "link/file.txt")[number % 3]
            try:
                content = read(root, path)
            except NotServedError as error:
                content = error.reason
            seen[content] = seen.get(content, 0) + 1
    finally:
        over.set()
        thread.join()
    assert "secret" not in seen
    assert seen.get("inside")
    assert seen.get("top")
    assert seen.get("a symbolic link leads out of the root")
