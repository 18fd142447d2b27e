"""Which changes of files count."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from edge.config_reload import EXCLUDED, INCLUDED
from edge.watcher import SourceFilter

FOLDER = Path("/srv/.hidden/site")


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("app.py", True),
        ("package/module.py", True),
        ("page.html", False),
        ("app.pyc", False),
        ("app.py~", False),
        ("~app.py", False),
        (".#app.py", False),
        (".venv/lib/module.py", False),
        ("venv/lib/python3.13/site-packages/module.py", False),
        ("__pycache__/module.py", False),
        ("node_modules/gyp/gyp.py", False),
    ],
)
def test_source_counts_and_what_programs_write_does_not(path: str, is_wanted: bool) -> None:
    assert SourceFilter([FOLDER], INCLUDED, EXCLUDED).is_wanted(FOLDER / path) is is_wanted


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("templates/page.html", True),
        ("templates/mail/page.html", True),
        ("static/page.html", False),
        ("templates/draft/page.html", False),
        ("tests/page.css", False),
        ("page.css", True),
    ],
)
def test_pattern_with_a_slash_is_held_against_the_path_and_one_without_against_names(
    path: str, is_wanted: bool
) -> None:
    found = SourceFilter([FOLDER], ["templates/*.html", "*.css"], ["templates/draft/*", "tests"])
    assert found.is_wanted(FOLDER / path) is is_wanted


def test_file_outside_of_what_is_watched_does_not_count() -> None:
    assert not SourceFilter([FOLDER], ["*"], []).is_wanted(PurePosixPath("/srv/other/app.py"))
