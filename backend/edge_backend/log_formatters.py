"""Formatters of the server's own log, and of uvicorn's log files where uvicorn is not installed."""

from __future__ import annotations

import http
import logging
import sys
from copy import copy
from typing import Any, Literal

Style = Literal["%", "{", "$"]

_LEVEL_COLORS = {5: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31}
_CRITICAL_COLOR = 91
_STATUS_COLORS = {1: 97, 2: 32, 3: 33, 4: 31, 5: 91}


def paint(text: str, color: int) -> str:
    """Return text in a colour of terminals (ECMA-48 section 8.3.117)."""
    return f"\033[{color}m{text}\033[0m"


def paint_status(status: int, text: str) -> str:
    """Return text in the colour of a status."""
    return paint(text, _STATUS_COLORS.get(status // 100, 0))


class DefaultFormatter(logging.Formatter):
    """What uvicorn.logging.DefaultFormatter is to a file of `--log-config`: it knows `%(levelprefix)s`."""

    def __init__(
        self, fmt: str | None = None, datefmt: str | None = None, style: Style = "%", use_colors: bool | None = None
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self.use_colors = sys.stdout.isatty() if use_colors is None else use_colors

    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        level, blanks = record.levelname, " " * (8 - len(record.levelname))
        if self.use_colors:
            level = paint(level, _LEVEL_COLORS.get(record.levelno, _CRITICAL_COLOR))
        record.__dict__["levelprefix"] = f"{level}:{blanks}"
        return super().formatMessage(record)


class AccessFormatter(DefaultFormatter):
    """What uvicorn.logging.AccessFormatter is: `%(client_addr)s`, `%(request_line)s` and `%(status_code)s` besides."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        arguments: Any = record.args
        client, method, target, version, status = arguments
        line, answer = f"{method} {target} HTTP/{version}", f"{status} {_phrase(int(status))}"
        if self.use_colors:
            line, answer = paint(line, 1), paint_status(int(status), answer)
        record.__dict__.update(client_addr=client, request_line=line, status_code=answer)
        return super().formatMessage(record)


class ColorFormatter(logging.Formatter):
    """A formatter whose level names are in colours."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        record.levelname = paint(record.levelname, _LEVEL_COLORS.get(record.levelno, _CRITICAL_COLOR))
        return super().formatMessage(record)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""
