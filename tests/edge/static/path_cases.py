"""The paths of tests/corpus/static: what a target says, and what it is read as."""

from __future__ import annotations

import re
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "corpus/static/paths.md"
_ROW = re.compile(r"^\| `(?P<target>[^`]+)` \| (?:`(?P<names>[^`]+)`|(?P<status>[0-9]+)) \|$", re.MULTILINE)


def read_cases() -> list[tuple[str, str | int]]:
    """Return the targets, each with its names, separated by blanks, or the status of its refusal."""
    text = CORPUS.read_text()
    rows = list(_ROW.finditer(text))
    assert len(rows) == text.count("\n| `"), "a row of the corpus cannot be read"
    return [(row["target"], row["names"] or int(row["status"])) for row in rows]
