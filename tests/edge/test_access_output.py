"""Where lines of the access log go: files, syslog, loggers."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from edge.access_output import open_output
from edge.config_logs import LogSettings
from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Client
from edge.errors import ConfigError
from edge.http.events import RequestHead


def over() -> Exchange:
    head = RequestHead(1, b"GET", b"/?key=abc", b"1.1", b"shop.example")
    exchange = Exchange(cast(Client, None), head, b"id-1", b"192.0.2.1", 100.0)
    exchange.finished_at, exchange.status = 100.5, 200
    return exchange


def plain(exchange: Exchange, tls: bytes) -> bytes:
    return b"plain %d\n" % exchange.status


@pytest.fixture(params=["uvicorn.access", "gunicorn.access"])
def logger(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    found = logging.getLogger(request.param)
    before = found.level
    found.setLevel("INFO")
    yield found
    found.setLevel(before)


@pytest.mark.parametrize("settings", [LogSettings(), LogSettings(line="json"), LogSettings(access_file="-")])
def test_our_own_formats_go_to_standard_output_by_themselves(settings: LogSettings) -> None:
    assert open_output(settings) is None


def test_format_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    output = open_output(LogSettings(line="%(h)s"))
    assert output is not None
    output.write([(over(), b""), (over(), b"")], plain)
    output.reopen()
    output.close()
    assert capfd.readouterr().out == "192.0.2.1\n192.0.2.1\n"


@pytest.mark.parametrize(("line", "expected"), [("", "plain 200\n"), ("%(s)s", "200\n")])
def test_file_is_added_to_and_begun_anew_when_it_was_moved(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    output = open_output(LogSettings(access_file=str(path), line=line))
    assert output is not None
    output.write([(over(), b"")], plain)
    path.rename(tmp_path / "access.log.1")
    output.write([(over(), b"")], plain)
    output.reopen()
    output.write([(over(), b"")], plain)
    output.close()
    assert (tmp_path / "access.log.1").read_text() == "before\n" + 2 * expected
    assert path.read_text() == expected


def test_file_that_cannot_be_begun_anew_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    output = open_output(LogSettings(access_file=str(folder / "access.log")))
    assert output is not None
    folder.rename(tmp_path / "moved")
    with caplog.at_level("ERROR", "edge.access"):
        logging.getLogger("edge").propagate, before = True, logging.getLogger("edge").propagate
        output.reopen()
        logging.getLogger("edge").propagate = before
    assert "no such file or directory; use a file that this user may write; the old file goes on" in caplog.text
    output.write([(over(), b"")], plain)
    output.close()
    assert (tmp_path / "moved" / "access.log").read_text() == "plain 200\n"


def test_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--access-logfile .*/no/a.log: no such file or directory; use a file that"):
        open_output(LogSettings(access_file=str(tmp_path / "no" / "a.log")))


@pytest.mark.parametrize("by_path", [True, False])
def test_syslog_gets_a_datagram_for_each_line(tmp_path: Path, by_path: bool) -> None:
    kind = socket.AF_UNIX if by_path else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log") if by_path else ("127.0.0.1", 0))
        daemon.settimeout(10)
        where = tmp_path / "log" if by_path else f"127.0.0.1:{daemon.getsockname()[1]}"
        output = open_output(LogSettings(access_file=f"syslog:{where}"))
        assert output is not None
        output.write([(over(), b"")], plain)
        # Facility daemon, severity informational (RFC 5424 section 6.2.1).
        assert daemon.recv(1000).rstrip(b"\0") == b"<30>edge: plain 200"
        output.reopen()
        output.close()


def test_syslog_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--access-logfile syslog:.*: .*; use syslog:PATH or syslog:HOST:PORT"):
        open_output(LogSettings(access_file=f"syslog:{tmp_path}/no"))


def test_loggers_of_a_log_file_get_the_lines(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger.name):
        for settings in (LogSettings(), LogSettings(line="%(s)s"), LogSettings(line="json")):
            output = open_output(settings, logger.name)
            assert output is not None
            output.write([(over(), b"")], plain)
            output.reopen()
            output.close()
    first, *others = [record.getMessage() for record in caplog.records]
    assert others == ["200", "plain 200"]
    if logger.name == "uvicorn.access":
        assert first == '192.0.2.1 - "GET /?key=[redacted] HTTP/1.1" 200'
        assert caplog.records[0].args == ("192.0.2.1", "GET", "/?key=[redacted]", "1.1", 200)
    else:
        assert first.endswith('"GET /?key=[redacted] HTTP/1.1" 200 - "-" "-"')


def test_file_is_stronger_than_a_logger(tmp_path: Path) -> None:
    output = open_output(LogSettings(access_file=str(tmp_path / "a.log")), "uvicorn.access")
    assert output is not None
    output.write([(over(), b"")], plain)
    output.close()
    assert os.listdir(tmp_path) == ["a.log"]
    assert open_output(LogSettings(access_file="-"), "uvicorn.access") is None
