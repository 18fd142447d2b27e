"""`edge completion`: what a shell has to be told so that it completes the command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

# Where click looks for what a shell asks; made of the program's name.
_VARIABLE = "_EDGE_COMPLETE"

_HELP = """Print what completes `edge` and its options in a shell.

\b
  bash   echo 'eval "$(edge completion bash)"' >>~/.bashrc
  zsh    echo 'eval "$(edge completion zsh)"' >>~/.zshrc
  fish   edge completion fish >~/.config/fish/completions/edge.fish
"""


def completion_command(program: click.Group) -> click.Command:
    """Return the command; `program` is what is completed."""

    def run(shell: str) -> int:
        found = get_completion_class(shell)
        assert found is not None  # click knows all three
        click.echo(found(program, {}, "edge", _VARIABLE).source())
        return 0

    shells = click.Choice(["bash", "zsh", "fish"])
    return click.Command("completion", callback=run, params=[click.Argument(["shell"], type=shells)], help=_HELP)
