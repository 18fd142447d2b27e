"""The options of `edge serve` as a command line has them; `edge check` and `edge config` take the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from edge.config import all_options
from edge.envfile import enter_folder, with_file_here
from edge.given import Given
from edge.options import Option


def parameters(*, hidden: bool = False) -> list[click.Parameter]:
    """Return every option of `edge serve`; the help of a command leaves those out that are `hidden`."""
    return [_parameter(option, hidden) for option in all_options()]


def take(parameters: Mapping[str, Any]) -> dict[str, Given]:
    """Return what click parsed, as `given_flags` does, with the file of the current directory if there is one.

    With `--chdir`, that is the current directory from now on.

    Raises ConfigError if it cannot be.
    """
    given = given_flags(parameters)
    enter_folder(given, os.environ)
    return with_file_here(given, os.environ)


def given_flags(parameters: Mapping[str, Any]) -> dict[str, Given]:
    """Return what click parsed as values for `build_settings`, each with the flag that gave it."""
    options = {option.key: option for option in all_options()}
    return {
        key: Given(value, "" if options[key].is_argument else f"{options[key].flags[0]} ")
        for key, value in parameters.items()
        if value is not None and value != ()
    }


def switch_flags(option: Option) -> list[str]:
    """Return the flags of a switch. One that is on by default needs those that turn it off."""
    if option.shown == "off":
        return list(option.flags)
    return [f"{flag}/--no-{flag.removeprefix('--')}" for flag in option.flags]


def _parameter(option: Option, hidden: bool) -> click.Parameter:
    """Values stay text: edge.config reads them, the same way for flags, environment and Python."""
    if option.is_argument:
        return click.Argument([option.key], required=False, metavar=option.kind.metavar)
    if option.kind.switch:
        return click.Option([*switch_flags(option), option.key], is_flag=True, default=None, hidden=hidden)
    return click.Option(
        [*option.flags, option.key],
        multiple=option.kind.repeat,
        default=None,
        hidden=hidden,
        shell_complete=lambda context, parameter, word: _complete(option.kind.metavar, word),
    )


def _complete(metavar: str, word: str) -> list[CompletionItem]:
    """Return what a shell may complete a value to."""
    if metavar.startswith(("FILE", "PATH")):
        return [CompletionItem(word, type="file")]
    if metavar == "DIR":
        return [CompletionItem(word, type="dir")]
    return [CompletionItem(text) for text in metavar.split("|") if text.islower() and text.startswith(word)]
