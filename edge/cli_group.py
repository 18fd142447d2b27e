"""A group of commands: what its help lists, and what is said to a command that there is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from edge.errors import ConfigError
from edge.options import nearest

# click shortens what is longer; a sentence that ends in dots helps nobody.
_WHOLE = 1000


class Commands(click.Group):
    """Lists the commands in the order of `titles`, under those, each with the whole first sentence of its help.

    Without titles they are in the order in which they were added: that in which they are needed.
    """

    def __init__(self, *arguments: Any, titles: Mapping[str, Sequence[str]] | None = None, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self._titles = titles

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, for help and completion."""
        return [name for names in self._sections().values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in self._sections().items():
            with formatter.section(title):
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(_WHOLE)) for name in names]
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Raises ConfigError, with the one that is near, if there is none of that name.
        """
        hint = "" if self.get_command(ctx, args[0]) else self._hint(ctx, args[0])
        if hint:
            raise ConfigError(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def _hint(self, ctx: click.Context, name: str) -> str:
        """Return the command that is meant: the words of one of a group, in whichever order, or one that is near."""
        words = sorted(name.split("-"))
        for group in self.commands.values():
            for command in group.commands if isinstance(group, click.Group) else ():
                if sorted((*str(group.name).split("-"), *command.split("-"))) == words:
                    return f"; did you mean {ctx.command_path} {group.name} {command}"
        return nearest(name, self.commands, before=f"{ctx.command_path} ")

    def _sections(self) -> Mapping[str, Sequence[str]]:
        return self._titles or {"Commands": list(self.commands)}
