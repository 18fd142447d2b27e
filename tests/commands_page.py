"""The reference of the commands, out of the command line: `python -m tests.commands_page` writes its page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from edge.cli import program, serve_command
from tests.options_page import shown

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/commands.md"

# What every command has.
_NOT_TAKEN = ("--help",)

_HEAD = """\
# Commands

Every command with its own options. Those of `edge serve` have [a page of their own](options.md). This page is made by
`python -m tests.commands_page`; a test holds it to the source. `--help` is everywhere. [Exit codes](exit-codes.md).

What they do: certificates, [edge cert](cert.md); roots for outbound HTTPS, [trust](trust.md) and
[stores](trust-stores.md); a running server, [operations](../operations.md#commands); command lines of other servers,
[uvicorn](../coming-from/uvicorn.md) and [gunicorn](../coming-from/gunicorn.md).
"""


def commands_page() -> str:
    """Return the text of the page."""
    return "\n\n".join([_HEAD.rstrip(), *(_section(name, command) for name, command in leaves(program()))]) + "\n"


def leaves(group: click.Group, before: str = "edge") -> Iterator[tuple[str, click.Command]]:
    """Give every command but `serve` with its whole name, in the order of the names."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before} {name}")
        elif command is not serve_command:
            yield f"{before} {name}", command


def _section(name: str, command: click.Command) -> str:
    arguments = [
        item.make_metavar(click.Context(command)) for item in command.params if isinstance(item, click.Argument)
    ]
    title = " ".join([name, *arguments])
    parts = [f"## {name}", f"`{title}`", _help(command)]
    options = [item for item in command.params if isinstance(item, click.Option)]
    if {*_flags(serve_command)} <= {*_flags(command), *_NOT_TAKEN}:
        parts.append("It takes the options of `edge serve`, and these:")
        options = [option for option in options if option.opts[0] not in _flags(serve_command)]
    rows = [_row(option, command) for option in options if "--help" not in option.opts]
    if rows:
        parts.append("\n".join(["| option | |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def _flags(command: click.Command) -> list[str]:
    return [item.opts[0] for item in command.params if isinstance(item, click.Option)]


def _help(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or command.short_help or "").partition("\b")[0]
    return re.sub(r"\s*\n\s*", " ", text.split("\n\n")[0]).strip()


def _row(option: click.Option, command: click.Command) -> str:
    flags = [f"`{flag}`" for flag in (*option.opts, *option.secondary_opts)]
    metavar = option.make_metavar(click.Context(command)).replace("INTEGER RANGE", "N")
    value = "" if option.is_flag else f" {shown(metavar)}"
    return f"| {', '.join(flags)}{value} | {shown(' '.join((option.help or '').split()))} |"


if __name__ == "__main__":
    PAGE.write_text(commands_page())
