"""`edge uvicorn` and `edge gunicorn`: the command lines of those servers, as they stand."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence

import click

from edge import __version__
from edge.cli_compat import gunicorn, gunicorn_sources, uvicorn
from edge.cli_compat.rules import Translation
from edge.errors import ConfigError

Run = Callable[[Sequence[str]], int]
Translate = Callable[[Sequence[str]], Translation]

_HELP = """Do what `{0} ARGS` does: print the `edge serve` line that it amounts to, with what has no counterpart and
why, and run it. {1}

\b
  --print    print the line and do not run it
  --version  print the version
"""
_SOURCES = {
    "uvicorn": "Every flag of uvicorn is known, and its UVICORN_* variables.",
    "gunicorn": "Every flag of gunicorn is known, GUNICORN_CMD_ARGS, and gunicorn.conf.py, which is run. "
    "Its hooks are not called.",
}


def commands(serve: Run, check: Run) -> list[click.Command]:
    """Return the commands; the two run `edge serve` and `edge check` with arguments."""
    programs = {"uvicorn": _translate_uvicorn, "gunicorn": _translate_gunicorn}
    return [_command(program, translate, serve, check) for program, translate in programs.items()]


def _command(program: str, translate: Translate, serve: Run, check: Run) -> click.Command:
    def run(arguments: tuple[str, ...]) -> int:
        words = list(arguments)
        if set(words) & {"--version", "-v"}:
            click.echo(f"edge {__version__}, in place of {program}")
            return 0
        only_print = bool(set(words) & {"--print", "--print-config"})
        translation = translate([word for word in words if word != "--print"])
        _show(program, translation, only_print=only_print)
        if only_print:
            return 0
        if "--check-config" in words:
            return check(translation.arguments)
        return _run(translation, serve)

    return click.Command(
        program,
        callback=run,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, metavar="ARGS...")],
        help=_HELP.format(program, _SOURCES[program]),
        short_help=f"Do what `{program} ARGS...` does.",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )


def _translate_uvicorn(arguments: Sequence[str]) -> Translation:
    return uvicorn.translate(arguments, os.environ)


def _translate_gunicorn(arguments: Sequence[str]) -> Translation:
    return gunicorn.translate(gunicorn_sources.read_settings(arguments, os.environ), os.environ)


def _show(program: str, translation: Translation, *, only_print: bool) -> None:
    for name, reason in translation.left:
        click.echo(f"edge: {program} {name}: left out: {reason}", err=True)
    line = shlex.join(["edge", "serve", *translation.arguments])
    # No values: they are secrets.
    line = " ".join([*(f"{name}=..." for name in translation.environ), line])
    if translation.log_file:
        line += f" 2>>{shlex.quote(translation.log_file)}"
    click.echo(line if only_print else f"edge: {program}: this amounts to: {line}", err=not only_print)


def _run(translation: Translation, serve: Run) -> int:
    os.environ.update(translation.environ)
    if translation.log_file:
        sys.stderr.flush()
        try:
            descriptor = os.open(translation.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        except OSError as error:
            reason = str(error.strerror).lower()
            raise ConfigError(f"{translation.log_file}: {reason}; use a file that this user may write") from None
        os.dup2(descriptor, sys.stderr.fileno())
        os.close(descriptor)
    return serve(translation.arguments)
