"""The figures of a server in the format of Prometheus, read back by its own parser."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edge.counts import BOUNDS, REASONS
from edge.exposition import expose

STATUS: dict[str, Any] = {"uptime": 1.5, "queue": 2, "size": 3, "restarts": 4}
STATUS |= {"workers": [], "edges": [], "certificates": []}
WORKER = {"number": 7, "state": "ready", "silent": 0.0, "in_flight": 5, "memory": 2**20}


def samples(counts: dict[str, int] | None = None, **status: Any) -> dict[tuple[str, ...], float]:
    """Return what is exposed by name and values of labels."""
    text, media_type = expose({**STATUS, **status}, Counter(counts or {}), "")
    assert media_type.startswith("text/plain; version=0.0.4")
    found = [sample for family in parse_text(text.decode()) for sample in family.samples]
    return {(item.name, *(value for _, value in sorted(item.labels.items()))): item.value for item in found}


def test_buckets_hold_all_that_took_less() -> None:
    found = samples({"duration 0": 1, "duration 2": 2, f"duration {len(BOUNDS)}": 4, "duration_us": 3_500_000})
    name = "edge_http_request_duration_seconds_bucket"
    assert [found[name, str(bound)] for bound in BOUNDS[:4]] == [1, 1, 3, 3]
    assert (found[name, "60.0"], found[name, "+Inf"]) == (3, 7)
    assert found["edge_http_request_duration_seconds_sum",] == 3.5


def test_name_on_two_certificates_ends_with_the_first() -> None:
    later = {"names": ["a.example", "b.example"], "not_after": "2030-01-02T00:00:00+00:00"}
    sooner = {"names": ["a.example"], "not_after": "2030-01-01T00:00:00+00:00"}
    for certificates in ([later, sooner], [sooner, later]):
        found = samples(certificates=certificates)
        assert found["edge_tls_cert_not_after_seconds", "a.example"] == 1_893_456_000
        assert found["edge_tls_cert_not_after_seconds", "b.example"] == 1_893_542_400


@pytest.mark.parametrize(
    ("changes", "is_up"), [({}, 1), ({"silent": 2.5}, 0), ({"state": "draining"}, 0), ({"state": "starting"}, 0)]
)
def test_worker_is_up_when_it_is_ready_and_not_silent(changes: dict[str, Any], is_up: int) -> None:
    assert samples(workers=[{**WORKER, **changes}])["edge_worker_up", "7"] == is_up


def test_edges_that_drain_or_begin_do_not_serve() -> None:
    edges = [{"draining": False, "connections": 3}, {"draining": True, "connections": 2}, {"draining": False}]
    found = samples(edges=edges)
    assert (found["edge_edges_serving",], found["edge_connections",]) == (1, 5)


def test_counts_of_workers_that_are_gone_are_not_exposed() -> None:
    found = samples({"worker 6": 9, "worker 7": 8}, workers=[WORKER])
    assert {key: value for key, value in found.items() if key[0] == "edge_worker_requests_total"} == {
        ("edge_worker_requests_total", "7"): 8
    }


def test_handshakes_are_exposed_by_result_version_and_resumption() -> None:
    found = samples({"handshake ok TLSv1.3 yes": 2, "handshake failed - no": 1})
    assert {key: value for key, value in found.items() if key[0] == "edge_tls_handshakes_total"} == {
        ("edge_tls_handshakes_total", "ok", "yes", "TLSv1.3"): 2,
        ("edge_tls_handshakes_total", "failed", "no", "-"): 1,
    }


def test_each_reason_to_refuse_has_its_figure_from_the_start() -> None:
    found = samples({"rejected rate": 4})
    rejected = {reason: number for (name, *labels), number in found.items() for reason in labels if "reject" in name}
    assert rejected == {**dict.fromkeys(REASONS, 0), "rate": 4}
