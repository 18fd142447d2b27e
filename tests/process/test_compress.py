"""Compression by a running server: what clients read is what the application sent, in both versions of HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest

from tests.process.server import Authority, RawClient, Server, clean_environment, serving, wait_until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

APPLICATION = """
import asyncio, json

TEXT = json.dumps([{"id": number, "name": f"item {number}"} for number in range(3000)]).encode()
gates = {}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    kind, _, name = scope["path"].strip("/").partition("/")
    if kind == "open":
        gates.setdefault(name, asyncio.Event()).set()
        kind = "small"
    fields = [(b"content-type", b"text/event-stream" if kind == "events" else b"application/json")]
    if kind == "stream":
        fields.append((b"x-accel-buffering", b"no"))
    if kind == "whole":
        fields += [(b"content-length", b"%d" % len(TEXT)), (b"etag", b'"v1"')]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": kind == "trailers"})
    if kind in ("stream", "events"):
        await send({"type": "http.response.body", "body": b"data: first\\n\\n", "more_body": True})
        await gates.setdefault(name, asyncio.Event()).wait()
    if kind == "broken":
        await send({"type": "http.response.body", "body": TEXT[:2000], "more_body": True})
        raise RuntimeError("on purpose")
    await send({"type": "http.response.body", "body": b"{}" if kind == "small" else TEXT})
    if kind == "trailers":
        await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"abc")]})
"""
TEXT = json.dumps([{"id": number, "name": f"item {number}"} for number in range(3000)]).encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("compress")
    with serving(folder, APPLICATION, "--compress", "auto", "--log-format", "json", authority=authority) as running:
        yield running


@pytest.fixture(params=[1, 2], ids=["http1", "http2"])
def client(request: pytest.FixtureRequest, server: Server, authority: Authority) -> Iterator[httpx.Client]:
    url = f"https://localhost:{server.port}"
    http2 = request.param == 2
    with httpx.Client(base_url=url, http2=http2, verify=authority.client_context(), trust_env=False) as made:
        yield made


@pytest.fixture
def raw(server: Server, authority: Authority) -> Iterator[RawClient]:
    with RawClient(server.port, authority.client_context()) as made:
        yield made


def ask(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Accept-Encoding: gzip", *fields]
    return "".join(line + "\r\n" for line in [*lines, ""]).encode()


def decoded(answer: httpx.Response, content: bytes) -> bytes:
    coding = answer.headers.get("content-encoding", "")
    if coding == "gzip":
        return zlib.decompress(content, 31)
    if coding == "br":
        return bytes(brotli.decompress(content))
    assert coding == "zstd"
    return zstd.decompress(content)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("path", ["/whole", "/large"])
def test_answer_reads_as_the_application_sent_it(client: httpx.Client, path: str, coding: str) -> None:
    with client.stream("GET", path, headers={"accept-encoding": coding}) as answer:
        content = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == coding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(content) < len(TEXT) / 3
    assert decoded(answer, content) == TEXT
    assert answer.headers.get("etag") == ('W/"v1"' if path == "/whole" else None)


@pytest.mark.parametrize("fields", [{"accept-encoding": "identity"}, {"cookie": "session=1"}])
def test_who_wants_none_or_may_have_secrets_gets_it_as_it_is(client: httpx.Client, fields: dict[str, str]) -> None:
    answer = client.get("/whole", headers=fields)
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["etag"] == '"v1"'
    assert answer.content == TEXT


def test_small_answer_is_left_alone(client: httpx.Client) -> None:
    assert "content-encoding" not in client.get("/small").headers


def test_head_says_what_a_get_would_and_no_length(client: httpx.Client) -> None:
    answer = client.head("/whole", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("http2", ["--http1.1", "--http2"])
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reads_it(server: Server, authority: Authority, http2: str, tmp_path: Path) -> None:
    command = ["curl", "-sS", "--compressed", http2, "--cacert", str(authority.root), "-D", str(tmp_path / "head")]
    url = f"https://localhost:{server.port}/whole"
    done = subprocess.run([*command, url], capture_output=True, timeout=60, env=clean_environment(), check=True)
    assert done.stdout == TEXT
    assert "content-encoding: " in (tmp_path / "head").read_text().lower()


def test_log_counts_what_was_sent(server: Server, client: httpx.Client) -> None:
    with client.stream("GET", "/whole?logged", headers={"accept-encoding": "gzip"}) as answer:
        size = len(b"".join(answer.iter_raw()))
    lines: list[dict[str, Any]] = wait_until(
        lambda: [line for line in server.access_lines() if "?logged" in line["target"]], "the line of the request"
    )
    assert lines[-1]["bytes_out"] == size


def test_piece_of_a_stream_can_be_read_before_the_next_is_there(raw: RawClient, client: httpx.Client) -> None:
    name = client.base_url.host + str(id(raw))
    raw.send(ask(f"/stream/{name}"))
    try:
        data = raw.receive_until(b"\r\n\r\n")
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b"\r\ncontent-encoding: gzip" in head
        assert b"x-accel-buffering" not in head
        reader, text = zlib.decompressobj(31), b""
        while text != b"data: first\n\n":
            rest += b"" if b"\r\n" in rest else raw.receive_until(b"\r\n")
            size, _, rest = rest.partition(b"\r\n")
            while len(rest) < int(size, 16) + 2:
                rest += raw.sock.recv(65536)
            text += reader.decompress(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
    finally:
        client.get(f"/open/{name}")
    raw.receive_until(b"\r\n0\r\n\r\n")


def test_event_stream_is_not_compressed_and_flows_at_once(raw: RawClient, client: httpx.Client) -> None:
    name = "events" + str(id(raw))
    raw.send(ask(f"/events/{name}"))
    try:
        answer = raw.receive_until(b"data: first\n\n")
    finally:
        client.get(f"/open/{name}")
    assert b"content-encoding" not in answer
    raw.receive_until(b"\r\n0\r\n\r\n")


def test_trailers_come_behind_compressed_content(raw: RawClient) -> None:
    raw.send(ask("/trailers", "TE: trailers"))
    answer = raw.receive_until(b"x-checksum: abc\r\n\r\n")
    assert b"\r\ncontent-encoding: gzip" in answer
    assert answer.endswith(b"\r\n0\r\nx-checksum: abc\r\n\r\n")


def test_answer_that_breaks_off_cannot_be_taken_for_whole(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/broken", headers={"accept-encoding": "gzip"})
