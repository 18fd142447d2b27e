"""Files in the place of an application: who answers the requests below a path with what lies in a folder.

What a request names is looked up at once; the answers leave in the next turn of the loop, those of one turn together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from edge.dispatch.exchange import Exchange
from edge.dispatch.target import Target
from edge.http.events import RequestHead
from edge.policy.hosts import public_target
from edge.static.catalog import Catalog
from edge.static.forms import Entry, FolderFoundError, Form
from edge.static.negotiate import accepts_html
from edge.static.paths import FilePath, PathRefused, parse_path
from edge.static.root import NotServedError
from edge.static.transfer import send_asked, send_form
from edge_backend import wire
from edge_backend.forwarded_prefix import find_prefix

_METHODS = (b"GET", b"HEAD")
# Targets whose names are remembered, so many of them and none that is longer: their spelling is the client's choice.
_MEMORY = 1024
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Folder:
    """How a folder is served: the path that it stands at, and the file that stands for each folder in it.

    `prefix` is decoded, and empty for `/`. With `is_app`, a page that is no file gets the index of the whole: the
    browser runs an application that knows what to show.
    """

    prefix: str
    index: str = "index.html"
    is_app: bool = False


class Refusal(NamedTuple):
    """An answer without a file; the reason is for the log."""

    status: int
    reason: str = ""
    fields: tuple[tuple[bytes, bytes], ...] = ()


_NOT_ALLOWED = Refusal(405, "", ((b"allow", b"GET, HEAD"),))


class StaticTarget:
    """Serves a folder; with `behind`, what is no file in it goes there."""

    def __init__(self, folder: Folder, catalog: Catalog, behind: Target | None = None) -> None:
        self._folder = folder
        self._catalog = catalog
        self._behind = behind
        self._names: dict[bytes, tuple[str, ...]] = {}  # what a target leads to
        self._recent: dict[bytes, Entry] = {}  # what was found there, good while it is fresh
        self._waiting: deque[tuple[Exchange, Form | Refusal, bytes]] = deque()
        self._is_due = False  # the loop will call `_answer_waiting`

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Take the exchange.

        Raises Overloaded if who is behind does.
        """
        head, now = exchange.head, exchange.started_at
        entry = self._recent.get(head.target)
        found: Form | Refusal
        if entry is not None and now < entry.fresh_until and not entry.coded and head.method == b"GET":
            entry.used_at = now
            found = entry.plain
        else:
            found = self._find(head, request, now)
        if isinstance(found, Form):
            found.hold()
        elif self._behind is not None and found.status != 308:
            exchange.target = self._behind
            self._behind.submit(exchange, request)
            return
        exchange.sent_at = now
        self._waiting.append((exchange, found, request))
        self._answer_soon()

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        for entry in self._waiting:
            if entry[0] is exchange:
                self._waiting.remove(entry)
                if isinstance(entry[1], Form):
                    entry[1].release()
                return

    def sweep(self, now: float) -> None:
        """Let go of what nobody has asked for lately; `now` is monotonic."""
        self._recent.clear()  # it is fresh for less than that, and would keep what the catalog has dropped
        self._catalog.sweep(now)

    def close(self) -> None:
        """Let go of every file that is not on its way."""
        self._catalog.close()

    # What a request names.

    def _find(self, head: RequestHead, request: bytes, now: float) -> Form | Refusal:
        if head.method not in _METHODS:
            return _NOT_ALLOWED
        try:
            entry = self._find_entry(head, now)
        except NotServedError as error:
            return Refusal(404, error.reason)
        except PathRefused as error:
            return Refusal(error.status, error.reason if error.status == 400 else "")
        except FolderFoundError:
            path, mark, query = public_target(head.target, find_prefix(wire.split_request(request))).partition(b"?")
            return Refusal(308, "", ((b"location", path + b"/" + mark + query),))
        if not entry.coded:
            return entry.plain
        return entry.choose(_join_values(head, b"accept-encoding\n"))

    def _find_entry(self, head: RequestHead, now: float) -> Entry:
        """Return what lies where the request points to.

        Raises FolderFoundError where the path has to end with a slash; NotServedError, PathRefused.
        """
        names = self._names.get(head.target)
        if names is not None:
            try:
                entry = self._recent[head.target] = self._catalog.find(names, now)
            except (NotServedError, FolderFoundError):
                del self._names[head.target]  # what was a file may be a folder with an index
                self._recent.pop(head.target, None)
            else:
                return entry
        path = parse_path(head.target, self._folder.prefix)
        names = (*path.names, self._folder.index) if path.is_folder else path.names
        try:
            entry = self._find_index(path.names, now) if path.is_folder else self._catalog.find(names, now)
        except FolderFoundError:
            self._find_index(names, now)  # without one there is nothing behind the slash
            raise
        except NotServedError:
            if not self._is_page(path, head):
                raise
            return self._find_index((), now)
        if len(head.target) <= _LONGEST:
            if len(self._names) >= _MEMORY:
                self._names.clear()
                self._recent.clear()
            self._names[head.target] = names
            self._recent[head.target] = entry
        return entry

    def _find_index(self, folder: tuple[str, ...], now: float) -> Entry:
        """Return what stands for a folder. Raises NotServedError."""
        try:
            return self._catalog.find((*folder, self._folder.index), now)
        except FolderFoundError:
            raise NotServedError from None

    def _is_page(self, path: FilePath, head: RequestHead) -> bool:
        """Tell whether a person goes to a page of a single-page application; a missing file of it is just missing."""
        return self._folder.is_app and not path.has_extension and accepts_html(_join_values(head, b"accept\n"))

    # What it gets.

    def _answer_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._answer_waiting)

    def _answer_waiting(self) -> None:
        """Answer what was there when this turn began: each answer may bring its client's next request."""
        self._is_due = False
        waiting = self._waiting
        for _ in range(len(waiting)):
            if not waiting:
                return  # more clients have left than one
            exchange, found, request = waiting.popleft()
            if isinstance(found, Refusal):
                exchange.refuse(found.status, found.reason, found.fields)
            # One look at the whole head is ten times as fast as one at each field; a value that begins like a name
            # only costs the closer look.
            elif b"\nif-" in request or b"\nrange\n" in request:
                _answer_asked(exchange, found, request)
                found.release()
            elif found.content is not None and exchange.head.method == b"GET":
                exchange.respond(200, found.length, found.facts.fields, wire.END, found.content)
            else:
                send_form(exchange, found, request, found.whole)
                found.release()
        if waiting:
            self._answer_soon()


def _answer_asked(exchange: Exchange, form: Form, request: bytes) -> None:
    """Answer a request with conditions; nearly all have one, which is that the client has this very version."""
    if form.mark in request and b"\nif-match\n" not in request and b"\nif-unmodified-since\n" not in request:
        exchange.respond(304, b"", form.facts.kept_fields, wire.END, b"")
    else:
        send_asked(exchange, form, form.facts, request)


def _join_values(head: RequestHead, start: bytes) -> bytes:
    """Return the value of a list field; `start` is its name and a line feed."""
    return b",".join([line[len(start) :] for line in head.lines if line.startswith(start)])
