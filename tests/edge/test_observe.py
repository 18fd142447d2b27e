"""The access log, the clock of the answers, and the server's own log."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import pty
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config_logs import LogSettings
from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Client
from edge.errors import ConfigError
from edge.http.events import RequestHead
from edge.http.fields import TRACE
from edge.observe import FLUSH_COUNT, OWN, AccessLog, Clock, set_up_logging, wants_colors, wants_json
from edge_backend import wire

NOW = 1_700_000_000.123


def clock() -> Clock:
    made = Clock()
    made.tick(NOW)
    return made


def over(target: bytes = b"/", **attributes: Any) -> Exchange:
    """Return an exchange that is over: half a millisecond in the queue, two in the application."""
    head = RequestHead(1, b"GET", target, b"1.1", b"shop.example")
    exchange = Exchange(cast(Client, None), head, b"id-1", b"192.0.2.1", 100.0)
    exchange.sent_at, exchange.finished_at = 100.0005, 100.0025
    exchange.status, exchange.worker, exchange.written = 200, 3, 42
    for name, value in attributes.items():
        setattr(exchange, name, value)
    return exchange


class Log:
    """An access log to a file, and its lines."""

    def __init__(self, path: Path, *, json_lines: bool = True) -> None:
        self.path = path
        self.file = path.open("wb")
        self.asked_to_flush = 0
        self.access = AccessLog(self.file.fileno(), json_lines=json_lines, clock=clock(), later=self._flush_later)

    def _flush_later(self) -> None:
        self.asked_to_flush += 1

    def line(self, exchange: Exchange, tls: bytes = b"TLSv1.3") -> str:
        """Return the line of an exchange."""
        self.access.write(exchange, tls)
        self.access.flush()
        text = self.path.read_text()
        assert text.endswith("\n")
        return text.removesuffix("\n")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log")
    yield made
    made.file.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log", json_lines=False)
    yield made
    made.file.close()


# The access log.


def test_json_line_has_the_request_its_answer_and_its_times(log: Log) -> None:
    entry = json.loads(log.line(over(b"/a?b=c", content_read=7)))
    assert entry.pop("duration_us") == pytest.approx(2500, abs=1)
    assert entry.pop("queue_us") == pytest.approx(500, abs=1)
    assert entry.pop("app_us") == pytest.approx(2000, abs=1)
    assert entry == {
        "time": "2023-11-14T22:13:20.123Z",
        "request_id": "id-1",
        "client": "192.0.2.1",
        "method": "GET",
        "host": "shop.example",
        "target": "/a?b=c",
        "version": "1.1",
        "status": 200,
        "bytes_in": 7,
        "bytes_out": 42,
        "worker": 3,
        "tls": "TLSv1.3",
    }


def test_json_line_has_the_trace_where_the_head_has_one(log: Log) -> None:
    exchange = over(reason="cut off")
    exchange.head.lines = [b"traceparent\n00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
    exchange.head.flags = TRACE
    entry = json.loads(log.line(exchange))
    assert (entry["trace_id"], entry["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert entry["error"] == "cut off"


def test_trace_that_is_none_is_not_in_the_line(log: Log) -> None:
    exchange = over()
    exchange.head.lines, exchange.head.flags = [b"traceparent\nno"], TRACE
    assert not {"trace_id", "span_id", "error"} & json.loads(log.line(exchange)).keys()


def test_console_line_has_the_same_for_people(console: Log) -> None:
    line = console.line(over(b"/a"))
    assert line == (
        '2023-11-14T22:13:20.123Z 192.0.2.1 "GET /a HTTP/1.1" 200 42 bytes in 2.5 ms (queue 0.5, app 2.0) worker 3 '
        "TLSv1.3 id-1"
    )


def test_request_that_no_worker_got_has_no_times_of_one(log: Log) -> None:
    entry = json.loads(log.line(over(sent_at=0.0, worker=-1, reason="queue full")))
    assert (entry["queue_us"], entry["app_us"], entry["worker"]) == (0, 0, -1)
    assert entry["error"] == "queue full"


def test_console_says_plain_and_the_reason(console: Log) -> None:
    line = console.line(over(sent_at=0.0, reason='Host "a\nb"'), tls=b"")
    assert "(queue 0.0, app 0.0)" in line
    assert line.endswith(r" plain id-1 Host \\x22a\\x0ab\\x22")


@given(st.text(max_size=60))
def test_any_reason_is_one_line_and_comes_back_out_of_json(reason: str) -> None:
    encoded = AccessLog(-1, json_lines=True, clock=clock(), later=int)._encode_json(over(reason=reason), b"")
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded).get("error", "") == reason


@given(st.from_regex(rb'/[!"$-\[\]-~]*', fullmatch=True))
def test_any_target_is_one_line_in_both_formats(target: bytes) -> None:
    access = AccessLog(-1, json_lines=True, clock=clock(), later=int)
    assert json.loads(access._encode_json(over(target), b""))["target"].startswith("/")
    line = access._encode_console(over(target), b"")
    assert line.count(b"\n") == 1
    assert line.count(b'"') == 2


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        (b"/?token=abc&page=2", "/?token=[redacted]&page=2"),
        (b"/?page=2&access_token=abc", "/?page=2&access_token=[redacted]"),
        (b"/?API-Key=abc", "/?API-Key=[redacted]"),
        (b"/?user_password=a;secret=b", "/?user_password=[redacted];secret=[redacted]"),
        (b"/?code=a&state=b", "/?code=[redacted]&state=b"),
        (b"/?X-Amz-Signature=a", "/?X-Amz-Signature=[redacted]"),
        (b'/?token=a"b', "/?token=[redacted]"),
        (b"/?tokens=2&keyword=a", "/?tokens=2&keyword=a"),
        (b"/token=abc", "/token=abc"),
    ],
)
def test_secrets_in_the_query_are_redacted(log: Log, target: bytes, logged: str) -> None:
    assert json.loads(log.line(over(target)))["target"] == logged


def test_lines_leave_together(log: Log) -> None:
    for number in range(FLUSH_COUNT - 1):
        log.access.write(over(b"/%d" % number), b"")
    assert log.path.read_bytes() == b""
    assert log.asked_to_flush == 1
    log.access.write(over(b"/last"), b"")
    lines = log.path.read_text().splitlines()
    assert [json.loads(line)["target"] for line in lines] == [f"/{n}" for n in range(FLUSH_COUNT - 1)] + ["/last"]
    log.access.flush()
    assert len(log.path.read_text().splitlines()) == FLUSH_COUNT


def test_lines_of_several_processes_are_whole_in_a_pipe_that_is_read_slowly() -> None:
    reader, writer = os.pipe()

    def log(worker: int) -> None:
        access = AccessLog(writer, json_lines=True, clock=clock(), later=lambda: None)
        for number in range(4 * FLUSH_COUNT):
            access.write(over(b"/" + b"a" * (number % 600), worker=worker), b"TLSv1.3")
        access.flush()

    threads = [threading.Thread(target=log, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    found: Counter[int] = Counter()
    with os.fdopen(reader, "rb", buffering=1000) as lines:
        for line in itertools.islice(lines, 3 * 4 * FLUSH_COUNT):
            found[json.loads(line)["worker"]] += 1
    for thread in threads:
        thread.join()
    os.close(writer)
    assert found == dict.fromkeys(range(3), 4 * FLUSH_COUNT)


@pytest.fixture
def own_log() -> Iterator[io.StringIO]:
    """What the logger of the server says; it is as it was afterwards."""
    logger = logging.getLogger("edge")
    before = logger.handlers[:], logger.level, logger.propagate
    stream = io.StringIO()
    logger.handlers[:] = [logging.StreamHandler(stream)]
    logger.setLevel(logging.INFO)
    yield stream
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def test_lines_that_cannot_be_written_end_no_request_and_are_counted(own_log: io.StringIO) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    filler = 0
    while True:
        try:
            filler += os.write(write_end, b"x" * 4096)
        except BlockingIOError:
            break
    access = AccessLog(write_end, json_lines=True, clock=clock(), later=int)
    for _ in range(3):
        access.write(over(), b"")
        access.flush()
    assert own_log.getvalue().count("lines are lost until it can be written again") == 1
    while filler:
        filler -= len(os.read(read_end, filler))
    access.write(over(b"/after"), b"")
    access.flush()
    assert json.loads(os.read(read_end, 65536))["target"] == "/after"
    assert own_log.getvalue().endswith("access log: it can be written again; up to 3 lines were lost\n")
    os.close(read_end)
    os.close(write_end)


# The clock.


def test_clock_gives_the_texts_of_the_second() -> None:
    made = clock()
    assert made.date == b"Tue, 14 Nov 2023 22:13:20 GMT"
    assert made.stamp == b"2023-11-14T22:13:20.123Z"
    date = b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
    assert made.lines == {
        0: date + b"server: edge\r\nx-request-id: ",
        wire.HAS_DATE: b"server: edge\r\nx-request-id: ",
        wire.HAS_SERVER: date + b"x-request-id: ",
        OWN: b"x-request-id: ",
    }
    assert made.fields[wire.HAS_DATE] == [b"server", b"edge"]


def test_clock_moves_the_stamp_within_a_second_and_the_date_from_second_to_second() -> None:
    made = clock()
    made.tick(NOW + 0.5)
    assert (made.stamp, made.date) == (b"2023-11-14T22:13:20.623Z", b"Tue, 14 Nov 2023 22:13:20 GMT")
    made.tick(NOW + 1)
    assert (made.stamp, made.date) == (b"2023-11-14T22:13:21.123Z", b"Tue, 14 Nov 2023 22:13:21 GMT")


def test_request_ids_count_up_and_differ_between_processes() -> None:
    one, other = Clock(), Clock()
    first, second = one.next_id(), one.next_id()
    assert re.fullmatch(rb"[0-9a-f]{12}00000001", first)
    assert second == first[:12] + b"00000002"
    assert other.next_id() != first


# The server's own log.


@pytest.mark.parametrize(("log_format", "expected"), [("json", True), ("console", False), ("auto", True)])
def test_log_is_json_as_said_or_where_no_terminal_is(
    monkeypatch: pytest.MonkeyPatch, log_format: str, expected: bool
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert wants_json(LogSettings(format=log_format)) is expected  # type: ignore[arg-type]  # one of them


def test_log_is_for_people_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert not wants_json(LogSettings())
        assert wants_json(LogSettings(format="json"))
        assert wants_json(LogSettings(line="json"))
        assert not wants_json(LogSettings(format="json", line="console"))
    os.close(leader)


def test_own_log_is_one_line_each_from_its_level_on(monkeypatch: pytest.MonkeyPatch, own_log: io.StringIO) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert set_up_logging(LogSettings("warning")) == ""
    logging.getLogger("edge.net").info("not this")
    logging.getLogger("edge.net").warning("but this")
    assert set_up_logging(LogSettings("warning")) == ""
    logging.getLogger("edge.net").warning("once")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("WARNING edge.net: but this")
    assert lines[1].endswith("WARNING edge.net: once")
    assert own_log.getvalue() == ""


def test_colours_are_for_terminals_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    leader, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        assert wants_colors(None, stream)
        assert not wants_colors(False, stream)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not wants_colors(None, stream)
        assert wants_colors(True, stream)
    os.close(leader)
    assert not wants_colors(None, io.StringIO())


def test_status_and_level_are_in_colours_where_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_log: io.StringIO
) -> None:
    with (tmp_path / "log").open("wb") as file:
        access = AccessLog(file.fileno(), json_lines=False, clock=clock(), later=int, colors=True)
        access.write(over(status=404), b"")
        access.flush()
    assert ' HTTP/1.1" \033[31m404\033[0m 42 bytes' in (tmp_path / "log").read_text()
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logging(LogSettings("warning", colors=True))
    logging.getLogger("edge.net").warning("careful")
    assert stream.getvalue().endswith(" \033[33mWARNING\033[0m edge.net: careful\n")


def test_log_file_of_no_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--log-config .*nosuch.ini: no such file or directory; use a file that this"
    ):
        set_up_logging(LogSettings(config=str(tmp_path / "nosuch.ini")))
