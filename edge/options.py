"""What an option is: its flags, and how its value is read from a flag, from the environment or from Python.

A `Kind` reads one sort of value. It takes text (flags, environment) as well as the Python value itself (`edge.run`) and
refuses with a message that begins with the value, so that the caller only puts the option's name before it.
"""

import dataclasses
import difflib
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from edge.errors import ConfigError
from edge.net.address import Address, parse_address, parse_host
from edge_backend.target import TargetError, parse_target

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
# The longest duration that an option takes: longer ones are a slip of the unit.
LONGEST = 86_400.0

_SIZE_UNITS = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB}
_TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")
_METADATA = "option"


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of value: `parse` reads it (or raises ConfigError), `show` writes a default for the help.

    In a variable, the values of one that may be repeated stand with blanks between them, or commas unless those
    belong to a value. `anchor` puts a folder before a relative path: those in a file are relative to it.
    """

    metavar: str
    parse: Callable[[object], Any]  # the one Any here: what it returns is the type of the option's field
    show: Callable[[Any], str] = str
    repeat: bool = False
    switch: bool = False
    has_commas: bool = False
    anchor: Callable[[str, str], str] | None = None

    def anchored(self, value: object, folder: str) -> object:
        """Return the value with `folder` before the relative paths in it, if it is of those."""
        if self.anchor is None:
            return value
        if isinstance(value, list):
            return [self.anchored(item, folder) for item in value]
        return self.anchor(folder, value) if isinstance(value, str) and value else value

    def split(self, text: str) -> list[str]:
        """Return the values in the text of a variable."""
        return (text if self.has_commas else text.replace(",", " ")).split()


@dataclass(frozen=True, slots=True)
class Option:
    """One option. The first flag names it everywhere: `--max-body`, `EDGE_MAX_BODY`, `max_body=`.

    `environment` holds variables of other programs that are honoured after our own. `shown` is the default in the help.
    """

    flags: tuple[str, ...]
    kind: Kind
    help: str
    shown: str
    environment: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The option's name in Python."""
        return self.keys[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """The option's names in Python: one for each long flag, the first is the main one."""
        return tuple(f.lstrip("-").replace("-", "_") for f in self.flags if not _is_short(f))

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set this option, the strongest first."""
        return (*(f"EDGE_{key.upper()}" for key in self.keys), *self.environment)

    @property
    def is_argument(self) -> bool:
        """True for what the command line takes by its position."""
        return not self.flags[0].startswith("-")


def setting(
    default: T,
    kind: Kind,
    *flags: str,
    help: str,
    shown: str | None = None,
    environment: tuple[str, ...] = (),
    beside: tuple[Option, ...] = (),
    is_secret: bool = False,
) -> T:
    """Return a dataclass field that carries its option; the default stands here and nowhere else.

    `shown` is the default in words. `beside` are further options that the same field is made from. A secret is in no
    repr.
    """
    option = Option(flags, kind, help, kind.show(default) if shown is None else shown, environment)
    return dataclasses.field(default=default, metadata={_METADATA: (option, *beside)}, repr=not is_secret)


def computed(
    default: Callable[[], T], kind: Kind, *flags: str, help: str, shown: str, environment: tuple[str, ...] = ()
) -> T:
    """Return a dataclass field like `setting`'s whose default is asked for when it is needed."""
    option = Option(flags, kind, help, shown, environment)
    return dataclasses.field(default_factory=default, metadata={_METADATA: (option,)})


def required(kind: Kind, *flags: str, help: str, beside: tuple[Option, ...] = ()) -> Any:
    """Return a dataclass field without a default that carries its option, and those `beside` it."""
    return dataclasses.field(metadata={_METADATA: (Option(flags, kind, help, "required"), *beside)})


def options_of(field: dataclasses.Field[Any]) -> tuple[Option, ...]:
    """Return the options that a dataclass field is made from, its own first."""
    return cast(tuple[Option, ...], field.metadata.get(_METADATA, ()))


def count(minimum: int, maximum: int, *, auto: Callable[[], int] | None = None) -> Kind:
    """A whole number from `minimum` to `maximum`; with `auto`, also the word that asks for its answer."""
    word = " or auto" if auto else ""
    allowed = f"use {minimum} to {maximum}{word}"

    def parse(value: object) -> int:
        if auto and value == "auto":
            return auto()
        text = value if isinstance(value, str) else repr(value)
        # int() also takes "+1", "1_000" and other alphabets' digits.
        if not re.fullmatch("-?[0-9]{1,18}", text):
            raise ConfigError(f"{value!r}: not a whole number; {allowed}")
        if not minimum <= int(text) <= maximum:
            raise ConfigError(f"{value!r}: out of range; {allowed}")
        return int(text)

    return Kind("N|auto" if auto else "N", parse)


def size(minimum: int, maximum: int) -> Kind:
    """A number of bytes, plain or with a unit of powers of 1024."""

    def parse(value: object) -> int:
        text = value if isinstance(value, str) else repr(value)
        match = re.fullmatch(r"(-?[0-9]{1,18})\s*([A-Za-z]*)", text)
        if not match:
            raise ConfigError(f"{value!r}: not a size; use a number of bytes, or one of KiB, MiB, GiB")
        unit = _SIZE_UNITS.get(match[2].lower())
        if unit is None:
            raise ConfigError(f"{value!r}: unknown unit {match[2]!r}; use KiB, MiB, GiB or a number of bytes")
        number = int(match[1]) * unit
        if not minimum <= number <= maximum:
            raise ConfigError(f"{value!r}: out of range; use {show_size(minimum)} to {show_size(maximum)}")
        return number

    return Kind("SIZE", parse, show_size)


def seconds(minimum: float = 0.001) -> Kind:
    """A duration in seconds, plain or with a unit; by default zero is refused."""

    def parse(value: object) -> float:
        text = value if isinstance(value, str) else repr(value)
        match = re.fullmatch(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*([A-Za-z]*)", text)
        if not match:
            raise ConfigError(f"{value!r}: not a duration; use a number of seconds, or one such as 500ms, 10s, 2m")
        unit = _TIME_UNITS.get(match[2].lower())
        if unit is None:
            raise ConfigError(f"{value!r}: unknown unit {match[2]!r}; use ms, s, m, h or a number of seconds")
        number = float(match[1]) * unit
        if not minimum <= number <= LONGEST:
            raise ConfigError(f"{value!r}: out of range; use {show_seconds(minimum)} to {show_seconds(LONGEST)}")
        return number

    return Kind("SECONDS", parse, show_seconds)


def choice(*words: str) -> Kind:
    """One of some words, in any case."""
    allowed = f"{', '.join(words[:-1])} or {words[-1]}"

    def parse(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in words:
            raise ConfigError(f"{value!r}: unknown; use {allowed}")
        return value.lower()

    return Kind("|".join(words), parse)


def switch() -> Kind:
    """On or off: a flag without a value."""

    def parse(value: object) -> bool:
        word = str(value).lower()
        if word not in _ON + _OFF:
            raise ConfigError(f"{value!r}: neither on nor off; use 1 or 0, true or false, yes or no, on or off")
        return word in _ON

    return Kind("", parse, lambda value: "on" if value else "off", switch=True)


def host() -> Kind:
    """A host name or an IP address to bind."""
    return Kind("HOST", lambda value: parse_host(text_of(value)))


def addresses() -> Kind:
    """Addresses to bind, see edge.net.address."""

    def parse(value: object) -> tuple[Address, ...]:
        return tuple(parse_address(text_of(item)) for item in items_of(value))

    return Kind("ADDRESS", parse, repeat=True, anchor=anchor_address)


def anchor_address(folder: str, text: str) -> str:
    """Return the address with `folder` before the path of a Unix socket."""
    path = text.removeprefix("unix:")
    return text if path in (text, "") else f"unix:{os.path.join(folder, path)}"


def files() -> Kind:
    """Paths of files. That they exist is asked by who reads them."""

    def parse(value: object) -> tuple[Path, ...]:
        return tuple(Path(path_of(item)) for item in items_of(value))

    return Kind("FILE", parse, repeat=True, anchor=os.path.join)


def names() -> Kind:
    """Host names and addresses; each item may be a comma list. Whoever makes the certificate asks if they can be."""

    def parse(value: object) -> tuple[str, ...]:
        words = [word.strip() for item in items_of(value) for word in text_of(item).split(",")]
        return tuple(dict.fromkeys(word for word in words if word))

    return Kind("NAME", parse, repeat=True)


def certificate_names() -> Kind:
    """The names of certificates, of each as a comma list. Whoever orders them asks if they can be."""

    def parse(value: object) -> tuple[tuple[str, ...], ...]:
        groups = [tuple(word.strip() for word in text_of(item).split(",")) for item in items_of(value)]
        names = [name for group in groups for name in group]
        for name in names:
            if not name:
                raise ConfigError(f"{value!r}: an empty name; use one such as example.com, or NAME,NAME")
            if names.count(name) > 1:
                raise ConfigError(f"{name!r}: given twice; leave out one")
        return tuple(groups)

    return Kind("NAME[,NAME]", parse, repeat=True, has_commas=True)


def choices(*words: str) -> Kind:
    """Some of some words, in the order of preference."""
    one = choice(*words)

    def parse(value: object) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.parse(item) for item in items_of(value)))

    return Kind(one.metavar, parse, repeat=True)


def text() -> Kind:
    """Visible ASCII, of which others know what it means."""

    def parse(value: object) -> str:
        found = text_of(value).strip()
        if not re.fullmatch("[ -~]{1,1000}", found):
            raise ConfigError(f"{value!r}: not visible ASCII; use what the authority names")
        return found

    return Kind("TEXT", parse)


def email() -> Kind:
    """An e-mail address."""

    def parse(value: object) -> str:
        if not re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9.-]+", text_of(value)):
            raise ConfigError(f"{value!r}: not an e-mail address; use one such as you@example.com")
        return str(value)

    return Kind("ADDRESS", parse)


