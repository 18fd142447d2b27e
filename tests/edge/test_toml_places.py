import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.toml_places import Path, find_places

# Keys as tomllib gives them, and as they are written.
SPELLED = {"a": "a", "b-1": "b-1", 'q"]= #': '"q\\"]= #"', "l [x]": "'l [x]'", "7": "7"}


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    """Return the path of everything in what tomllib has read."""
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found |= paths_of(item, (*path, key))
    return found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\n\n# [b]\nb = 2", {("a",): 1, ("b",): 4}),
        ("[t] # x\n  k = '#'\n\t[u.v]\nk=1", {("t",): 1, ("t", "k"): 2, ("u",): 3, ("u", "v"): 3, ("u", "v", "k"): 4}),
        ("a . 'b' .\"c\\u0064\" = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "cd"): 1}),
        ("a = [\n 1, # [2\n [ '],' ,],\n]\nb=1", {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, 0): 3, ("b",): 5}),
        ('a = { b = 1, c = {d = "}"} }\ne=1', {("a",): 1, ("a", "b"): 1, ("a", "c"): 1, ("a", "c", "d"): 1, ("e",): 2}),
        ('a = """\nb = 1\n[c]\n\\"""\n"""""\nd = 1979-05-27 07:32:00', {("a",): 1, ("d",): 6}),
        ("a = '''\nb = 1\n'''''\nd = 1", {("a",): 1, ("d",): 4}),
        (
            "a = ''\nb = \"\"\nc = ''''''\nd = \"\"\"\"\"\"\ne=1",
            {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4, ("e",): 5},
        ),
        ("a = 1\r\nb = 2\r\n", {("a",): 1, ("b",): 2}),
        ("", {}),
        ("# nothing", {}),
    ],
)
def test_line_of_each_key_is_found(text: str, lines: dict[Path, int]) -> None:
    assert find_places(text) == lines
    assert set(lines) == paths_of(tomllib.loads(text))


def test_tables_of_a_list_are_counted_for_each_list_anew() -> None:
    text = "[[s]]\nh=1\n[[s.r]]\np=1\n[s.r.t]\nx=1\n[[s.r]]\n[[s]]\n[[s.r]]\np=2\n[z]\n[[s]]"
    assert find_places(text) == {
        ("s",): 1, ("s", 0): 1, ("s", 0, "h"): 2, ("s", 0, "r"): 3, ("s", 0, "r", 0): 3, ("s", 0, "r", 0, "p"): 4,
        ("s", 0, "r", 0, "t"): 5, ("s", 0, "r", 0, "t", "x"): 6, ("s", 0, "r", 1): 7, ("s", 1): 8, ("s", 1, "r"): 9,
        ("s", 1, "r", 0): 9, ("s", 1, "r", 0, "p"): 10, ("z",): 11, ("s", 2): 12,
    }  # fmt: skip
    assert set(find_places(text)) == paths_of(tomllib.loads(text))


KEYS = st.sampled_from(list(SPELLED.values()))
BLANKS = st.sampled_from(["", " ", "\t "])
BREAKS = st.sampled_from(["", " ", "\n", " # ]},\n  "])
SCALARS = st.sampled_from(
    ["1", "-2.5e3", "true", "inf", "1979-05-27 07:32:00",
     '"a # \\" ]"', "'}\"'", '"""\n"]\\\\"""', "'''\n''[\n'''", '""', "''"]
)  # fmt: skip


def lists(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pieces = st.lists(st.tuples(BREAKS, items, BREAKS).map("".join), max_size=3)
    return st.tuples(pieces, st.sampled_from(["", ","]), BREAKS).map(
        lambda made: f"[{','.join(made[0])}{made[1] if made[0] else ''}{made[2]}]"
    )


def tables(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(KEYS, BLANKS, items), max_size=2, unique_by=lambda pair: pair[0])
    return pairs.map(lambda made: f"{{{', '.join(f'{key}{blank}= {value}' for key, blank, value in made)}}}")


VALUES = st.recursive(SCALARS, lambda items: lists(items) | tables(items), max_leaves=8)
PAIRS = st.tuples(st.lists(KEYS, min_size=1, max_size=2), BLANKS, VALUES).map(
    lambda made: f"{f'{made[1]}.{made[1]}'.join(made[0])}{made[1]}={made[1]}{made[2]}"
)
HEADERS = st.tuples(st.lists(KEYS, min_size=1, max_size=3), BLANKS, st.booleans()).map(
    lambda made: f"{'[[' if made[2] else '['}{made[1]}{'.'.join(made[0])}{made[1]}{']]' if made[2] else ']'}"
)
LINES = st.lists(st.one_of(PAIRS, HEADERS, st.just("# x = [1"), st.just("")), max_size=8)


@given(LINES)
@settings(deadline=None)
def test_whatever_tomllib_reads_has_a_place_and_nothing_else_has(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # most are refused for a key that is given twice
    places = find_places(text)
    assert set(places) == paths_of(values)
    written = text.split("\n")
    for path, line in places.items():
        keys = [key for key in path if isinstance(key, str)]
        assert SPELLED[keys[-1]] in written[line - 1] or isinstance(path[-1], int)
