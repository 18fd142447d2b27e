"""What `edge status` adds up and shows."""

from __future__ import annotations

from typing import Any

import pytest

from edge.status import count_of, describe_status, seen_of_workers, worker_rows

REPORTS: list[dict[str, Any]] = [
    {},
    {"workers": {"0": [5, 1, 0.0], "1": [7, 2, 3.5]}},
    {"workers": {"1": [10, 1, 2.5]}},
]

STATUS: dict[str, Any] = {
    "state": "serving",
    "pid": 7,
    "uptime": 3725.0,
    "listening": ["https://[::]:443"],
    "size": 1,
    "restarts": 0,
    "queue": 3,
    "gate": {"mode": "open", "limit": 0.0, "allow": [], "retry_after": 0},
    "workers": [],
    "edges": [],
    "certificates": [],
    "renewals": [],
}
WORKER = {
    "number": 4,
    "pid": 40,
    "state": "ready",
    "requests": 12,
    "in_flight": 2,
    "memory": 31 * 2**20,
    "age": 90.0,
    "silent": 0,
}


def test_requests_of_all_edges_are_added_and_alive_is_whom_one_has_heard() -> None:
    assert seen_of_workers(REPORTS) == {0: (5, 1, 0.0), 1: (17, 3, 2.5)}


def test_worker_of_which_no_edge_has_told_has_had_nothing() -> None:
    rows = worker_rows([{"number": 1}, {"number": 9}], REPORTS)
    assert rows == [
        {"number": 1, "requests": 17, "in_flight": 3, "silent": 2.5},
        {"number": 9, "requests": 0, "in_flight": 0, "silent": 0.0},
    ]


def test_head_says_what_runs_where_and_for_how_long() -> None:
    assert describe_status(STATUS)[:3] == [
        "serving: process 7, up 1h02m",
        "listening on https://[::]:443",
        "1 worker wanted, 0 restarted, 3 requests wait",
    ]


@pytest.mark.parametrize(
    ("change", "state"),
    [({}, "ready"), ({"silent": 2.5}, "silent"), ({"state": "draining", "silent": 2.5}, "draining")],
)
def test_worker_is_a_line(change: dict[str, Any], state: str) -> None:
    lines = describe_status({**STATUS, "workers": [{**WORKER, **change}]})
    assert lines[5].split() == ["4", "40", state, "12", "2", "31", "MiB", "1m30s"]


@pytest.mark.parametrize(
    ("edge", "words"),
    [
        ({"pid": 50, "draining": False, "age": 0.5}, ["0", "50", "starting", "0", "0", "0s"]),
        (
            {"pid": 50, "draining": False, "age": 59, "connections": 9, "queue": 1},
            ["0", "50", "serving", "9", "1", "59s"],
        ),
        (
            {"pid": 50, "draining": True, "age": 90_000, "connections": 9},
            ["0", "50", "draining", "9", "0", "1d01h"],
        ),
    ],
)
def test_edge_is_a_line(edge: dict[str, Any], words: list[str]) -> None:
    assert describe_status({**STATUS, "edges": [edge]})[-1].split() == words


def test_server_of_an_upstream_is_a_line_with_what_all_edges_have_seen() -> None:
    row = {"up": True, "requests": 5, "in_flight": 1, "connections": 2}
    down = {"up": False, "requests": 3, "in_flight": 0, "connections": 0}
    edges = [
        {"pid": 50, "draining": False, "age": 1.0, "upstreams": {"*/api": {"http://a:1": row, "http://b:1": down}}},
        {"pid": 51, "draining": False, "age": 1.0, "upstreams": {"*/api": {"http://a:1": {**row, "up": False}}}},
    ]
    assert [line.split() for line in describe_status({**STATUS, "edges": edges})[-3:]] == [
        ["UPSTREAM", "SERVER", "STATE", "REQUESTS", "RUNNING", "CONNECTIONS"],
        ["*/api", "http://a:1", "up", "10", "2", "4"],
        ["*/api", "http://b:1", "down", "3", "0", "0"],
    ]


def test_certificates_and_their_renewals_come_last() -> None:
    valid = {"name": "a.test", "status": "valid", "not_after": "2026-03-01T10:00:00Z", "last_error": ""}
    failed = {
        "name": "b.test",
        "status": "failed",
        "next_at": "2026-02-01T09:30:00Z",
        "reason": "again",
        "last_error": "no",
    }
    served = {"names": ["a.test", "www.a.test"], "sha256": "ab", "not_after": "2026-03-01T10:00:00+00:00"}
    lines = describe_status({**STATUS, "certificates": [served], "renewals": [valid, failed]})
    assert lines[-6:] == [
        "",
        "certificate for a.test, www.a.test: valid until 2026-03-01",
        "certificate a.test: valid, valid until 2026-03-01T10:00Z",
        "certificate b.test: failed",
        "  next attempt 2026-02-01T09:30Z: again",
        "  last error: no",
    ]


def test_one_is_not_several() -> None:
    assert [count_of(number, "worker") for number in (0, 1, 2)] == ["0 workers", "1 worker", "2 workers"]