def https_url() -> Kind:
    """An https URL."""

    def parse(value: object) -> str:
        if not re.fullmatch("https://[!-~]+", text_of(value)):
            raise ConfigError(f"{value!r}: not an https URL; use one such as https://ca.example/acme/directory")
        return str(value)

    return Kind("URL", parse)


def command() -> Kind:
    """A command with its arguments, quoted as for a shell, which does not run it."""

    def parse(value: object) -> str:
        try:
            words = shlex.split(text_of(value))
        except ValueError as error:
            raise ConfigError(f"{value!r}: {str(error).lower()}; quote it as for a shell") from error
        if not words:
            raise ConfigError(f"{value!r}: no command; use the name of a program")
        return str(value)

    return Kind("COMMAND", parse)


def file(metavar: str = "FILE") -> Kind:
    """The path of one file. That it exists is asked by who reads it."""
    return Kind(metavar, path_of, anchor=os.path.join)


def directory() -> Kind:
    """The path of a directory that exists."""

    def parse(value: object) -> str:
        path = path_of(value)
        if not os.path.isdir(path):
            raise ConfigError(f"{value!r}: no such directory; use one that exists")
        return path

    return Kind("DIR", parse, anchor=os.path.join)


def account() -> Kind:
    """The name of a user or a group, or its number."""

    def parse(value: object) -> str:
        if type(value) not in (str, int) or not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", str(value)):
            raise ConfigError(f"{value!r}: no name of an account; use a name or a number")
        return str(value)

    return Kind("NAME", parse)


