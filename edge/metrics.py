"""`--metrics`: the master answers scrapers, in its `selectors` loop.

It speaks the same strict HTTP/1.1 as the edges, for one short GET a connection. A scraper can make nobody wait: sockets
do not block, and the oldest connection makes room for a new one, so that none needs a deadline.
"""

from __future__ import annotations

import contextlib
import dataclasses
import selectors
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from edge.config_listen import ListenSettings
from edge.http.events import Refusal, RequestHead
from edge.http.head import HeadLimits, HeadParser
from edge.http.http1 import Http1Connection
from edge.net.address import Address
from edge.net.listener import Listener, open_listeners, start_listening
from edge.net.stored import StoredSockets

# A handful of scrapers, each with one connection at a time.
MAX_SCRAPERS = 16
_LIMITS = HeadLimits(max_request_line=1024, max_header_size=8192, max_headers=50)
_MAX_READ = 16 * 1024
_TEXT = "text/plain; charset=utf-8"

Figures = Callable[[], tuple[dict[str, Any], Counter[str]]]
"""What is known now: the status of docs/reference/control.md, and the counts of edge/counts.py."""


def open_metrics(
    addresses: tuple[Address, ...], group: str = "", stored: StoredSockets | None = None
) -> tuple[list[Listener], list[str]]:
    """Return bound sockets for scrapers, and remarks for the operator. `group` may connect to Unix sockets.

    What is among `stored` is taken there.

    Raises ConfigError if an address cannot be bound.
    """
    if not addresses:
        return [], []
    listeners, remarks = open_listeners(
        ListenSettings(binds=addresses, unix_group=group), has_certificate=False, dev=False, stored=stored
    )
    return [dataclasses.replace(listener, is_metrics=True) for listener in listeners], remarks


class MetricsServer:
    """Answers scrapers on those of `listeners` that are for metrics, from `begin` to `end`."""

    def __init__(self, listeners: Sequence[Listener], selector: selectors.BaseSelector, figures: Figures) -> None:
        self.listeners = [listener for listener in listeners if listener.is_metrics]
        self._selector = selector
        self._figures = figures
        self._parser = HeadParser(_LIMITS)
        self._scrapers: dict[_Scraper, None] = {}
        self._expose: Callable[[dict[str, Any], Counter[str], str], tuple[bytes, str]]
        self._is_open = False

    def begin(self) -> None:
        """Take connections from now on.

        Raises ConfigError if another process took the port after it was bound here.
        """
        if not self.listeners:
            return
        # Not at the first scrape, when another version may be installed, and not for whoever has no metrics.
        from edge.exposition import expose

        self._expose = expose
        start_listening(self.listeners, MAX_SCRAPERS)
        for listener in self.listeners:
            self._selector.register(
                listener.sock, selectors.EVENT_READ, lambda listener=listener: self._accept(listener)
            )
        self._is_open = True

    def end(self) -> None:
        """Take none any more."""
        if self._is_open:
            self._is_open = False
            for listener in self.listeners:
                self._selector.unregister(listener.sock)
            for scraper in list(self._scrapers):
                self._drop(scraper)
        self.leave()

    def leave(self) -> None:
        """In a child: close what is the master's."""
        for listener in self.listeners:
            listener.sock.close()
        for scraper in self._scrapers:
            scraper.sock.close()

    def _accept(self, listener: Listener) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.sock.accept()
            sock.setblocking(False)
            if len(self._scrapers) >= MAX_SCRAPERS:
                self._drop(next(iter(self._scrapers)))
            scraper = _Scraper(sock, Http1Connection(self._parser, 0))
            self._scrapers[scraper] = None
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._readable(scraper))

    def _readable(self, scraper: _Scraper) -> None:
        if scraper not in self._scrapers:
            return  # it had to make room in this turn of the loop
        try:
            data = scraper.sock.recv(_MAX_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        answer = self._answer(scraper, data) if data else None
        if not data:
            self._drop(scraper)
        elif answer is not None:
            scraper.unsent = answer
            self._selector.modify(scraper.sock, selectors.EVENT_WRITE, lambda: self._writable(scraper))

    def _writable(self, scraper: _Scraper) -> None:
        if scraper not in self._scrapers:
            return
        try:
            scraper.unsent = scraper.unsent[scraper.sock.send(scraper.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            scraper.unsent = b""
        if not scraper.unsent:
            self._drop(scraper)

    def _drop(self, scraper: _Scraper) -> None:
        del self._scrapers[scraper]
        self._selector.unregister(scraper.sock)
        scraper.sock.close()

    def _answer(self, scraper: _Scraper, data: bytes) -> bytes | None:
        """Return the whole answer, None if the request is not whole yet."""
        for event in scraper.core.receive(data):
            if isinstance(event, RequestHead):
                status, text, media_type = self._serve(event)
                fields = [b"content-type", media_type.encode(), b"cache-control", b"no-store"]
                if status == 405:
                    fields += [b"allow", b"GET, HEAD"]
                scraper.core.close_after()
                return scraper.core.encode_response(event, status, b"%d" % len(text), fields, b"", text, True)
            if isinstance(event, Refusal):
                return scraper.core.encode_refusal(event, b"", event.reason.encode() + b"\n")
        return None

    def _serve(self, head: RequestHead) -> tuple[int, bytes, str]:
        if head.target.partition(b"?")[0] != b"/metrics":
            return 404, b"the metrics are at /metrics\n", _TEXT
        if head.method not in (b"GET", b"HEAD"):
            return 405, b"use GET\n", _TEXT
        accept = b",".join(value for name, value in head.fields if name == b"accept")
        status, counts = self._figures()
        return 200, *self._expose(status, counts, accept.decode("latin-1"))


class _Scraper:
    """One connection, its protocol's state, and what of the answer it has not taken."""

    __slots__ = ("core", "sock", "unsent")

    def __init__(self, sock: socket.socket, core: Http1Connection) -> None:
        self.sock = sock
        self.core = core
        self.unsent = b""
