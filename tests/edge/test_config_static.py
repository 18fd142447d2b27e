"""The settings of static files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.config import build_settings
from edge.config_static import Mount
from edge.errors import ConfigError


def mounts_of(*values: object) -> tuple[Mount, ...]:
    return build_settings({"app": "m", "static": values}).static.mounts


def test_mount_is_a_path_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b,c").mkdir()
    assert mounts_of("/static=.") == (Mount("/static", str(tmp_path)),)
    assert mounts_of("/static/=.", "/=a=b,c") == (Mount("/static", str(tmp_path)), Mount("", f"{tmp_path}/a=b,c"))
    assert mounts_of(Mount("/a", "/tmp")) == (Mount("/a", "/tmp"),)
    assert build_settings({"app": "m", "static": "/a=/"}).static.mounts == (Mount("/a", "/"),)
    assert build_settings({"app": "m", "static": Mount("/a", "/")}).static.mounts == (Mount("/a", "/"),)


def test_folders_stand_with_blanks_between_them_in_a_variable(tmp_path: Path) -> None:
    environ = {"EDGE_APP": "m", "EDGE_STATIC": f"/a={tmp_path} /b={tmp_path}"}
    assert [mount.prefix for mount in build_settings({}, environ).static.mounts] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("static=/", "'static=/': not a path with its folder; use one such as /static=./public"),
        ("/static", "not a path with its folder"),
        ("/static=", "not a path with its folder"),
        (7, "not a path with its folder"),
        ("/a b=/", "not a path with its folder"),
        ("//=/", "'//=/': the path is not plain; use names with one slash before each"),
        ("/a/../b=/", "the path is not plain"),
        ("/%61=/", "the path is not plain"),
        ("/a?b=/", "the path is not plain"),
        ("/a=/does/not/exist", "'/does/not/exist': no such directory; use one that exists"),
        ("/a=/etc/hosts", "no such directory"),
    ],
)
def test_what_is_no_mount_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        mounts_of(value)
    assert message in str(refused.value)


def test_path_may_have_one_folder_only() -> None:
    with pytest.raises(ConfigError, match="'/a': given twice; leave out one"):
        mounts_of("/a=/", "/b=/", "/a/=/")
    with pytest.raises(ConfigError, match="'/': given twice"):
        mounts_of("/=/", "/=/")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", 7, "a\0b"])
def test_index_is_the_name_of_a_file(name: object) -> None:
    with pytest.raises(ConfigError, match="not the name of a file"):
        build_settings({"app": "m", "static": "/=/", "index": name})


@pytest.mark.parametrize(("key", "value"), [("spa", True), ("index", "a.html"), ("static_max_age", 60)])
def test_what_only_static_gives_a_meaning_needs_it(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{key}: without --static it is for nothing; add --static /=DIR"):
        build_settings({"app": "m", key: value})
    assert build_settings({"app": "m", "static": f"/={os.sep}", key: value})


def test_spa_that_is_off_needs_nothing() -> None:
    assert not build_settings({"app": "m", "spa": False}).static.spa
