"""Other people's HTTP and WebSocket clients against a real `edge serve` over TLS."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.interop.conftest import Serve
from tests.process.server import DEADLINE, Authority, Server, clean_environment, wait_until

pytest.importorskip("fastapi", reason="fastapi is not installed")

# Larger than every window and buffer on the way.
BODY = b"0123456789abcdef" * 131_072

Ask = Callable[[str, Path, str, bytes], dict[str, Any]]


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("site_fastapi:app")


def _curl(root: Path, *arguments: str, body: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(root), *arguments]
    return subprocess.run(command, input=body, capture_output=True, env=clean_environment(), timeout=30, check=False)


def ask_with_curl(url: str, root: Path, method: str, body: bytes) -> dict[str, Any]:
    # With a body of this size curl asks with Expect: 100-continue.
    content = ["--data-binary", "@-"] if body else []
    done = _curl(root, "--request", method, *content, url, body=body)
    assert done.returncode == 0, done.stderr
    return _object(json.loads(done.stdout))


def ask_with_httpx(url: str, root: Path, method: str, body: bytes) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(root))
    with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
        return _object(client.request(method, url, content=body or None).json())


def ask_with_requests(url: str, root: Path, method: str, body: bytes) -> dict[str, Any]:
    requests = pytest.importorskip("requests", reason="requests is not installed")
    with requests.Session() as session:
        session.trust_env = False
        return _object(session.request(method, url, data=body or None, verify=str(root), timeout=30).json())


def ask_with_aiohttp(url: str, root: Path, method: str, body: bytes) -> dict[str, Any]:
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    context = ssl.create_default_context(cafile=str(root))

    async def ask() -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.request(method, url, data=io.BytesIO(body) if body else None) as answer,
        ):
            return _object(await answer.json())

    return asyncio.run(asyncio.wait_for(ask(), DEADLINE))


def _object(value: object) -> dict[str, Any]:
    assert isinstance(value, dict), value
    return value


CLIENTS = pytest.mark.parametrize("ask", [ask_with_curl, ask_with_httpx, ask_with_requests, ask_with_aiohttp])


@CLIENTS
def test_client_trusts_the_certificate_and_gets_its_answer(ask: Ask, server: Server, authority: Authority) -> None:
    url = f"https://localhost:{server.port}/echo?a=b"
    seen = ask(url, authority.root, "GET", b"")
    assert (seen["method"], seen["url"], seen["client"]) == ("GET", url, "127.0.0.1")


@CLIENTS
def test_client_sends_a_large_body(ask: Ask, server: Server, authority: Authority) -> None:
    seen = ask(f"https://localhost:{server.port}/echo", authority.root, "POST", BODY)
    assert (seen["method"], seen["size"]) == ("POST", len(BODY))


VERSIONS = pytest.mark.parametrize(("flag", "version"), [("--http1.1", b"HTTP/1.1"), ("--http2", b"HTTP/2")])


@VERSIONS
def test_curl_waits_for_100_continue_and_gets_it(
    server: Server, authority: Authority, flag: str, version: bytes
) -> None:
    url = f"https://localhost:{server.port}/echo"
    done = _curl(
        authority.root, flag, "-v", "--expect100-timeout", "30", "-H", "Expect: 100-continue", "-d", "@-", url,
        body=b"x" * 10,
    )  # fmt: skip
    assert b"< %b 100" % version in done.stderr
    assert json.loads(done.stdout)["size"] == 10


@VERSIONS
def test_curl_is_refused_before_it_sends_a_body_that_is_too_large(
    serve: Serve, authority: Authority, flag: str, version: bytes
) -> None:
    server = serve("site_fastapi:app", "--max-body", "1MiB")
    url = f"https://localhost:{server.port}/echo"
    done = _curl(
        authority.root, flag, "-v", "--expect100-timeout", "30", "-H", "Expect: 100-continue", "--data-binary", "@-",
        url,
        body=BODY,
    )  # fmt: skip
    assert b"< %b 413" % version in done.stderr
    assert b"< %b 100" % version not in done.stderr


def test_curl_sends_chunks(server: Server, authority: Authority) -> None:
    url = f"https://localhost:{server.port}/echo"
    done = _curl(authority.root, "-H", "Transfer-Encoding: chunked", "--data-binary", "@-", url, body=BODY)
    assert json.loads(done.stdout)["size"] == len(BODY)


@VERSIONS
def test_curl_keeps_its_connection(server: Server, authority: Authority, flag: str, version: bytes) -> None:
    url = f"https://localhost:{server.port}/done"
    out = ("--write-out", "%{num_connects} %{http_version} ", "-o", "-", "-o", "-")
    done = _curl(authority.root, flag, *out, url, url)
    assert done.stdout == b"[]1 %b []0 %b " % ((version.removeprefix(b"HTTP/"),) * 2)


def test_curl_without_the_root_refuses_the_server(server: Server, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    done = _curl(other.root, f"https://localhost:{server.port}/done")
    assert (done.returncode, done.stdout) == (60, b"")  # CURLE_PEER_FAILED_VERIFICATION


def test_curl_speaking_plain_http_to_the_tls_port_is_told_so(server: Server, authority: Authority) -> None:
    done = _curl(authority.root, "--include", f"http://localhost:{server.port}/")
    assert done.stdout.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"https://" in done.stdout


def test_httpx_sends_content_of_unknown_length_as_it_is_made(server: Server, authority: Authority) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 16384

    async def ask() -> Any:
        async with httpx.AsyncClient(verify=authority.client_context(), trust_env=False, timeout=30) as client:
            return (await client.put(f"https://localhost:{server.port}/echo", content=pieces())).json()

    assert asyncio.run(ask())["size"] == 64 * 16384


def test_client_that_leaves_during_a_stream_is_logged_and_harms_nobody(serve: Serve, authority: Authority) -> None:
    server = serve("site_fastapi:app")
    with httpx.Client(verify=authority.client_context(), trust_env=False, timeout=30) as client:
        with client.stream("GET", f"https://localhost:{server.port}/events") as events:
            next(events.iter_lines())
        wait_until(lambda: [line for line in server.access_lines() if line.get("error")], "a line that says so")
        [line] = [line for line in server.access_lines() if line["target"] == "/events"]
        assert line["error"] == "the client left"
        assert client.get(f"https://localhost:{server.port}/done").json() == []
        # The application's call still waits to go on, and the server would wait for it at its end.
        client.post(f"https://localhost:{server.port}/release")


def _echoes_with_websockets(address: str, context: ssl.SSLContext, messages: list[str | bytes]) -> list[Any]:
    async def talk() -> list[Any]:
        async with connect(address, ssl=context, proxy=None, max_size=None) as socket:
            replies: list[Any] = []
            for message in messages:
                await socket.send(message)
                replies.append(await socket.recv())
            await (await socket.ping())
            return replies

    return asyncio.run(asyncio.wait_for(talk(), DEADLINE))


def _echoes_with_aiohttp(address: str, context: ssl.SSLContext, messages: list[str | bytes]) -> list[Any]:
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    async def talk() -> list[Any]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.ws_connect(address, max_msg_size=0, compress=15) as socket,
        ):
            replies: list[Any] = []
            for message in messages:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                replies.append((await socket.receive()).data)
            return replies

    return asyncio.run(asyncio.wait_for(talk(), DEADLINE))


# Not websockets' threaded client: it reads and writes one SSL object in two threads, and OpenSSL loses data then
# (python/cpython#143756). Under load one handshake in a thousand hung, against asyncio's TLS as against ours.
@pytest.mark.parametrize("echoes", [_echoes_with_websockets, _echoes_with_aiohttp])
def test_websocket_client_gets_its_messages_back(
    echoes: Callable[[str, ssl.SSLContext, list[str | bytes]], list[Any]], server: Server, authority: Authority
) -> None:
    messages: list[str | bytes] = ["hello", "grüße 🙂", b"\x00\xff", "", "a" * 1_000_000, BODY]
    address = f"wss://localhost:{server.port}/ws"
    assert echoes(address, authority.client_context(), messages) == messages


def test_websocket_compresses_and_chooses_a_subprotocol(server: Server, authority: Authority) -> None:
    async def ask() -> tuple[str | None, str]:
        offered = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
        address = f"wss://localhost:{server.port}/ws"
        async with connect(address, ssl=authority.client_context(), proxy=None, subprotocols=offered) as socket:
            assert socket.response is not None
            return socket.subprotocol, socket.response.headers["sec-websocket-extensions"]

    subprotocol, extensions = asyncio.run(ask())
    assert subprotocol == "chat.v2"
    assert "permessage-deflate" in extensions


def test_websocket_that_the_client_closes_ends_at_once(server: Server, authority: Authority) -> None:
    async def close() -> float:
        address = f"wss://localhost:{server.port}/ws"
        context = authority.client_context()
        async with connect(address, ssl=context, proxy=None, close_timeout=DEADLINE) as socket:
            asked_at = time.monotonic()
            await socket.close(1000, "done")  # waits until the server has closed the connection
            return time.monotonic() - asked_at

    assert asyncio.run(close()) < DEADLINE / 4
