"""Socket.IO with several workers: its long polling needs the same worker again for each request of a client."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.interop.conftest import Serve
from tests.process.server import ROOT, Authority, Server, clean_environment, wait_until

socketio = pytest.importorskip("socketio", reason="python-socketio is not installed")

CLIENTS = 12
POLL = "/socket.io/?EIO=4&transport=polling"


def served(serve: Serve, authority: Authority, affinity: str, workers: int) -> Server:
    """Return a server all of whose workers have answered."""
    server = serve("site_socketio:app", "--workers", str(workers), "--affinity", affinity, "--drain-timeout", "1")
    seen: set[str] = set()

    def all_have_answered() -> bool:
        seen.add(ask(server, authority, "/").text)
        return len(seen) == workers

    wait_until(all_have_answered, "all workers have answered")
    return server


def ask(
    server: Server, authority: Authority, path: str, method: str = "GET", cookie: str = "", content: str = ""
) -> httpx.Response:
    """Ask on a new connection, without a cookie as a client that nobody has seen before."""
    with httpx.Client(verify=authority.client_context(), trust_env=False) as client:
        fields = {"cookie": cookie} if cookie else {}
        return client.request(method, f"https://localhost:{server.port}{path}", headers=fields, content=content or None)


async def talk(server: Server, authority: Authority, *transports: str) -> tuple[str, set[str]]:
    """Connect, ask a few times, and return the transport at the end and the processes that have answered."""
    connector = aiohttp.TCPConnector(ssl=authority.client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        client = socketio.AsyncClient(http_session=session, reconnection=False)
        try:
            await client.connect(f"https://localhost:{server.port}", transports=list(transports), wait_timeout=20)
            answers = [await client.call("ask", "who", timeout=20) for _ in range(4)]
            return client.transport(), {answer.removeprefix("who ") for answer in answers}
        finally:
            # Otherwise it waits for its last poll, which its server leaves open for 45 s.
            await client.eio.disconnect(abort=True)


def test_long_polling_stays_with_its_worker_by_the_cookie(serve: Serve, authority: Authority) -> None:
    server = served(serve, authority, "cookie", 4)

    async def scenario() -> list[tuple[str, set[str]]]:
        polling = [talk(server, authority, "polling") for _ in range(CLIENTS)]
        return await asyncio.gather(*polling, talk(server, authority, "polling", "websocket"))

    *polled, upgraded = asyncio.run(scenario())
    assert {transport for transport, _ in polled} == {"polling"}
    assert upgraded[0] == "websocket"
    assert all(len(workers) == 1 for _, workers in (*polled, upgraded))
    # Chance draws the cookies: that all of the twelve lead to one worker is one case in four million.
    assert len(set.union(*(workers for _, workers in polled))) > 1


def all_have_served(server: Server, authority: Authority) -> bool:
    """Open a session more; True if there is one with each of the workers that get ready one after the other."""
    ask(server, authority, POLL)
    return {line["worker"] for line in server.access_lines()} == {0, 1, 2, 3}


def test_command_of_the_page_serves(tmp_path: Path, authority: Authority) -> None:
    """The application and the command as they stand there, with a certificate and on a free port."""
    page = (ROOT / "docs/howto/sticky-sessions.md").read_text()
    [program] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    [command] = re.findall(r"^```sh\nedge serve (.*?)\n```", page, re.MULTILINE)
    (tmp_path / "chat.py").write_text(program)
    arguments = [*command.split(), "--port", "0", "--host", "127.0.0.1", "--cert", str(authority.cert), "--edges", "1"]
    with Server(arguments, cwd=tmp_path, environ=clean_environment(EDGE_HOME=str(tmp_path / "home"))) as server:
        server.wait_ready()
        wait_until(lambda: all_have_served(server, authority), "all workers have answered")
        opened = ask(server, authority, POLL)
        cookie, _, attributes = opened.headers["set-cookie"].partition("; ")
        assert attributes == "Path=/; HttpOnly; SameSite=Lax; Secure"
        poll = f"{POLL}&sid={json.loads(opened.text.removeprefix('0'))['sid']}"
        for _ in range(4):
            assert ask(server, authority, poll, "POST", cookie, "40").text == "OK"
        assert ask(server, authority, poll, "GET", cookie).text.startswith('40{"sid":')


def test_long_polling_fails_without(serve: Serve, authority: Authority) -> None:
    server = served(serve, authority, "off", 2)
    handshake = ask(server, authority, POLL)
    assert handshake.status_code == 200
    assert "set-cookie" not in handshake.headers
    sid = json.loads(handshake.text.removeprefix("0"))["sid"]
    # Of idle workers, the one that has waited longest is next: never the one that has just answered.
    assert ask(server, authority, f"{POLL}&sid={sid}").status_code == 400
