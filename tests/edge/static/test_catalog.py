"""Files that are remembered for a moment, and compressed forms beside them."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.static import catalog as catalog_module
from edge.static.catalog import FRESH, IDLE, Catalog
from edge.static.forms import MAX_KEPT_FILE, FolderFoundError, Rules
from edge.static.root import NotServedError, Root

LARGE = MAX_KEPT_FILE + 1


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    found = Catalog(Root(str(tmp_path)), Rules())
    yield found
    found.close()


def write(path: Path, content: bytes, *, age: float = 60.0) -> None:
    path.write_bytes(content)
    at = time.time() - age
    os.utime(path, (at, at))


def content_of(catalog: Catalog, name: str, now: float) -> bytes | None:
    return catalog.find((name,), now).plain.content


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_small_file_is_kept_with_its_content(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"one")
    entry = catalog.find(("a.txt",), 0.0)
    assert entry.plain.content == b"one"
    assert entry.plain.facts.size == 3
    assert entry.choose(b"br, gzip") is entry.plain
    write(tmp_path / "a.txt", b"two")
    assert catalog.find(("a.txt",), FRESH - 0.01) is entry
    assert content_of(catalog, "a.txt", FRESH) == b"two"


def test_content_that_is_unchanged_is_not_read_again(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"x" * 1000)
    before = content_of(catalog, "a.txt", 0.0)
    assert content_of(catalog, "a.txt", 1.0) is before


def test_content_of_a_file_that_changed_just_now_is_read_again(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"x" * 1000, age=0.0)
    before = content_of(catalog, "a.txt", 0.0)
    assert content_of(catalog, "a.txt", 1.0) is not before


def test_large_file_is_held_open_and_its_reader_keeps_it(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.bin", b"x" * LARGE)
    before = count_descriptors()
    form = catalog.find(("a.bin",), 0.0).plain
    assert form.content is None
    file = form.file
    assert file is not None
    form.hold()
    (tmp_path / "a.bin").unlink()
    with pytest.raises(NotServedError):
        catalog.find(("a.bin",), 1.0)
    assert file.read(LARGE - 1, 9) == b"x"
    form.release()
    assert count_descriptors() == before + 1  # the root


def test_what_nobody_asks_for_is_let_go(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.bin", b"x" * LARGE)
    write(tmp_path / "b.bin", b"x" * LARGE)
    catalog.find(("a.bin",), 0.0)
    catalog.find(("b.bin",), 0.0)
    open_before = count_descriptors()
    catalog.find(("b.bin",), 0.1)
    catalog.sweep(IDLE + 0.05)
    assert count_descriptors() == open_before - 1
    catalog.sweep(IDLE + 0.2)
    assert count_descriptors() == open_before - 2


@pytest.mark.parametrize(
    ("limit", "most", "size"), [("MAX_ENTRIES", 3, 10), ("MAX_KEPT", 3000, 1000), ("MAX_OPEN", 3, LARGE)]
)
def test_what_is_kept_is_bounded(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, size: int
) -> None:
    monkeypatch.setattr(catalog_module, limit, most)
    entries = []
    for number in range(6):
        write(tmp_path / f"{number}.bin", b"x" * size)
        entries.append(catalog.find((f"{number}.bin",), 0.0))
    again = [catalog.find((f"{number}.bin",), 0.01) is entries[number] for number in (5, 4, 3)]
    assert again == [True, True, True]
    assert catalog.find(("0.bin",), 0.01) is not entries[0]


def test_folder_is_told_from_a_file(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FolderFoundError):
        catalog.find(("folder",), 0.0)
    with pytest.raises(FolderFoundError):
        catalog.find((), 0.0)


def test_compressed_forms_are_found_the_smallest_first(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.js", b"x" * 1000)
    write(tmp_path / "a.js.gz", gzip.compress(b"x" * 1000))
    write(tmp_path / "a.js.br", b"x" * 40)
    write(tmp_path / "a.js.zst", b"x" * 5)
    entry = catalog.find(("a.js",), 0.0)
    assert list(entry.coded) == [b"zstd", b"gzip", b"br"]
    form = entry.choose(b"gzip, br, zstd")
    assert form.content == b"x" * 5
    assert form.facts.media_type == b"text/javascript; charset=utf-8"
    assert form.facts.validators.tag != entry.plain.facts.validators.tag
    assert b"content-encoding" in form.facts.fields
    assert b"content-encoding" not in entry.plain.facts.fields
    assert all(b"vary" in form.facts.kept_fields for form in entry.forms)


@pytest.mark.parametrize("why", ["older", "larger", "folder", "picture"])
def test_compressed_form_that_is_none_is_left(catalog: Catalog, tmp_path: Path, why: str) -> None:
    name = "a.png" if why == "picture" else "a.js"
    write(tmp_path / name, b"x" * 100)
    if why == "folder":
        (tmp_path / f"{name}.gz").mkdir()
    else:
        write(tmp_path / f"{name}.gz", b"x" * (200 if why == "larger" else 10), age=90.0 if why == "older" else 10.0)
    entry = catalog.find((name,), 0.0)
    assert not entry.coded
    assert b"vary" not in entry.plain.facts.fields


def test_compressed_forms_may_be_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.js", b"x" * 100)
    write(tmp_path / "a.js.gz", b"x")
    catalog = Catalog(Root(str(tmp_path)), Rules(precompressed=False))
    assert not catalog.find(("a.js",), 0.0).coded
    catalog.close()


def test_compressed_form_that_appears_is_found(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a.js", b"x" * 100)
    assert not catalog.find(("a.js",), 0.0).coded
    write(tmp_path / "a.js.gz", b"x")
    entry = catalog.find(("a.js",), 1.0)
    assert entry.coded
    assert b"vary" in entry.plain.facts.fields


def test_file_that_is_shorter_than_it_says_is_none() -> None:
    if not Path("/sys/kernel/uevent_seqnum").exists():
        pytest.skip("needs sysfs, whose files say that they have 4096 bytes")
    catalog = Catalog(Root("/sys/kernel"), Rules())
    with pytest.raises(NotServedError, match="it shrank while it was read"):
        catalog.find(("uevent_seqnum",), 0.0)
    catalog.close()


def test_rules_of_the_folder_make_cache_control(tmp_path: Path) -> None:
    write(tmp_path / "a.css", b"x")
    catalog = Catalog(Root(str(tmp_path)), Rules(max_age=60))
    assert b"public, max-age=60" in catalog.find(("a.css",), 0.0).plain.facts.fields
    catalog.close()
