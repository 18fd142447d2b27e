"""Where each value of a TOML text stands: its line, by its path.

Python's tomllib says what a text means and refuses what is not TOML, but not where anything stood. This only finds the
places in a text that tomllib has read: it may rely on the text being right, and it has to be right about no more than
where keys and values begin and end.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
# Quotes may stand right before those that end a text of several lines: at most five follow one another there.
_SCALAR = re.compile(r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|[^,\]}#\r\n]+''', re.DOTALL)


def find_places(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each table, key and element of a list in `text`, which must be TOML.

    A path is made of keys, and of indices into lists.
    """
    return _Finder(text).find()


class _Finder:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._places: dict[Path, int] = {}
        # How many tables a list that is written as [[list]] has so far.
        self._counts: dict[Path, int] = {}

    def find(self) -> dict[Path, int]:
        table: Path = ()
        while self._blank() < len(self._text):
            if self._takes("[["):
                table = self._next_of_list(self._key())
                self._takes("]]")
            elif self._takes("["):
                table = self._table(self._key())
                self._takes("]")
            else:
                self._pair(table)
        return self._places

    def _pair(self, table: Path) -> None:
        path, start = table, self._at
        for key in self._key():
            path = (*path, key)
            self._note(path, start)
        self._takes("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        """Go behind a value; note what is inside of it."""
        if self._takes("["):
            index = 0
            while not self._takes("]"):
                self._note((*path, index), self._at)
                self._value((*path, index))
                self._takes(",")
                index += 1
        elif self._takes("{"):
            while not self._takes("}"):
                self._pair(path)
                self._takes(",")
        else:
            self._token(_SCALAR)

    def _table(self, keys: list[str]) -> Path:
        path: Path = ()
        for key in keys:
            path = (*path, key)
            self._note(path, self._at)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _next_of_list(self, keys: list[str]) -> Path:
        path = (*self._table(keys[:-1]), keys[-1])
        self._note(path, self._at)
        self._counts[path] = self._counts.get(path, 0) + 1
        path = (*path, self._counts[path] - 1)
        self._note(path, self._at)
        return path

    def _key(self) -> list[str]:
        self._blank()
        keys = [_unquoted(self._token(_KEY))]
        while self._take(_DOT):
            keys.append(_unquoted(self._token(_KEY)))
        return keys

    def _note(self, path: Path, at: int) -> None:
        self._places.setdefault(path, bisect_left(self._line_ends, at) + 1)

    def _takes(self, mark: str) -> bool:
        """Go behind `mark` if it comes next, with blanks and comments around it."""
        if not self._text.startswith(mark, self._blank()):
            return False
        self._at += len(mark)
        self._blank()
        return True

    def _blank(self) -> int:
        self._take(_BLANK)
        return self._at

    def _token(self, pattern: re.Pattern[str]) -> str:
        token = self._take(pattern)
        assert token, f"no {pattern.pattern} at {self._at}: this is not TOML"
        return token

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]


def _unquoted(key: str) -> str:
    if not key.startswith(('"', "'")):
        return key
    (name,) = tomllib.loads(f"{key} = 0")
    return name
