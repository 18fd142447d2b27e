"""What people type to uvicorn, gunicorn, hypercorn and daphne, row by row: C1 to C23 are commands, F1 to F27 flags,
B1 to B15 what a server does and the systems around it. (B16 names what a guide's pseudo-code is made of, such as
`StatReload`, and says that none of it has to be there.)

Each row's command line is read here, and what it means is compared with the same said in our own words. That it has its
effect is shown by the tests that the row names, which are looked up; those of test_rows_served.py are for what no other
test shows.
"""

from __future__ import annotations

import ast
import functools
import shlex
import tomllib
from pathlib import Path

import pytest

from edge import cli
from edge.cli_compat import gunicorn, gunicorn_sources, uvicorn
from edge.cli_options import given_flags
from edge.config import ServeSettings, all_options, build_settings
from edge.errors import ConfigError
from tests.process.row_lines import LINES, REFUSED
from tests.process.row_tests import SHOWN
from tests.process.server import ROOT

TESTS = ROOT / "tests"
COUNTS = {"C": 23, "F": 27, "B": 15}
ROWS = [f"{part}{number}" for part, count in COUNTS.items() for number in range(1, count + 1)]

# Rows whose commands are programs, or no command at all.
WITHOUT_LINE = {"C19", "C20", "C21", "C22", "C23", "C18", "B7", "B9", "B13", "B14", "B15"}


def settings_of(line: str) -> ServeSettings:
    """Return what a command line means, whichever of the three commands it is."""
    _, command, *words = shlex.split(line)
    if command == "uvicorn":
        words = uvicorn.translate(words, {}).arguments
    if command == "gunicorn":
        words = gunicorn.translate(gunicorn_sources.read_settings(words, {}), {}).arguments
    return build_settings(given_flags(cli.serve_command.make_context("serve", words).params))


@pytest.mark.parametrize(("row", "line", "meaning"), LINES, ids=[f"{row}-{line}" for row, line, _ in LINES])
def test_line_means_what_it_says(
    row: str, line: str, meaning: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_of(line) == build_settings(meaning), row


@pytest.mark.parametrize(("row", "line", "advice"), REFUSED, ids=[f"{row}-{line}" for row, line, _ in REFUSED])
def test_line_is_answered_with_what_to_type(
    row: str, line: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(shlex.split(line)[1:]) == ConfigError.exit_code, row
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"edge: {advice}")


def test_every_row_is_read_here_and_shown_somewhere() -> None:
    assert list(SHOWN) == ROWS
    assert {row for row, _, _ in LINES} | WITHOUT_LINE == set(ROWS)


@functools.cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


@pytest.mark.parametrize("row", ROWS)
def test_row_names_tests_that_there_are(row: str) -> None:
    for reference in SHOWN[row]:
        file, name = reference.split()
        assert name in names_in(file), reference


def test_c23_one_install_brings_what_the_defaults_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = " ".join(project["dependencies"])
    for package in ("uvloop", "httptools", "websockets", "watchfiles", "python-dotenv", "pyyaml"):
        assert package in names


def test_b14_every_flag_is_a_variable() -> None:
    app: dict[str, object] = {"app": "app:app"}
    plain = build_settings(app)

    def is_heard(variable: str) -> bool:
        """Tell whether it means something: hardly any option takes this value, and one that does has it then."""
        try:
            return build_settings(app, {variable: "\0"}) != plain
        except ConfigError as error:
            return variable in str(error)

    flags = [flag for option in all_options() for flag in option.flags if flag.startswith("--")]
    assert len(flags) > 150
    assert [flag for flag in flags if not is_heard(f"EDGE_{flag[2:].replace('-', '_').upper()}")] == []
    assert not is_heard("EDGE_NO_SUCH_FLAG")


def test_b15_uwsgi_is_named_as_out_of_scope() -> None:
    page = (ROOT / "docs/coming-from/gunicorn.md").read_text()
    assert "\n## uWSGI\n\nuWSGI is out of scope: " in page
