"""The command line: arguments to settings, failures to one line and an exit code."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from edge import __version__
from edge.cli_group import Commands
from edge.cli_options import parameters, switch_flags, take
from edge.config import SECTIONS, section_options
from edge.config_foreign import advice_for
from edge.envfile import read_settings
from edge.errors import ConfigError, EdgeError
from edge.options import Option, nearest

# What the shell reports for a program that SIGINT ended (128 + 2).
INTERRUPTED = 130

_SERVE_HELP = "Serve an ASGI application: TLS, HTTP, forwarding, limits and a pool of workers."
_SERVE_EPILOG = (
    "Each option is an environment variable too: --max-body is EDGE_MAX_BODY, MODULE:ATTR is EDGE_APP. Flags are "
    "stronger than those, and both than the file; WEB_CONCURRENCY and FORWARDED_ALLOW_IPS are honoured. "
    "Sizes: 8192, 8KiB, 100MiB. Durations: 10, 500ms, 2m."
)
# What the help lists, and under which title.
_TITLES = {
    "Serve": ("serve", "check", "config", "uvicorn", "gunicorn"),
    "The server that runs": (
        *("status", "reload", "scale", "pause", "resume", "maintenance", "upgrade", "drain", "stop"),
    ),
    "Certificates and trust": ("cert", "compose", "trust"),
    "This command": ("completion",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `edge` command with these arguments (the process's own by default) and return its exit code."""
    try:
        return int(_program.main(arguments, prog_name="edge", standalone_mode=False) or 0)
    except click.ClickException as error:
        message, code = _usage(error), ConfigError.exit_code
    except EdgeError as error:
        message, code = str(error), error.exit_code
    except click.Abort:
        return INTERRUPTED
    except OSError as error:
        # What is printed into a file on a full disk; any other is a defect, and the traceback says where.
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _abandon_output()
        message, code = "standard output: no space left on device; make room, or write elsewhere", EdgeError.exit_code
    for line in message.splitlines():
        click.echo(f"edge: {line}", err=True)
    return code


def program() -> click.Group:
    """Return the `edge` command with all the commands below it."""
    _program.load()
    return _program


def _serve(**parameters: Any) -> int:
    started_in = os.getcwd()
    given = take(parameters)
    # Before the server is loaded: a wrong option is answered at once, as are --help and --version.
    read_settings(given, os.environ)
    from edge.server import serve
    from edge_certs.errors import CertificateError

    try:
        return serve(lambda: read_settings(given, os.environ), is_program=True, started_in=started_in)
    except CertificateError as error:
        raise ConfigError(str(error)) from error


class _Program(Commands):
    """Loads the commands besides `serve` when one of them is used: a server does without them all its life."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            self.load()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self.load()
        return super().list_commands(ctx)

    def load(self) -> None:
        for command in _other_commands() if len(self.commands) == 1 else ():
            self.add_command(command)


@click.group(
    "edge",
    cls=_Program,
    titles=_TITLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="edge %(version)s")
@click.pass_context
def _program(context: click.Context) -> int:
    """TLS, HTTP, forwarding, limits and a worker pool around an ASGI application."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return ConfigError.exit_code
    return 0


def _abandon_output() -> None:
    """Let what is in the buffer go nowhere, or the interpreter would fail with it when it ends."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def _show_help(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    formatter = context.make_formatter()
    formatter.write_usage("edge serve", "[OPTIONS] MODULE:ATTR")
    formatter.write_paragraph()
    formatter.write_text(_SERVE_HELP)
    for title, part in SECTIONS:
        with formatter.section(title):
            formatter.write_dl([_help_row(option) for option in section_options(part)], col_max=36)
    formatter.write_paragraph()
    formatter.write_text(_SERVE_EPILOG)
    click.echo(formatter.getvalue().rstrip())
    context.exit()


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"edge {__version__}")
        context.exit()


def _help_row(option: Option) -> tuple[str, str]:
    if option.is_argument:
        return option.kind.metavar, option.help
    main, *others = switch_flags(option) if option.kind.switch else option.flags
    short = [flag for flag in others if not flag.startswith("--")]
    aliases = [flag for flag in others if flag.startswith("--")]
    also = f" (also {', '.join(aliases)})" if aliases else ""
    metavar = "" if option.kind.switch else f" {option.kind.metavar}"
    return f"{', '.join([*short, main])}{metavar}", f"{option.help}{also} [default: {option.shown}]"


def _usage(error: click.ClickException) -> str:
    """Say what click says in our form: lower case, one line, the nearest flag, what to do."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption) and context is not None:
        advice = advice_for(error.option_name)
        if advice:
            return f"{error.option_name}: {advice}"
        flags = [flag for item in context.command.params for flag in (*item.opts, *item.secondary_opts)]
        long = [flag for flag in flags if flag.startswith("--")]
        hint = nearest(error.option_name, long) or f"; see {context.command_path} --help"
        return f"{error.option_name}: unknown option{hint}"
    # What follows the first sentence is click's own hint, which is worded differently from version to version.
    message = error.format_message().partition(". ")[0].strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    if context is not None and context.command is _program:
        return f"{message}; use edge serve MODULE:ATTR, or see edge --help"
    return f"{message}; see {context.command_path if context is not None else 'edge serve'} --help"


serve_command = click.Command(
    "serve",
    callback=_serve,
    params=[
        *parameters(),
        click.Option(["--help", "-h"], is_flag=True, is_eager=True, expose_value=False, callback=_show_help),
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_show_version),
    ],
    add_help_option=False,
    help=_SERVE_HELP,
)
_program.add_command(serve_command)


def _other_commands() -> Iterator[click.Command]:
    from edge import cli_control
    from edge.cli_cert.group import cert_group
    from edge.cli_check import check_command
    from edge.cli_compat import group as cli_compat
    from edge.cli_completion import completion_command
    from edge.cli_compose import compose_group
    from edge.cli_config import config_command
    from edge.cli_trust.group import trust_group

    yield from cli_compat.commands(
        lambda words: int(serve_command.main(words, "edge serve", standalone_mode=False) or 0),
        lambda words: int(check_command.main(words, "edge check", standalone_mode=False) or 0),
    )
    yield from (check_command, config_command, cert_group, compose_group, trust_group, completion_command(_program))
    yield from cli_control.COMMANDS
