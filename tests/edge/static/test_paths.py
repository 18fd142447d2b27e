"""What a request target names: names, one below the other, or nothing at all."""

from __future__ import annotations

import pytest

from edge.static.paths import PathRefused, parse_path
from tests.edge.static.path_cases import read_cases

PREFIXES = ["", "/static", "/a/b"]


@pytest.mark.parametrize(("target", "reading"), [case for case in read_cases() if isinstance(case[1], int)])
def test_target_is_refused(target: str, reading: int) -> None:
    for prefix in PREFIXES:
        with pytest.raises(PathRefused) as refused:
            parse_path(f"{prefix}{target}".encode(), prefix)
        assert refused.value.status == reading


@pytest.mark.parametrize(("target", "reading"), [case for case in read_cases() if isinstance(case[1], str)])
def test_target_is_read_in_one_way(target: str, reading: str) -> None:
    names = [name.replace("%20", " ") for name in reading.split(" ")]
    is_folder = names[-1] == "/"
    for prefix in PREFIXES:
        path = parse_path(f"{prefix}{target}".encode(), prefix)
        assert path == (tuple(names[:-1] if is_folder else names), is_folder)


def test_prefix_alone_is_a_folder_without_its_slash() -> None:
    assert parse_path(b"/static", "/static") == ((), False)
    assert parse_path(b"/static?x", "/static") == ((), False)


def test_prefix_may_be_encoded() -> None:
    assert parse_path(b"/%73tatic/a", "/static").names == ("a",)


@pytest.mark.parametrize("target", [b"/statica/b", b"/a/../static/b", b"//static/b", b"/sta"])
def test_path_that_only_reads_like_one_below_the_prefix_is_refused(target: bytes) -> None:
    with pytest.raises(PathRefused, match="not plain") as refused:
        parse_path(target, "/static")
    assert refused.value.status == 400


def test_target_without_a_path_is_refused() -> None:
    with pytest.raises(PathRefused, match="begin with a slash"):
        parse_path(b"*")


@pytest.mark.parametrize(
    ("target", "has_extension"), [(b"/", False), (b"/a", False), (b"/a.b/c", False), (b"/a.js", True), (b"/v1.2", True)]
)
def test_extension_is_that_of_the_last_name(target: bytes, has_extension: bool) -> None:
    assert parse_path(target).has_extension is has_extension
