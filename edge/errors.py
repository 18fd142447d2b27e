"""What ends a command with one line on stderr: nothing here is ever shown to a client."""

from typing import ClassVar


class EdgeError(Exception):
    """A failure that its message explains to the operator in one line, without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(EdgeError):
    """The command, an option or what it names is wrong; nothing was started (exit code 2)."""

    exit_code: ClassVar[int] = 2


class StartError(EdgeError):
    """The settings are right, and still the server could not start (exit code 1)."""
