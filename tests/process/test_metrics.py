"""Metrics and probes of real servers: figures of all edges, under load, read by Prometheus's own parser."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.process.server import ROOT, Authority, RawClient, Server, clean_environment, serving, wait_until
from tests.process.test_control import edge

APPLICATION = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    while scope["path"] == "/wait" and not os.path.exists("go"):
        await asyncio.sleep(0.005)
    if scope["path"] == "/die":
        os._exit(1)
    await receive()
    await send({"type": "http.response.start", "status": 404 if scope["path"] == "/no" else 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
Samples = dict[tuple[str, ...], float]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the metrics are: a path that leaves room for the name of a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "metrics.sock"


def fetch(place: Path, path: str = "/metrics", method: str = "GET", **headers: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(place))) as client:
        return client.request(method, f"http://metrics{path}", headers=headers)


def scrape(place: Path) -> Samples:
    """Return the samples by name and values of labels."""
    families = parse_text(fetch(place).text)
    return {
        (item.name, *(v for _, v in sorted(item.labels.items()))): item.value for f in families for item in f.samples
    }


def answered(samples: Samples, code: str = "200", method: str = "GET") -> float:
    return samples.get(("edge_http_requests_total", code, method), 0.0)


def ask(port: int, path: bytes = b"/") -> int:
    with RawClient(port) as client:
        client.send(GET % path)
        return client.receive_response()[0]


@pytest.mark.parametrize("log", ["--access-log", "--no-access-log"])
def test_answers_are_counted_with_and_without_an_access_log(log: str, tmp_path: Path, place: Path) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}", log) as server:
        with RawClient(server.port) as client:
            for _ in range(70):  # more than one batch
                client.send(GET % b"/")
                client.receive_response()
            client.send(b"POST /no HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
            assert client.receive_response()[0] == 404
            samples = wait_until(lambda: (s := scrape(place)) and answered(s, "404", "POST") and s, "all are counted")
        assert answered(samples) == 70
        assert samples["edge_http_request_bytes_total",] == 3
        assert samples["edge_http_response_bytes_total",] == 71 * 5
        assert samples["edge_http_request_duration_seconds_count",] == 71
        assert samples["edge_http_request_duration_seconds_bucket", "+Inf"] == 71
        assert 0 < samples["edge_http_request_duration_seconds_sum",] < 71
        assert samples["edge_worker_requests_total", "0"] == 71
        assert samples["edge_worker_up", "0"] == samples["edge_workers", "ready"] == 1
        assert samples["edge_worker_memory_bytes", "0"] > 2**20
        assert bool(server.access_lines()) == (log == "--access-log")


def test_figures_are_of_all_edges_and_only_grow_while_load_runs(tmp_path: Path, place: Path) -> None:
    options = ("--edges", "2", "--workers", "2", "--metrics", f"unix:{place}")
    with serving(tmp_path, APPLICATION, *options) as server:
        wait_until(lambda: scrape(place)["edge_edges_serving",] == 2, "two edges serve")
        done: list[int] = []
        clients = [threading.Thread(target=lambda: done.extend(ask(server.port) for _ in range(150))) for _ in range(3)]
        for client in clients:
            client.start()
        seen = [0.0]
        while any(client.is_alive() for client in clients):
            seen.append(answered(scrape(place)))
        assert done == [200] * 450
        wait_until(lambda: answered(scrape(place)) == 450, "every answer is counted")
        assert seen == sorted(seen)
        samples = scrape(place)
        assert samples["edge_worker_requests_total", "0"] + samples["edge_worker_requests_total", "1"] == 450


def test_counts_of_an_edge_that_died_remain(tmp_path: Path, place: Path) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}") as server:
        assert [ask(server.port) for _ in range(5)] == [200] * 5
        wait_until(lambda: answered(scrape(place)) == 5, "five are counted")
        [before] = server.edges()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: server.edges() not in ([], [before]), "there is another edge")
        assert ask(server.port) == 200
        wait_until(lambda: answered(scrape(place)) == 6, "those of both edges are counted")
        assert scrape(place)["edge_worker_requests_total", "0"] == 6


def test_gauges_tell_of_requests_connections_and_restarts(tmp_path: Path, place: Path) -> None:
    options = ("--worker-concurrency", "1", "--metrics", f"unix:{place}")
    with serving(tmp_path, APPLICATION, *options) as server:
        wait_until(lambda: ask(server.port, b"/.edge/ready") == 200, "no request has to wait")
        with RawClient(server.port) as first, RawClient(server.port) as second:
            first.send(GET % b"/wait")
            wait_until(lambda: scrape(place)["edge_http_in_flight",] == 1, "one runs")
            second.send(GET % b"/")
            wait_until(lambda: scrape(place)["edge_queue_depth",] == 1, "one waits")
            samples = scrape(place)
            assert samples["edge_connections",] == 2
            assert samples["edge_worker_in_flight", "0"] == 1
            (tmp_path / "go").touch()
            assert first.receive_response()[0] == second.receive_response()[0] == 200
        wait_until(lambda: scrape(place)["edge_queue_wait_seconds_count",] == 1, "the wait is counted")
        assert scrape(place)["edge_queue_wait_seconds_sum",] > 0
        with RawClient(server.port) as client:
            client.send(b"POST /die HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            assert client.receive_response()[0] == 502
        wait_until(lambda: scrape(place)["edge_worker_restarts_total",] == 1, "the restart is counted")


def test_certificates_tell_when_they_end(tmp_path: Path, place: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}", authority=authority):
        until = scrape(place)["edge_tls_cert_not_after_seconds", "localhost"]
    pem = authority.cert.read_bytes()
    assert until == x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


def test_handshakes_and_refusals_are_counted(tmp_path: Path, place: Path, authority: Authority) -> None:
    context = authority.client_context()
    arguments = ("--metrics", f"unix:{place}", "--max-connections", "4")
    with serving(tmp_path, APPLICATION, *arguments, authority=authority) as server:
        with RawClient(server.port, context) as client:
            client.send(GET % b"/")
            client.receive_response()
            assert isinstance(client.sock, ssl.SSLSocket)
            session = client.sock.session
        address = ("127.0.0.1", server.port)
        plain = socket.create_connection(address, 10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as resumed:
            resumed.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n")
            while resumed.recv(4096):
                pass
        with socket.create_connection(address, 10) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
            while sock.recv(4096):
                pass
        expected = {
            ("edge_tls_handshakes_total", "ok", "no", "TLSv1.3"): 1,
            ("edge_tls_handshakes_total", "ok", "yes", "TLSv1.3"): 1,
            ("edge_tls_handshakes_total", "failed", "no", "-"): 1,
            ("edge_rejected_total", "malformed"): 1,
            ("edge_rejected_total", "connections"): 0,
        }
        wait_until(lambda: expected.items() <= scrape(place).items(), "all of it is counted")
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(address, 10))
            wait_until(lambda: scrape(place)["edge_rejected_total", "connections"] >= 1, "one is refused")


def test_metrics_are_on_their_own_address_alone(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", "127.0.0.1:0") as server:
        line = server.wait_error("metrics on http://127.0.0.1:")
        port = int(line.rpartition(":")[2])
        assert ask(port, b"/metrics") == 200
        assert ask(port, b"/other") == 404
        with RawClient(server.port) as client:
            client.send(GET % b"/metrics")
            assert client.receive_response()[2] == b"hello"  # the application's
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_scraper_may_ask_for_openmetrics_and_gets_what_it_asks_for(tmp_path: Path, place: Path) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}"):
        answer = fetch(place, accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert "edge_http_request_duration_seconds" in {family.name for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
        assert fetch(place, method="POST").status_code == 405
        assert fetch(place, method="HEAD").content == b""
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(place))
            raw.sendall(b"nonsense\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 400 ")
    assert not place.exists()


def test_scrapers_that_say_nothing_hold_up_nobody(tmp_path: Path, place: Path) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}") as server:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for sock in silent:
            sock.connect(str(place))
        assert fetch(place).status_code == 200
        assert silent[0].recv(1) == b""  # the oldest made room
        assert ask(server.port) == 200
        for sock in silent:
            sock.close()


def test_new_master_answers_scrapers_after_an_upgrade(tmp_path: Path, place: Path) -> None:
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}") as server:
        assert ask(server.port) == 200
        wait_until(lambda: answered(scrape(place)) == 1, "the answer is counted")
        edge(tmp_path, "upgrade")
        wait_until(lambda: answered(scrape(place)) == 0, "the new master counts from zero")
        assert ask(server.port) == 200
        wait_until(lambda: answered(scrape(place)) == 1, "the answer of the new edge is counted")
    assert not place.exists()


def test_address_of_metrics_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["--port", "0", "--metrics", address, "application:app"]
        with Server(arguments, cwd=tmp_path, environ=environ) as server:
            assert server.wait_end() == 2
            assert server.errors[-1].endswith(
                f"cannot listen on {address}: the port is in use; stop what listens there or choose another"
            )


@pytest.mark.parametrize("path", [b"/.edge/health", b"/.edge/ready"])
def test_probe_is_answered_under_any_host_on_every_listener(path: bytes, tmp_path: Path, authority: Authority) -> None:
    options = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--cert", str(authority.cert)]
    (tmp_path / "application.py").write_text(APPLICATION)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    with Server([*options, "application:app"], cwd=tmp_path, environ=environ) as server:
        server.wait_ready()
        [tls], [plain] = wait_until(
            lambda: (p := (server.ports("https"), server.ports("http"))) and all(p) and p, "both listen"
        )
        for port, context in ((tls, authority.client_context()), (plain, None)):
            with RawClient(port, context) as client:
                client.send(b"GET %b HTTP/1.1\r\nHost: 10.1.2.3:8080\r\n\r\n" % path)
                status, fields, content = client.receive_response()
                assert (status, content, fields[b"cache-control"]) == (200, b"ok\n", b"no-store")


def test_server_without_workers_is_alive_and_not_ready(tmp_path: Path) -> None:
    source = APPLICATION + "\nif os.path.exists('broken'):\n    raise RuntimeError('broken')\n"
    with serving(tmp_path, source) as server:
        wait_until(lambda: ask(server.port, b"/.edge/ready") == 200, "it is ready")
        (tmp_path / "broken").touch()
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: ask(server.port, b"/.edge/ready") == 503, "it is not ready")
        assert ask(server.port, b"/.edge/health") == 200
        (tmp_path / "broken").unlink()
        wait_until(lambda: ask(server.port, b"/.edge/ready") == 200, "it is ready again")


def test_reload_refuses_another_address_for_metrics(tmp_path: Path, place: Path) -> None:
    (tmp_path / "settings.env").write_text(f"EDGE_METRICS=unix:{place}\n")
    with serving(tmp_path, APPLICATION, "--env-file", str(tmp_path / "settings.env")) as server:
        (tmp_path / "settings.env").write_text("EDGE_METRICS=unix:other.sock\n")
        assert "addresses for metrics have changed; restart to use them" in edge(tmp_path, "reload", code=1)
        assert fetch(place).status_code == ask(server.port) == 200


def test_probes_can_be_left_to_the_application(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--no-health") as server, RawClient(server.port) as client:
        client.send(GET % b"/.edge/health")
        assert client.receive_response()[2] == b"hello"


def test_page_names_every_metric_with_its_kind_and_labels(tmp_path: Path, place: Path, authority: Authority) -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(edge_\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    with serving(tmp_path, APPLICATION, "--metrics", f"unix:{place}", authority=authority) as server:
        with RawClient(server.port, authority.client_context()) as client:
            client.send(GET % b"/")
            client.receive_response()
        wait_until(lambda: answered(scrape(place)), "the request is counted")
        families = list(parse_text(fetch(place).text))
    found = {
        family.name + "_total" * (family.type == "counter"): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }
    assert found == documented
