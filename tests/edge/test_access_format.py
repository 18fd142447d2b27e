from __future__ import annotations

import base64
import os
import re
import time
from typing import Any, cast

import pytest

from edge.access_format import compile_format, needs_answer
from edge.config_logs import ATOMS
from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Client
from edge.http.events import RequestHead

TRACE = b"traceparent\n00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LINES = [b"referer\nhttp://a.example/", b"user-agent\ncurl/8\x01", b"x-a\none", b"x-a\ntwo", TRACE]


def over(target: bytes = b"/a%20b?c=d", lines: list[bytes] = LINES, **attributes: Any) -> Exchange:
    head = RequestHead(1, b"GET", target, b"1.1", b"shop.example")
    head.lines = lines
    exchange = Exchange(cast(Client, None), head, b"id-1", b"192.0.2.1", 100.0)
    exchange.sent_at, exchange.finished_at = 100.25, 101.5
    exchange.status, exchange.worker, exchange.written = 404, 3, 42
    for name, value in attributes.items():
        setattr(exchange, name, value)
    return exchange


def line(text: str, exchange: Exchange | None = None, tls: bytes = b"TLSv1.3") -> str:
    made = compile_format(text)(exchange or over(), tls).decode()
    assert made.endswith("\n")
    return made[:-1]


ATOM_VALUES = {
    "h": "192.0.2.1",
    "l": "-",
    "u": "-",
    "r": "GET /a%20b?c=d HTTP/1.1",
    "R": "GET /a%20b?c=d HTTP/1.1",
    "m": "GET",
    "U": "/a%20b",
    "Uq": "/a%20b?c=d",
    "q": "c=d",
    "H": "HTTP/1.1",
    "S": "https",
    "s": "404",
    "st": "Not Found",
    "b": "42",
    "B": "42",
    "f": "http://a.example/",
    "a": r"curl/8\\x01",
    "T": "1",
    "M": "1500",
    "D": "1500000",
    "L": "1.500000",
    "p": "<PID>",
    "host": "shop.example",
    "request_id": "id-1",
    "worker": "3",
    "queue": "0.250000",
    "tls": "TLSv1.3",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "error": "-",
}


def test_every_atom_is_in_this_files_table() -> None:
    assert {*ATOM_VALUES, "t"} == ATOMS


@pytest.mark.parametrize(("atom", "value"), ATOM_VALUES.items(), ids=list(ATOM_VALUES))
def test_atom_has_its_value(atom: str, value: str) -> None:
    assert line(f"%({atom})s") == value.replace("PID", str(os.getpid()))


def test_time_is_that_of_the_line_in_the_common_log_format() -> None:
    before = int(time.time())
    text = line("%(t)s")
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", text)
    assert before <= time.mktime(time.strptime(text, "[%d/%b/%Y:%H:%M:%S %z]")) <= time.time()


def test_default_is_gunicorns() -> None:
    made = compile_format()(over(), b"").decode()
    assert re.fullmatch(
        r'192\.0\.2\.1 - - \[[^]]+\] "GET /a%20b\?c=d HTTP/1\.1" 404 42 "http://a\.example/" "curl/8\\\\x01"\n', made
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("%({X-A}i)s", "one, two"),
        ("%({nosuch}i)s", "-"),
        ("%({content-length}o)s", "-"),
        ("a%%b %(s)s 100%%", "a%b 404 100%"),
        ('{"s": %(s)d}', '{"s": 404}'),
        ("%(host)s\t%(h)s", "shop.example\t192.0.2.1"),
        ("text", "text"),
    ],
)
def test_text_and_fields_of_the_request_are_put_in(text: str, value: str) -> None:
    assert line(text) == value


def test_field_of_the_answer_is_put_in_where_somebody_kept_it() -> None:
    exchange = over(fields=[b"content-type", b"text/plain", b"x-b", b'"'])
    assert line("%({Content-Type}o)s %({x-b}o)s", exchange) == r"text/plain \\x22"


@pytest.mark.parametrize(
    ("value", "user"),
    [
        (b"Basic " + base64.b64encode(b"ann:pa:ss"), "ann"),
        (b"basic " + base64.b64encode(b'a"b\n'), r"a\\x22b\\x0a"),
        (b"Basic ?", "-"),
        (b"Bearer abc", "-"),
    ],
)
def test_user_is_named_without_the_password(value: bytes, user: str) -> None:
    assert line("%(u)s", over(lines=[b"accept\n*/*", b"authorization\n" + value])) == user


def test_what_is_not_there_is_a_dash_and_secrets_are_redacted() -> None:
    exchange = over(b"/?token=abc", [], written=0, sent_at=0.0, worker=-1)
    assert line("%(b)s %(B)s %(queue)s %(worker)s %(tls)s %(S)s %(f)s", exchange, b"") == "- 0 - - - http -"
    assert line("%(r)s %(q)s", exchange) == "GET /?token=[redacted] HTTP/1.1 token=[redacted]"


@pytest.mark.parametrize(("text", "needed"), [("%(h)s", False), ("%({a}i)s", False), ("%(h)s %({a}o)s", True)])
def test_answers_are_kept_only_for_formats_that_ask_for_them(text: str, needed: bool) -> None:
    assert needs_answer(text) is needed
