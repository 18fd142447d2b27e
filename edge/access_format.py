"""The access log in a format of the user's: gunicorn's atoms, hypercorn's, and our own (pure).

A format is read once, into what gives the value of each atom; a line is then one formatting call.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from typing import TYPE_CHECKING

from edge.config_logs import ATOM, DEFAULT_FORMAT
from edge.http.status import phrase
from edge.http.trace import find_trace
from edge.observe import Form, clean_target, escape

if TYPE_CHECKING:
    from edge.dispatch.exchange import Exchange


_BASIC = re.compile(rb"basic\s+(\S+)", re.IGNORECASE)


def needs_answer(text: str) -> bool:
    """True if a format asks for fields of answers: who serves them has to keep them then."""
    return any(match[1] and match[3] == "o" for match in ATOM.finditer(text))


def compile_format(text: str = DEFAULT_FORMAT) -> Form:
    """Return what makes the line of a request, with its line end, in a format that has been checked.

    An atom without a value is `-`.
    """
    values: list[Form] = []
    pieces: list[bytes] = []
    end = 0
    for match in ATOM.finditer(text):
        pieces.append(_literal(text[end : match.start()]) + b"%b")
        end = match.end()
        values.append(_field_of(match) if match[1] else _VALUES[match[3]])
    pattern = b"".join(pieces) + _literal(text[end:]) + b"\n"

    def form(exchange: Exchange, tls: bytes) -> bytes:
        return pattern % tuple([value(exchange, tls) or b"-" for value in values])

    return form


def _literal(text: str) -> bytes:
    return text.replace("%%", "%").replace("%", "%%").encode()


def _field_of(match: re.Match[str]) -> Form:
    name = match[2].lower().encode()
    if match[3] == "i":
        return lambda exchange, tls: _escaped(exchange.head.fields, name)

    def of_answer(exchange: Exchange, tls: bytes) -> bytes:
        fields = getattr(exchange, "fields", ())  # only of those that somebody keeps
        return _escaped(list(zip(fields[::2], fields[1::2], strict=True)), name)

    return of_answer


def _escaped(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return escape(b", ".join([value for found, value in fields if found == name]))


def _user(exchange: Exchange, tls: bytes) -> bytes:
    """Return the name of RFC 7617, without the password."""
    for name, value in exchange.head.fields:
        match = _BASIC.fullmatch(value) if name == b"authorization" else None
        if match is not None:
            try:
                return escape(base64.b64decode(match[1], validate=True).partition(b":")[0])
            except binascii.Error:
                return b""
    return b""


def _time(exchange: Exchange, tls: bytes) -> bytes:
    return time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime()).encode()


def _path(exchange: Exchange) -> bytes:
    return clean_target(exchange.head.target.partition(b"?")[0])


def _target(exchange: Exchange) -> bytes:
    return clean_target(exchange.head.target)


def _line(exchange: Exchange, tls: bytes) -> bytes:
    return b"%b %b HTTP/%b" % (exchange.head.method, _target(exchange), exchange.head.version)


def _took(exchange: Exchange) -> float:
    return exchange.finished_at - exchange.started_at


def _queued(exchange: Exchange, tls: bytes) -> bytes:
    return b"%.6f" % (exchange.sent_at - exchange.started_at) if exchange.sent_at else b""


_VALUES: dict[str, Form] = {
    "h": lambda exchange, tls: exchange.client_address,
    "l": lambda exchange, tls: b"-",
    "u": _user,
    "t": _time,
    "r": _line,
    "R": _line,
    "m": lambda exchange, tls: exchange.head.method,
    "U": lambda exchange, tls: _path(exchange),
    "Uq": lambda exchange, tls: _target(exchange),
    "q": lambda exchange, tls: _target(exchange).partition(b"?")[2],
    "H": lambda exchange, tls: b"HTTP/" + exchange.head.version,
    "S": lambda exchange, tls: b"https" if tls else b"http",
    "s": lambda exchange, tls: b"%d" % exchange.status,
    "st": lambda exchange, tls: phrase(exchange.status).encode(),
    "b": lambda exchange, tls: b"%d" % exchange.written if exchange.written else b"-",
    "B": lambda exchange, tls: b"%d" % exchange.written,
    "f": lambda exchange, tls: _escaped(exchange.head.fields, b"referer"),
    "a": lambda exchange, tls: _escaped(exchange.head.fields, b"user-agent"),
    "T": lambda exchange, tls: b"%d" % _took(exchange),
    "M": lambda exchange, tls: b"%d" % (_took(exchange) * 1e3),
    "D": lambda exchange, tls: b"%d" % (_took(exchange) * 1e6),
    "L": lambda exchange, tls: b"%.6f" % _took(exchange),
    "p": lambda exchange, tls: b"<%d>" % os.getpid(),
    "host": lambda exchange, tls: exchange.head.host,
    "request_id": lambda exchange, tls: exchange.request_id,
    "worker": lambda exchange, tls: b"%d" % exchange.worker if exchange.worker >= 0 else b"",
    "queue": _queued,
    "tls": lambda exchange, tls: tls,
    "trace_id": lambda exchange, tls: find_trace(exchange.head.lines)[0],
    "span_id": lambda exchange, tls: find_trace(exchange.head.lines)[1],
    "error": lambda exchange, tls: escape(exchange.reason.encode()),
}
