"""Other people's clients of HTTP/2 against a real `edge serve` over TLS."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.chromium import browsing
from tests.interop.http2_tools import curl, run
from tests.process.server import Authority, Server, serving, wait_until

SOURCE = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + " over " + scope["http_version"]})
        return
    if scope["type"] != "http":
        return
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    path = scope["path"]
    fields = [(b"content-type", b"text/html"), (b"trailer", b"x-sum")]
    trailers = path == "/trailers"
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": trailers})
    if path == "/large":
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
        await send({"type": "http.response.body"})
    else:
        body = f"{total} bytes over " + scope["http_version"]
        await send({"type": "http.response.body", "body": body.encode()})
    if trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"%d" % total)]})
"""
BODY = b"0123456789abcdef" * 131_072


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("http2"), SOURCE, "--drain-timeout", "1", authority=authority) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return f"https://localhost:{server.port}"


def test_curl_speaks_http2(url: str, authority: Authority) -> None:
    assert curl(url, authority=authority) == "0 bytes over 2 2 200"


def test_curl_uploads_and_downloads(url: str, authority: Authority) -> None:
    # With content of this size curl asks with Expect: 100-continue in HTTP/1.1; here the window has the say.
    assert curl("--data-binary", "@-", url, authority=authority, content=BODY) == f"{len(BODY)} bytes over 2 2 200"
    assert curl("-o", "/dev/null", "-w", "%{size_download}", url + "/large", authority=authority) == "5000000"


def test_curl_reads_trailers(url: str, authority: Authority) -> None:
    told = curl("-i", "-H", "TE: trailers", "-d", "12345", url + "/trailers", authority=authority)
    assert "x-sum: 5" in told


def test_curl_sends_many_requests_on_one_connection(url: str, authority: Authority) -> None:
    options = ["--parallel", "--parallel-max", "50", "--no-progress-meter", "-o", "/dev/null"]
    told = curl(*options, "-w", "%{http_version} %{http_code}\n", f"{url}/?[1-200]", authority=authority)
    assert told.splitlines() == ["2 200"] * 200


def test_nghttp_verifies_what_comes(url: str, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(BODY)
    upload = ["-d", str(tmp_path / "content"), "-b", "200", "--trailer", "x-check: 1", "-H", "te: trailers"]
    told = run("nghttp", "-v", "-n", *upload, url + "/trailers", authority=authority)
    assert "verify" not in told.lower()
    assert "The negotiated protocol: h2" in told
    assert f"x-sum: {len(BODY)}" in told
    assert "GOAWAY" not in told.replace("send GOAWAY", "")
    assert "RST_STREAM" not in told


def test_nghttp_has_many_streams_at_a_time(url: str, authority: Authority) -> None:
    told = run("nghttp", "-n", "-s", "-m", "100", "-w", "20", "-W", "24", url + "/large", authority=authority)
    assert len(re.findall(r"200\s+4M\s+/large", told)) == 100, told


@pytest.mark.parametrize("streams", [1, 16, 100])
def test_h2load_has_no_failed_request(url: str, authority: Authority, streams: int) -> None:
    told = run("h2load", "-n", "3000", "-c", "2", "-m", str(streams), url, authority=authority)
    assert "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout" in told
    assert "Application protocol: h2" in told


def test_h2load_takes_large_answers(url: str, authority: Authority) -> None:
    told = run("h2load", "-n", "60", "-c", "2", "-m", "16", url + "/large", authority=authority)
    assert "60 succeeded, 0 failed, 0 errored" in told


def test_httpx_speaks_http2(url: str, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    with httpx.Client(http2=True, verify=context, trust_env=False, timeout=30) as client:
        for _ in range(3):
            answer = client.post(url, content=BODY)
            assert (answer.http_version, answer.text) == ("HTTP/2", f"{len(BODY)} bytes over 2")
        assert len(client.get(url + "/large").content) == 5_000_000
    with httpx.Client(verify=context, trust_env=False) as client:
        assert client.get(url).http_version == "HTTP/1.1"


def test_chromium_loads_uploads_and_opens_websockets_over_http2(
    url: str, server: Server, authority: Authority, tmp_path: Path
) -> None:
    with browsing(tmp_path, authority.root) as browser:
        page = browser.open(url + "/page")
        assert page.wait_for("document.body && document.body.innerText") == "0 bytes over 2"
        entries = "performance.getEntriesByType('{}').map(entry => entry.nextHopProtocol)"
        assert page.evaluate(entries.format("navigation")) == ["h2"]
        upload = "fetch('/upload', {method: 'POST', body: new Uint8Array(3000000)}).then(answer => answer.text())"
        assert page.evaluate(upload) == "3000000 bytes over 2"
        many = "Promise.all([...Array(60).keys()].map(i => fetch('/large?' + i).then(answer => answer.arrayBuffer())))"
        assert page.evaluate(many + ".then(all => all.map(part => part.byteLength))") == [5_000_000] * 60
        assert set(page.evaluate(entries.format("resource"))) == {"h2"}
        socket = (
            "new Promise((done, fail) => {const it = new WebSocket(location.origin.replace('https', 'wss') + '/ws');"
        )
        socket += "it.onopen = () => it.send('hello'); it.onerror = fail;"
        socket += "it.onmessage = event => {it.close(4000, 'bye'); it.onclose = () => done(event.data)}})"
        assert page.evaluate(socket) == "hello over 2"

    def ended() -> list[dict[str, Any]]:
        return [line for line in server.access_lines() if line["target"] == "/ws"]

    wait_until(ended, "the line of the WebSocket")
    assert [(line["method"], line["version"], line["status"]) for line in ended()] == [("GET", "2", 200)]
