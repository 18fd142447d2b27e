"""The pages for people who come from other servers: what they promise is there, and what they call missing is not."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from edge.cli import main, program, serve_command
from edge.config import section_options
from edge.config_foreign import ADVICE, ForeignSettings, advice_for
from tests.process.server import DEADLINE, ROOT

PAGES = ROOT / "docs/coming-from"
PEERS = ("uvicorn", "gunicorn", "hypercorn")
FLAGS = {flag for item in serve_command.params for flag in (*item.opts, *item.secondary_opts)}
IGNORED = {flag for option in section_options(ForeignSettings) for flag in option.flags}
# What has no page of its own because it is for the program, not for the server.
_OWN = {"-h", "--help", "-v", "--version"}
_FLAG = re.compile(r"`(-[-\w]+)([^`]*)`")


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    text = (PAGES / f"{page}.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def promised(cell: str) -> list[str]:
    """Return the flags that a cell names."""
    return [flag for flag, _ in _FLAG.findall(cell)]


def flag_rows(page: str) -> Iterator[tuple[str, str]]:
    """Give each flag of another server with what the page says to type for it."""
    for cells in rows(page, "Each flag"):
        assert len(cells) == 3, cells
        for flag in promised(cells[0]):
            yield flag, cells[1]


ROWS = [(page, flag, now) for page in PEERS for flag, now in flag_rows(page)]


@pytest.mark.parametrize(("page", "flag", "now"), ROWS, ids=[f"{page} {flag}" for page, flag, _ in ROWS])
def test_flag_of_another_server_is_what_the_page_says(page: str, flag: str, now: str) -> None:
    said = f"docs/coming-from/{page}.md says of {flag}: {now!r}"
    if now == "same":
        assert flag in FLAGS - IGNORED, said
    elif now == "ignored":
        assert flag in IGNORED, said
    elif now == "not there":
        assert flag not in FLAGS, said
    elif now == "`edge --version`":
        assert flag == "--version"
    else:
        assert promised(now), said
        for ours in promised(now):
            assert ours in FLAGS, said
        # Either it is another spelling, or who types it is told what to type.
        assert flag in FLAGS or advice_for(flag), said


def test_advice_names_flags_that_are_there() -> None:
    for flag, advice in ADVICE.items():
        assert flag not in FLAGS, f"{flag} is there now, and needs no advice"
        for ours in re.findall(r"(?<!\S)--[a-z][\w-]+", advice):
            assert ours in FLAGS, f"{flag}: {advice}"


@pytest.mark.parametrize("page", ["nginx-gunicorn", "caddy"])
def test_directive_leads_to_flags_that_are_there(page: str) -> None:
    for cells in rows(page, "Each directive"):
        assert len(cells) == 3, cells
        assert cells[1] in ("nothing", "not there") or promised(cells[1]), cells
        for flag in promised(cells[1]):
            assert flag in FLAGS, cells


@pytest.mark.parametrize("peer", PEERS)
def test_table_has_every_flag_of_the_other_server(peer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", peer, "--help"], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    lines = re.findall(r"^ {2,4}(-\S.*)$", done.stdout, re.MULTILINE)
    flags = {flag for line in lines for flag in re.findall(r"(?<![-\w])--?[a-zA-Z][-\w]*", line.split("  ")[0])}
    # Where a switch has a flag that turns it off, and where a flag has a second spelling, the first is enough.
    flags -= _OWN | {flag for flag in flags if flag.startswith("--no-") and f"--{flag[5:]}" in flags} | {"--paster"}
    assert len(flags) > 30
    assert flags - {flag for flag, _ in flag_rows(peer)} == set()
    assert f"{peer} {'.'.join(version(peer).split('.')[:2])}" in (PAGES / f"{peer}.md").read_text()


def commands() -> Iterator[tuple[str, str]]:
    """Give the commands of edge in the pages' tables."""
    for page in sorted(PAGES.glob("*.md")):
        for command in re.findall(r"\| `(edge serve [^`]+)`", page.read_text()):
            yield page.stem, command


@pytest.mark.parametrize(("page", "command"), list(commands()))
def test_command_that_replaces_another_is_accepted(page: str, command: str) -> None:
    arguments = shlex.split(command)[2:]
    parsed = serve_command.make_context("serve", arguments, parent=program().make_context("edge", ["serve"]))
    assert parsed.params["app"] or parsed.params["paste"]


def commands_today() -> Iterator[str]:
    """Give the commands of uvicorn and gunicorn in the pages' tables, and those of README."""
    for page in [ROOT / "README.md", *sorted(PAGES.glob("*.md"))]:
        yield from re.findall(r"^\| `((?:uvicorn|gunicorn) [^`]+)`", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", sorted({*commands_today()}))
def test_command_of_today_is_taken_as_it_stands(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\n")
    program, *arguments = shlex.split(command)
    assert main([program, "--print", *arguments]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("edge serve --")
    assert arguments[-1] in out or arguments[0] in out
