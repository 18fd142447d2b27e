"""What an edge counts of requests that are over, and how counts add up."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edge.counts import BOUNDS, Counts, add_up
from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Client
from edge.http.events import RequestHead


def over(method: bytes = b"GET", took: float = 0.002, *, upgrade: bytes = b"", **attributes: Any) -> Exchange:
    """Return an exchange that is over, `took` seconds after it began."""
    head = RequestHead(1, method, b"/", b"1.1", b"shop.example")
    head.upgrade = upgrade
    exchange = Exchange(cast(Client, None), head, b"id-1", b"192.0.2.1", 128.0)
    exchange.sent_at, exchange.finished_at = 128.0, 128.0 + took
    exchange.status = 200
    for name, value in attributes.items():
        setattr(exchange, name, value)
    return exchange


def counted(*exchanges: Exchange) -> dict[str, int]:
    """Return what is counted of these, without what stays zero."""
    counts = Counts()
    counts.add([(exchange, b"") for exchange in exchanges])
    return {name: number for name, number in counts.report().items() if number}


def test_answers_are_counted_by_method_and_code() -> None:
    found = counted(over(), over(), over(b"POST", status=502), over(status=499))
    requests = {name: number for name, number in found.items() if name.startswith("request ")}
    assert requests == {"request GET 200": 2, "request POST 502": 1, "request GET 499": 1}


@pytest.mark.parametrize(
    ("method", "status", "name"),
    [
        (b"PROPFIND", 200, "request other 200"),
        (b"-", 400, "request other 400"),
        (b"GET", 299, "request GET 2xx"),
        (b"REPORT", 777, "request other 7xx"),
    ],
)
def test_what_others_choose_makes_no_name_of_its_own(method: bytes, status: int, name: str) -> None:
    assert counted(over(method, status=status))[name] == 1


def test_bytes_of_content_are_counted_both_ways() -> None:
    found = counted(over(content_read=3, written=5), over(content_read=4))
    assert (found["received"], found["sent"]) == (7, 5)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"status": 400}, "malformed"),
        ({"status": 431}, "size"),
        ({"status": 503}, "overload"),
        ({"status": 413, "worker": 3}, "size"),  # its content turned out to be too long when a worker had it already
    ],
)
def test_what_the_edge_refuses_is_counted_by_its_reason(attributes: dict[str, Any], reason: str) -> None:
    found = counted(over(reason="because", **attributes))
    assert {name: number for name, number in found.items() if name.startswith("rejected")} == {f"rejected {reason}": 1}


@pytest.mark.parametrize(
    "attributes",
    [
        {"status": 404},  # the application's own
        {"status": 404, "worker": 3, "reason": "broken off"},
        {"status": 499, "reason": "the client left"},
        {"status": 502, "worker": 3, "reason": "worker 3 died"},
    ],
)
def test_what_the_edge_did_not_refuse_is_not_counted_as_that(attributes: dict[str, Any]) -> None:
    assert not any(name.startswith("rejected") for name in counted(over(**attributes)))


def test_connection_that_was_one_too_many_is_counted() -> None:
    counts = Counts()
    counts.reject_connection()
    assert counts.report()["rejected connections"] == 1


@pytest.mark.parametrize(("index", "bound"), list(enumerate(BOUNDS)))
def test_duration_is_in_the_first_bucket_that_holds_it(index: int, bound: float) -> None:
    shorter, longer = counted(over(took=bound * 0.9)), counted(over(took=bound * 1.1))
    assert shorter[f"duration {index}"] == 1
    assert longer[f"duration {index + 1}"] == 1
    assert longer["duration_us"] == pytest.approx(bound * 1.1e6, abs=1)


def test_websocket_has_no_duration() -> None:
    assert counted(over(upgrade=b"key", status=101)) == {"request GET 101": 1}


def test_only_requests_that_had_to_wait_are_waits() -> None:
    found = counted(over(), over(sent_at=128.25), over(sent_at=0.0, status=503))
    assert (found["wait"], found["wait_us"]) == (1, 250_000)


def test_reports_of_edges_add_up() -> None:
    reports: list[dict[str, Any]] = [
        {"counts": {"sent": 1, "request GET 200": 2}, "workers": {"0": [5, 1, 0.0], "1": [7, 0, 0.0]}},
        {"counts": {"sent": 3}, "workers": {"1": [4, 0, 0.0]}},
        {},
    ]
    assert add_up(reports) == {"sent": 4, "request GET 200": 2, "worker 0": 5, "worker 1": 11}
