"""What an edge process counts of the requests that are over, for `--metrics`.

Requests are counted many at a time, when their lines of the access log are made, so that one under way pays nothing.
Counts are flat, names to whole numbers, because that is what can be added up: over the edges that run, and with those
that have ended. The names are:

- `request METHOD CODE`: answers; methods and codes that are not well known are counted together;
- `received`, `sent`: bytes of content;
- `duration N`: requests that took at most `BOUNDS[N]` seconds, and more than the bound before that;
- `duration_us`: the time that those took in all, in microseconds;
- `wait`, `wait_us`: requests that had to wait for a worker, and how long in all;
- `worker N`: requests that a worker got;
- `rejected REASON`: requests that the edge refused by itself, and `rejected connections`: connections;
- `handshake RESULT VERSION RESUMED`: TLS handshakes, see edge.tls.contexts.TlsServer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.dispatch.exchange import Exchange

# Seconds. From an answer out of memory to one that a default timeout of most clients ends.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY"))
# 499: the client left before the answer.
_CODES = frozenset((*map(int, HTTPStatus), 499))
# Why the edge answers a request by itself, by the status that it has for that.
_REJECTIONS = {
    400: "malformed", 403: "forbidden", 404: "unknown", 405: "unsupported", 408: "slow", 413: "size", 414: "size",
    417: "unsupported", 421: "host", 429: "rate", 431: "size", 501: "unsupported", 503: "overload", 505: "unsupported",
}  # fmt: skip
# All reasons to refuse something; from the first scrape on each has its figure.
REASONS = (*dict.fromkeys(_REJECTIONS.values()), "connections")
# The refusals that may come when a worker has the request already, and that no application is the author of.
_LATE = frozenset((408, 413))


class Counts:
    """What one edge process has counted since it began."""

    __slots__ = ("_answers", "_durations", "_received", "_rejected", "_sent", "_took", "_wait", "_waited")

    def __init__(self) -> None:
        self._answers: dict[tuple[bytes, int], int] = {}
        self._rejected = Counter[str]()
        self._durations = [0] * (len(BOUNDS) + 1)
        self._took = 0.0
        self._received = 0
        self._sent = 0
        self._wait = 0.0
        self._waited = 0

    def add(self, finished: Iterable[tuple[Exchange, bytes]]) -> None:
        """Count requests that are over. What became a WebSocket has no duration: it lasts as long as it likes."""
        answers, durations = self._answers, self._durations
        for exchange, _ in finished:
            head = exchange.head
            key = head.method, exchange.status
            answers[key] = answers.get(key, 0) + 1
            self._received += exchange.content_read
            self._sent += exchange.written
            if not head.upgrade:
                took = exchange.finished_at - exchange.started_at
                durations[bisect_left(BOUNDS, took)] += 1
                self._took += took
            if exchange.sent_at > exchange.ready_at:
                self._waited += 1
                self._wait += exchange.sent_at - exchange.ready_at
            if exchange.reason and exchange.status in _REJECTIONS and (exchange.worker < 0 or exchange.status in _LATE):
                self._rejected[_REJECTIONS[exchange.status]] += 1

    def reject_connection(self) -> None:
        """Count a connection that was one too many."""
        self._rejected["connections"] += 1

    def report(self) -> dict[str, int]:
        """Return the counts by name."""
        found = Counter(
            {
                "received": self._received,
                "sent": self._sent,
                "duration_us": round(self._took * 1e6),
                "wait": self._waited,
                "wait_us": round(self._wait * 1e6),
            }
        )
        for (method, code), number in self._answers.items():
            found[f"request {method.decode() if method in _METHODS else 'other'} {_code_name(code)}"] += number
        found.update({f"duration {index}": number for index, number in enumerate(self._durations) if number})
        found.update({f"rejected {reason}": number for reason, number in self._rejected.items()})
        return found


def add_up(reports: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return the sum of what edges have reported, see edge/orders.py."""
    total = Counter[str]()
    for report in reports:
        total.update(report.get("counts", {}))
        total.update({f"worker {number}": row[0] for number, row in report.get("workers", {}).items()})
    return total


def _code_name(code: int) -> str:
    return str(code) if code in _CODES else f"{code // 100}xx"
