"""The settings of the logs."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from edge.errors import ConfigError
from edge.options import Kind, choice, file, setting, switch

# An atom of a format: `%(h)s`, or with the name of a field `%({referer}i)s`.
ATOM: Final = re.compile(r"%\((\{([^{}()%]+)\})?([A-Za-z_]+)\)[sd]")
# gunicorn's own.
DEFAULT_FORMAT: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
# gunicorn's, then what hypercorn adds, then ours.
_OTHER_ATOMS = ("R", "st", "S", "Uq", "host", "request_id", "worker", "queue", "tls", "trace_id", "span_id", "error")
ATOMS: Final = frozenset((*"hlutrmUqHsBbfaTMDLp", *_OTHER_ATOMS))


def line_format() -> Kind:
    """What a line of the access log is made of: atoms in parentheses, or the name of one of our two formats."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ConfigError(f"{value!r}: not a format; use json, console, or text with atoms such as %(h)s")
        for match in ATOM.finditer(value):
            _check_atom(value, match)
        rest = ATOM.sub("", value).replace("%%", "")
        if "%" in rest:
            raise ConfigError(f"{value!r}: {rest[rest.index('%') :][:12]!r} is no atom; use %(h)s and its like, or %%")
        return value

    return Kind("json|console|TEXT", parse)


def _check_atom(text: str, match: re.Match[str]) -> None:
    if match[1] and match[3] == "e":
        raise ConfigError(f"{text!r}: {match[0]}: there is no WSGI environ here; use {{NAME}}i for a field of requests")
    if match[1] and match[3] not in ("i", "o"):
        raise ConfigError(f"{text!r}: {match[0]}: unknown; use {{NAME}}i for a field of requests, {{NAME}}o of answers")
    if not match[1] and match[3] not in ATOMS:
        raise ConfigError(f"{text!r}: {match[0]}: unknown; use one of {' '.join(sorted(ATOMS))}")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged and how; `auto` is readable on a terminal and JSON lines otherwise.

    An empty `access_file` or `-` is standard output; an empty `line` is as `format` says.
    """

    level: Literal["critical", "error", "warning", "info", "debug", "trace"] = setting(
        "info",
        choice("critical", "error", "warning", "info", "debug", "trace"),
        "--log-level",
        help="least level that is logged; trace = each ASGI message",
    )
    access_log: bool = setting(True, switch(), "--access-log", help="one line for each request")
    format: Literal["auto", "json", "console"] = setting(
        "auto", choice("auto", "json", "console"), "--log-format", help="auto = console on a terminal, else json"
    )
    access_file: str = setting(
        "",
        file(),
        "--access-logfile",
        shown="standard output",
        help="where the access log goes: a file, -, syslog:, syslog:PATH or syslog:HOST:PORT; SIGUSR1 reopens it",
    )
    line: str = setting(
        "", line_format(), "--access-log-format", shown="as --log-format", help="line of the access log, see Logs"
    )
    config: str = setting(
        "",
        file(),
        "--log-config",
        shown="none",
        help="file for logging.config: JSON, YAML, TOML or INI; also for the loggers of uvicorn and gunicorn",
    )
    colors: bool | None = setting(
        None, switch(), "--use-colors", shown="on a terminal", help="colours in what is for people"
    )
