"""The settings of the logs."""

from dataclasses import dataclass
from typing import Literal

from edge.options import choice, setting, switch


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged and how; `auto` is readable on a terminal and JSON lines otherwise."""

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
