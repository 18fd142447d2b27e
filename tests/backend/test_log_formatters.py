import logging
import sys
from io import StringIO

import pytest

from edge_backend.log_formatters import AccessFormatter, ColorFormatter, DefaultFormatter


def record(level: int = logging.INFO, message: str = "text", *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("name", level, "", 1, message, arguments, None)


ACCESS = ("192.0.2.1", "GET", "/a", "1.1", 404)


@pytest.mark.parametrize(
    ("level", "plain", "painted"),
    [
        (logging.DEBUG, "DEBUG:    text", "\033[36mDEBUG\033[0m:    text"),
        (logging.INFO, "INFO:     text", "\033[32mINFO\033[0m:     text"),
        (logging.CRITICAL, "CRITICAL: text", "\033[91mCRITICAL\033[0m: text"),
    ],
)
def test_level_is_a_prefix_of_one_width(level: int, plain: str, painted: str) -> None:
    formatter = DefaultFormatter("%(levelprefix)s %(message)s", use_colors=False)
    assert formatter.format(record(level)) == plain
    assert DefaultFormatter("%(levelprefix)s %(message)s", use_colors=True).format(record(level)) == painted


@pytest.mark.parametrize(
    ("status", "text"), [(200, "200 OK"), (404, "404 Not Found"), (599, "599 "), (499, "499 ")], ids=str
)
def test_access_record_has_its_parts(status: int, text: str) -> None:
    arguments = (*ACCESS[:4], status)
    formatter = AccessFormatter('%(client_addr)s - "%(request_line)s" %(status_code)s', use_colors=False)
    assert (
        formatter.format(record(logging.INFO, "%s %s %s %s %d", *arguments)) == f'192.0.2.1 - "GET /a HTTP/1.1" {text}'
    )


def test_access_record_is_in_colours() -> None:
    formatter = AccessFormatter("%(request_line)s %(status_code)s", use_colors=True)
    expected = "\033[1mGET /a HTTP/1.1\033[0m \033[31m404 Not Found\033[0m"
    assert formatter.format(record(logging.INFO, "%s %s %s %s %d", *ACCESS)) == expected


def test_colours_are_by_default_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", StringIO())
    assert DefaultFormatter().use_colors is False


def test_level_of_the_servers_own_lines_is_in_its_colour() -> None:
    found = record(logging.ERROR)
    assert ColorFormatter("%(levelname)s %(message)s").format(found) == "\033[31mERROR\033[0m text"
    assert found.levelname == "ERROR"
