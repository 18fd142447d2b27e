"""How a flag of another server is read, and what it amounts to: a few kinds of rules, and the result of them all."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, NoReturn, SupportsInt, cast

from edge.errors import ConfigError
from edge.options import nearest


@dataclass(frozen=True, slots=True)
class Left:
    """Something without a counterpart, and why."""

    reason: str


# Arguments of `edge serve`, or none of them and why.
Step = tuple[str, ...] | Left
Rule = Callable[[Any], Step]

_CLIENT_AUTH: Final = {0: "", 1: "optional", 2: "require"}


class Takes(Enum):
    """What follows a flag."""

    ONE = auto()
    MANY = auto()  # one value, and the flag may be repeated
    NOTHING = auto()
    OPTIONAL = auto()
    SWITCH = auto()  # nothing, and there is a flag to turn it off


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of another server: its spellings, what follows it, and what it amounts to."""

    names: tuple[str, ...]
    rule: Rule
    takes: Takes = Takes.ONE
    const: object = True  # what it means where nothing follows

    @property
    def key(self) -> str:
        """Its name, for a table."""
        return self.names[-1].lstrip("-").replace("-", "_")


@dataclass(slots=True)
class Translation:
    """What a command amounts to: arguments of `edge serve`, what is left out and why, and what goes with it."""

    arguments: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    log_file: str = ""  # where standard error goes

    def add(self, name: str, step: Step) -> None:
        """Take what `name` amounts to."""
        if isinstance(step, Left):
            self.left.append((name, step.reason))
        else:
            self.arguments += step


def same(flag: str) -> Rule:
    """The value goes to `flag`; an empty one to nothing."""
    return lambda value: (flag, str(value)) if str(value) else ()


def each(flag: str) -> Rule:
    """Each value goes to a `flag` of its own."""
    return lambda values: tuple(part for value in as_list(values) for part in (flag, str(value)))


def switch(on: str = "", off: str = "") -> Rule:
    """The one flag or the other; empty is none."""
    return lambda value: tuple(flag for flag in (on if value else off,) if flag)


def number(flag: str) -> Rule:
    """A number that is 0 or None where it is not to be."""
    return lambda value: (flag, str(value)) if value not in (None, "", 0, "0") else ()


def without(reason: str) -> Rule:
    """There is no counterpart, where it asks for something."""
    return lambda value: Left(reason) if value else ()


def nothing(_value: object) -> Step:
    """It is so anyway, or another flag takes it into account."""
    return ()


def refuse(reason: str) -> Rule:
    """Something else would be served than what was asked for."""

    def rule(value: Any) -> Step:
        if not value:
            return ()
        raise ConfigError(reason)

    return rule


def whole(name: str, value: object) -> int:
    """Return the number that a value means, which may be text.

    Raises ConfigError, with the name of the flag, if it is none.
    """
    try:
        return int(cast(str | SupportsInt, value))
    except (TypeError, ValueError):
        raise ConfigError(f"{name} {value!r}: not a whole number; use one") from None


def client_certificates(flag: str, wish: object, roots: object) -> Step:
    """What is asked of clients: `wish` is CERT_NONE, CERT_OPTIONAL or CERT_REQUIRED of `ssl`, by its number.

    Roots without a wish ask nobody for a certificate there; here they would turn everybody away who has none.

    Raises ConfigError, with the name of the flag, on another number.
    """
    number = whole(flag, wish or 0)
    if number not in _CLIENT_AUTH:
        raise ConfigError(f"{flag} {wish!r}: unknown; use 0, 1 or 2")
    asked = ("--client-auth", _CLIENT_AUTH[number]) if _CLIENT_AUTH[number] else ()
    if roots and not asked:
        return Left(f"no client is asked for a certificate; {flag.rpartition(' ')[2]} 2 asks each")
    return (*asked, "--client-ca", str(roots)) if roots else asked


def as_list(values: object) -> list[object]:
    """Return a list of what may be one value."""
    if values is None:
        return []
    return list(values) if isinstance(values, list | tuple) else [values]


def parse(program: str, flags: Sequence[Flag], arguments: Sequence[str], *, abbreviated: bool) -> dict[str, Any]:
    """Return the values of the flags that were given, by their keys; `app` is a list of the other words.

    Raises ConfigError on a flag that is not in the table, and on one without its value.
    """
    parser = argparse.ArgumentParser(program, add_help=False, allow_abbrev=abbreviated, exit_on_error=False)
    parser.add_argument("app", nargs="*", default=[])
    for flag in flags:
        _add(parser, flag)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found, unknown = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        name = f"{error.argument_name}: " if error.argument_name else ""
        _refuse(program, f"{name}{error.message}")
    except SystemExit:  # with the whole usage, for an abbreviation that could be several flags
        _refuse(program, said.getvalue().strip().rpartition("error: ")[2])
    if unknown:
        hint = nearest(unknown[0].partition("=")[0], [name for flag in flags for name in flag.names])
        _refuse(program, f"{unknown[0]}: unknown option{hint}")
    return {name: value for name, value in vars(found).items() if value is not None}


def _refuse(program: str, reason: str) -> NoReturn:
    raise ConfigError(f"{program} {reason}; see {program} --help")


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    dest: dict[str, Any] = {"dest": flag.key, "default": None}
    match flag.takes:
        case Takes.ONE:
            parser.add_argument(*flag.names, **dest)
        case Takes.MANY:
            parser.add_argument(*flag.names, action="append", **dest)
        case Takes.NOTHING:
            parser.add_argument(*flag.names, action="store_const", const=flag.const, **dest)
        case Takes.OPTIONAL:
            parser.add_argument(*flag.names, nargs="?", const=flag.const, **dest)
        case Takes.SWITCH:
            parser.add_argument(*flag.names, action=argparse.BooleanOptionalAction, **dest)


def apply(rules: Mapping[str, tuple[str, Rule]], values: Mapping[str, Any], translation: Translation) -> None:
    """Add what the values amount to, in the order of the rules: each has the spelling that messages name it by."""
    for key, (name, rule) in rules.items():
        if key in values and values[key] is not None:
            translation.add(name, rule(values[key]))
