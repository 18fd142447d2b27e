"""The figures of a server as Prometheus reads them; docs/reference/metrics.md is about each.

`prometheus_client` writes the format, in the version that the scraper asks for. Only a master with `--metrics` imports
this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from edge.counts import BOUNDS, REASONS


class _Once:
    """What a registry collects from: metrics that have been made."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def expose(status: Mapping[str, Any], counts: Counter[str], accept: str) -> tuple[bytes, str]:
    """Return the metrics and their media type, one of those that `accept` (RFC 9110 section 12.5.1) names.

    `status` is that of docs/reference/control.md, `counts` are those of edge/counts.py.
    """
    registry = CollectorRegistry(auto_describe=False)
    found = *_of_requests(counts), *_of_server(status), _of_handshakes(counts), *_of_workers(status, counts)
    registry.register(_Once(list(found)))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


def _of_requests(counts: Counter[str]) -> Iterator[Metric]:
    answers = CounterMetricFamily("edge_http_requests", "Requests that are over.", labels=("method", "code"))
    for name, number in sorted(counts.items()):
        if name.startswith("request "):
            answers.add_metric(name.split(" ")[1:], number)
    yield answers
    so_far, buckets = 0, []
    for index, bound in enumerate((*map(str, BOUNDS), "+Inf")):
        so_far += counts[f"duration {index}"]
        buckets.append((bound, so_far))
    yield HistogramMetricFamily(
        "edge_http_request_duration_seconds",
        "From the request's head to the last byte of its answer.",
        buckets=buckets,
        sum_value=counts["duration_us"] / 1e6,
    )
    rejected = CounterMetricFamily("edge_rejected", "What the edge refused by itself.", labels=("reason",))
    for reason in REASONS:
        rejected.add_metric((reason,), counts[f"rejected {reason}"])
    yield rejected
    yield CounterMetricFamily("edge_http_request_bytes", "Content of requests.", counts["received"])
    yield CounterMetricFamily("edge_http_response_bytes", "Content of answers.", counts["sent"])
    yield SummaryMetricFamily(
        "edge_queue_wait_seconds",
        "Waits for a worker, of requests that had to.",
        counts["wait"],
        counts["wait_us"] / 1e6,
    )


def _of_server(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("edge_uptime_seconds", "Since the server started.", status["uptime"])
    yield _gauge("edge_queue_depth", "Requests that wait for a worker.", status["queue"])
    running = sum(worker["in_flight"] for worker in status["workers"])
    yield _gauge("edge_http_in_flight", "Requests that workers have.", running)
    edges = status["edges"]
    connections = sum(edge.get("connections", 0) for edge in edges)
    yield _gauge("edge_connections", "Open client connections.", connections)
    serving = sum("connections" in edge and not edge["draining"] for edge in edges)
    yield _gauge("edge_edges_serving", "Edge processes that take connections.", serving)
    until: dict[str, float] = {}
    for certificate in status["certificates"]:
        not_after = datetime.fromisoformat(certificate["not_after"]).timestamp()
        for name in certificate["names"]:
            until[name] = min(not_after, until.get(name, not_after))
    expiry = GaugeMetricFamily("edge_tls_cert_not_after_seconds", "When a certificate ends.", labels=("name",))
    for name, moment in until.items():
        expiry.add_metric((name,), moment)
    yield expiry


def _of_handshakes(counts: Counter[str]) -> Metric:
    handshakes = CounterMetricFamily(
        "edge_tls_handshakes", "TLS handshakes that are over.", labels=("result", "version", "resumed")
    )
    for name, number in sorted(counts.items()):
        if name.startswith("handshake "):
            handshakes.add_metric(name.split(" ")[1:], number)
    return handshakes


def _of_workers(status: Mapping[str, Any], counts: Counter[str]) -> Iterator[Metric]:
    workers = status["workers"]
    yield _gauge("edge_workers_wanted", "How many workers there should be.", status["size"])
    yield CounterMetricFamily("edge_worker_restarts", "Workers that died or hung.", status["restarts"])
    states = GaugeMetricFamily("edge_workers", "Workers by their state.", labels=("state",))
    for state, number in sorted(Counter(worker["state"] for worker in workers).items()):
        states.add_metric((state,), number)
    yield states
    up = GaugeMetricFamily("edge_worker_up", "1: it is ready, and shows signs of life.", labels=("worker",))
    requests = CounterMetricFamily("edge_worker_requests", "Requests that it got.", labels=("worker",))
    running = GaugeMetricFamily("edge_worker_in_flight", "Requests that it has.", labels=("worker",))
    memory = GaugeMetricFamily("edge_worker_memory_bytes", "Its resident memory.", labels=("worker",))
    for worker in workers:
        label = (str(worker["number"]),)
        up.add_metric(label, worker["state"] == "ready" and not worker["silent"])
        requests.add_metric(label, counts[f"worker {worker['number']}"])
        running.add_metric(label, worker["in_flight"])
        memory.add_metric(label, worker["memory"])
    yield from (up, requests, running, memory)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
