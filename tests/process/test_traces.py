"""A trace goes through: to an application that OpenTelemetry instruments, to a server behind, and into the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.http2_client import Http2Client
from tests.process.raw_upstream import RawUpstream
from tests.process.server import ROOT, Authority, RawClient, Server, wait_until
from tests.process.test_sites import serving_file

# What docs/howto/traces.md shows, with an exporter that keeps the spans; /spans gives them out.
APPLICATION = """
import json

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()

async def shop(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    fields = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    spans = [json.loads(span.to_json(indent=None)) for span in exporter.get_finished_spans()]
    content = json.dumps(spans if scope["path"] == "/spans" else fields).encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": content})

"""
FILE = """
[[site]]
hosts = ["localhost"]
[[site.route]]
path = "/"
app = "application:app"
[[site.route]]
path = "/elsewhere"
upstream = "{address}"
"""
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"


def traced() -> str:
    """Return the application of the documentation, with spans that stay where the test can read them."""
    page = (ROOT / "docs/howto/traces.md").read_text()
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    [block] = blocks
    block = re.sub(r"^from (?:opentelemetry\.exporter\.|shop ).*\n", "", block, flags=re.MULTILINE)
    assert block.count("BatchSpanProcessor(OTLPSpanExporter())") == 1
    block = block.replace("BatchSpanProcessor(OTLPSpanExporter())", "SimpleSpanProcessor(exporter)")
    return APPLICATION + block.replace("import BatchSpanProcessor", "import SimpleSpanProcessor")


@pytest.fixture(scope="module")
def server(upstream: RawUpstream, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("traces")
    (folder / "application.py").write_text(traced())
    with serving_file(folder, FILE.format(address=upstream.address), authority) as server:
        yield server


def get(server: Server, authority: Authority, path: str, *fields: str) -> bytes:
    with RawClient(server.port, authority.client_context()) as client:
        client.send("\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", "")).encode())
        status, _, content = client.receive_response()
    assert status == 200
    return content


def logged(server: Server, path: str) -> dict[str, Any]:
    """The first log line of a request for this path."""
    line: dict[str, Any] = wait_until(
        lambda: next((line for line in server.access_lines() if line["target"] == path), None), f"{path} is logged"
    )
    return line


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_trace_is_the_applications_and_the_logs(version: str, server: Server, authority: Authority) -> None:
    path = f"/in/{version}"
    if version == "2":
        with Http2Client(server, authority) as client:
            fields = ((b"traceparent", PARENT.encode()), (b"tracestate", STATE.encode()))
            found = client.wait(client.begin(path, *fields)).json()
    else:
        found = json.loads(get(server, authority, path, f"TraceParent: {PARENT}", f"tracestate: {STATE}"))
    assert [value for name, value in found if name.startswith("trace")] == [PARENT, STATE]
    spans = json.loads(get(server, authority, "/spans"))
    [span] = [
        span for span in spans if span["attributes"].get("http.target") == path and span["kind"].endswith("SERVER")
    ]
    assert (span["context"]["trace_id"], span["parent_id"]) == (f"0x{TRACE}", f"0x{SPAN}")
    line = logged(server, path)
    assert (line["trace_id"], line["span_id"], line["version"]) == (TRACE, SPAN, version)
    assert not {"trace_id", "span_id"} & logged(server, "/spans").keys()


def test_trace_goes_on_to_a_server_behind(server: Server, upstream: RawUpstream, authority: Authority) -> None:
    get(server, authority, "/elsewhere", f"traceparent: {PARENT}", f"tracestate: {STATE}")
    [seen] = upstream.take()
    assert [field for field in seen.fields if "trace" in field] == [f"traceparent: {PARENT}", f"tracestate: {STATE}"]
    assert logged(server, "/elsewhere")["trace_id"] == TRACE


def test_trace_that_is_not_valid_goes_on_and_is_not_logged(server: Server, authority: Authority) -> None:
    found = json.loads(get(server, authority, "/wrong", "traceparent: 00-no-trace-01"))
    assert ["traceparent", "00-no-trace-01"] in found
    assert "trace_id" not in logged(server, "/wrong")
