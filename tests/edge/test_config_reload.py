"""The options of `--reload`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import build_settings
from edge.config_reload import ReloadSettings
from edge.errors import ConfigError


def reload_settings(**values: object) -> ReloadSettings:
    return build_settings({"app": "a:app", **values}).reload


def test_the_folder_of_the_application_is_watched_unless_others_are_named(tmp_path: Path) -> None:
    assert reload_settings().folders("") == [Path.cwd()]
    assert reload_settings().folders(str(tmp_path)) == [tmp_path]
    other = tmp_path / "other"
    other.mkdir()
    assert reload_settings(reload_dir=[str(other), str(other)]).folders(str(tmp_path)) == [other]


def test_one_value_and_several_are_taken() -> None:
    assert reload_settings(reload_include="*.html").includes == ("*.html",)
    assert reload_settings(reload_exclude=["a", "b"]).excludes == ("a", "b")


@pytest.mark.parametrize("value", ["", 7])
def test_what_is_no_pattern_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="not a pattern; use one such as"):
        reload_settings(reload_include=[value])


def test_directory_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        reload_settings(reload_dir="/nowhere/at/all")


def test_development_takes_one_worker_unless_told_otherwise() -> None:
    assert build_settings({"app": "a:app", "reload": True}).pool.workers == 1
    assert build_settings({"app": "a:app", "reload": True, "workers": 3}).pool.workers == 3


def test_extra_file_is_watched_in_its_own_directory_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    settings = build_settings(
        {"app": "a", "reload_extra_file": ["/etc/a.ini", "lib/b.ini"], "reload_include": "*.html"}
    )
    assert settings.reload.dirs == ("/usr", "/etc", "/usr/lib")
    assert settings.reload.includes == ("*.html", "a.ini", "b.ini")
    named = build_settings({"app": "a", "reload_extra_file": "/etc/a.ini", "reload_dir": "/srv"})
    assert named.reload.dirs == ("/srv", "/etc")
