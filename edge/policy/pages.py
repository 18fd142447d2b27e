"""What every answer says that the edge gives by itself. Clients get the phrase of the status, never the reason.

It is plain text, a page of the operator's where there is one, or a problem in JSON (RFC 9457) for who asks for that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from edge.http.status import phrase

TEXT: Final = b"text/plain; charset=utf-8"
HTML: Final = b"text/html; charset=utf-8"
PROBLEM: Final = b"application/problem+json"


_ACCEPT: Final = b"accept\n"
_JSON: Final = re.compile(rb"application/(?:json|[a-z0-9.-]+\+json)")
_READABLE: Final = re.compile(rb"text/(?:html|plain|\*)|application/xhtml\+xml")
_WEIGHT: Final = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_MARK: Final = re.compile(r"\{\{ *(status|reason|request_id) *\}\}")


def error_page(status: int, request_id: bytes) -> bytes:
    """Return the content of an error answer, plain text; the id leads the operator to the log line."""
    return b"%d %b\nrequest id: %b\n" % (status, phrase(status).encode(), request_id)


class ErrorPages:
    """The pages of one site by the names of their files , in HTML; without any, answers are text."""

    __slots__ = ("_pages",)

    def __init__(self, pages: Mapping[str, str]) -> None:
        self._pages = dict(pages)

    def render(self, status: int, request_id: bytes, lines: Iterable[bytes] = ()) -> tuple[bytes, bytes]:
        """Return the media type and the content of an answer; `lines` are the request's fields."""
        if wants_json(lines):
            return PROBLEM, _encode_problem(status, request_id)
        names = (f"{status}.html", f"{status // 100}xx.html", "error.html") if status >= 400 else ()
        for name in names:
            page = self._pages.get(name)
            if page is not None:
                return HTML, _fill(page, status, request_id)
        return TEXT, error_page(status, request_id)


NO_PAGES: Final = ErrorPages({})


def wants_json(lines: Iterable[bytes]) -> bool:
    """Tell whether a client asks for JSON rather than for what people read: by weight, then by what it names first.

    A client that takes anything, or says nothing, gets text.
    """
    best, is_json = 0.0, False
    for line in lines:
        if line.startswith(_ACCEPT):
            for item in line[len(_ACCEPT) :].lower().split(b","):
                name, *parameters = [part.strip() for part in item.split(b";")]
                json_is_named = _JSON.fullmatch(name) is not None
                if json_is_named or _READABLE.fullmatch(name):
                    weight = _weight(parameters)
                    if weight > best:
                        best, is_json = weight, json_is_named
    return is_json


def _weight(parameters: list[bytes]) -> float:
    matches = [match for parameter in parameters if (match := _WEIGHT.fullmatch(parameter)) is not None]
    return float(matches[0][1]) if matches else 1.0


def _encode_problem(status: int, request_id: bytes) -> bytes:
    """Return a problem of no type but its status (RFC 9457 section 4.2.1)."""
    problem = {"title": phrase(status), "status": status, "request_id": request_id.decode("latin-1")}
    return json.dumps(problem).encode() + b"\n"


def _fill(page: str, status: int, request_id: bytes) -> bytes:
    """Put what is known of the answer into a page; an id may be a proxy's."""
    values = {"status": str(status), "reason": phrase(status), "request_id": request_id.decode("latin-1")}
    return _MARK.sub(lambda match: escape(values[match[1]]), page).encode()