def prefix() -> Kind:
    """A path under which the application is mounted: empty, or with a slash before and none after it."""

    def parse(value: object) -> str:
        text = text_of(value)
        if text and not re.fullmatch("/[!-~]*", text):
            raise ConfigError(f"{value!r}: not a path of visible ASCII that begins with '/'; use one such as '/api'")
        return text.rstrip("/")

    return Kind("PATH", parse)


def application() -> Kind:
    """The name of an application, see edge_backend.target."""

    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise ConfigError(f"{value!r}: workers import the application by its name; use 'MODULE:ATTR'")
        try:
            parse_target(value)
        except TargetError as error:
            raise ConfigError(f"{value!r}: {error}") from None
        return value

    return Kind("MODULE:ATTR", parse)


def nearest(word: str, words: Iterable[str], before: str = "") -> str:
    """Return "; did you mean ..." with the likeliest of `words`, `before` before it, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.7)
    return f"; did you mean {before}{near[0]}" if near else ""


def show_size(number: int) -> str:
    """Return a number of bytes as the help and the messages write it."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number and number % unit == 0:
            return f"{number // unit}{name}"
    return str(number)


def show_seconds(number: float) -> str:
    """Return a duration as the help and the messages write it."""
    if 0 < number < 1:
        return f"{number * 1000:g}ms"
    if number and math.fmod(number, 3600) == 0:
        return f"{number / 3600:g}h"
    return f"{number:g}s"


def items_of(value: object) -> list[object]:
    """Return the items of a value of which there may be several; a table is one, and whoever reads it refuses that."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return list(value)
    return [value]


def text_of(value: object) -> str:
    """Return a value that has to be text. Raises ConfigError if it is not."""
    if not isinstance(value, str):
        raise ConfigError(f"{value!r}: not text; use a string")
    return value


def path_of(value: object) -> str:
    """Return a value that has to be a path. Raises ConfigError if it is none."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(f"{value!r}: not a path; use the name of a file or directory")
    return path


def _is_short(flag: str) -> bool:
    return flag.startswith("-") and not flag.startswith("--")
