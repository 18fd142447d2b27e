"""Each example runs by the command in its first line and does what it is for; the chat in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shlex
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.interop.chromium import browsing
from tests.process.server import DEADLINE, ROOT, Server, clean_environment, wait_until

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


class Example:
    """A running example and the root that it made for itself."""

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.root = home / "dev" / "root.pem"
        self.url = f"https://localhost:{server.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.context(), trust_env=False, timeout=DEADLINE)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.root))


@contextlib.contextmanager
def running(path: Path, home: Path) -> Iterator[Example]:
    """Run the command in the first line of an example as it is there, but on a free port."""
    command = shlex.split(path.read_text().splitlines()[0].removeprefix("# "))
    assert command[:3] == ["edge", "serve", "--dev"]
    assert command[-1].partition(":")[0] == path.stem
    environ = clean_environment(EDGE_HOME=str(home), EDGE_PORT="0")
    with Server(command[2:], cwd=ROOT, environ=environ) as server:
        yield Example(server.wait_ready(), home)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_by_the_command_in_its_first_line(path: Path, tmp_path: Path) -> None:
    with running(path, tmp_path) as example, example.client() as client:
        assert client.get("/").status_code == 200
    assert example.server.process.returncode == 0


def test_orders_answer_before_their_mail_is_sent(tmp_path: Path) -> None:
    with running(ROOT / "examples/orders.py", tmp_path) as example, example.client() as client:
        taken = client.post("/orders", params={"email": "ada@example.org"})
        assert (taken.status_code, taken.json()["mail_sent"]) == (201, False)
        wait_until(lambda: client.get("/orders/1").json()["mail_sent"], "the mail is sent")
        assert client.post("/orders", params={"email": "nobody"}).status_code == 422
        assert client.get("/orders/9").json() == {"detail": "no order 9"}
        assert client.get("/").json() == {
            "you": "127.0.0.1",
            "url": f"{example.url}/",
            "docs": f"{example.url}/docs",
        }


def test_clock_ticks_as_it_is_read(tmp_path: Path) -> None:
    with running(ROOT / "examples/clock.py", tmp_path) as example, example.client() as client:
        with client.stream("GET", "/ticks", params={"pause": 0.01}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line, _ in zip((line for line in answer.iter_lines() if line), range(3), strict=False)]
        assert all(re.fullmatch(r"data: \d\d:\d\d:\d\d", line) for line in lines), lines
        assert len(lines) == 3
        assert client.get("/ticks", params={"pause": 0}).status_code == 400


def test_digest_reads_an_upload_piece_by_piece(tmp_path: Path) -> None:
    content = bytes(range(256)) * 80_000  # 20 MB, above Quart's own limit
    pieces = (content[start : start + 65_536] for start in range(0, len(content), 65_536))
    with running(ROOT / "examples/digest.py", tmp_path) as example, example.client() as client:
        assert client.put("/digest", content=pieces).text == f"{hashlib.sha256(content).hexdigest()}\n"


def test_export_is_a_wsgi_application_that_knows_its_public_address(tmp_path: Path) -> None:
    with running(ROOT / "examples/export.py", tmp_path) as example, example.client() as client:
        address = client.get("/").text.strip()
        assert address == f"{example.url}/squares.csv?rows=1000"
        lines = client.get(address).text.splitlines()
    assert lines[0] == "number,square"
    assert lines[1:] == [f"{number},{number * number}" for number in range(1000)]


def test_guestbook_tells_every_reader_who_signed(tmp_path: Path) -> None:
    with running(ROOT / "examples/guestbook.py", tmp_path) as example:
        asyncio.run(asyncio.wait_for(_sign(example), DEADLINE))


async def _sign(example: Example) -> None:
    address = f"wss://localhost:{example.server.port}/guests"
    context = example.context()
    async with (
        connect(address, ssl=context, proxy=None, origin=Origin(example.url)) as first,
        connect(address, ssl=context, proxy=None, origin=Origin(example.url)) as second,
    ):
        await second.send("Grace")
        assert [await first.recv(), await second.recv()] == ["Grace", "Grace"]
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(address, ssl=context, proxy=None, origin=Origin("https://elsewhere.example")):
            pass


def test_chat_passes_messages_to_everyone_and_survives_who_leaves(tmp_path: Path) -> None:
    with running(ROOT / "examples/chat.py", tmp_path) as example:
        asyncio.run(asyncio.wait_for(_chat(example), DEADLINE))


async def _chat(example: Example) -> None:
    address = f"wss://localhost:{example.server.port}/room"
    async with connect(address, ssl=example.context(), proxy=None) as first:
        async with connect(address, ssl=example.context(), proxy=None) as second:
            await second.send("hello")
            assert [await first.recv(), await second.recv()] == ["guest 2: hello"] * 2
        await first.send("alone?")
        assert await first.recv() == "guest 1: alone?"


def test_two_browser_windows_chat_over_https(tmp_path: Path) -> None:
    with (
        running(ROOT / "examples/chat.py", tmp_path / "home") as example,
        browsing(tmp_path, example.root) as browser,
    ):
        first, second = browser.open(f"{example.url}/"), browser.open(f"{example.url}/")
        for page in (first, second):
            page.wait_for("document.getElementById('status')?.textContent === 'connected'")
            assert page.evaluate("window.isSecureContext") is True
        text = "<b>grüße</b> 🙂"
        first.evaluate(
            f"document.getElementById('text').value = {json.dumps(text)}; document.querySelector('button').click()"
        )
        for page in (first, second):
            seen = page.wait_for("document.querySelector('#messages li')?.textContent")
            assert seen.partition(": ")[2] == text
        [seen_line, *_] = [line for line in example.server.wait_access(2) if line["target"] == "/"]
        assert (seen_line["status"], seen_line["tls"]) == (200, "TLSv1.3")


def test_browser_that_does_not_trust_the_root_shows_no_page(tmp_path: Path) -> None:
    with (
        running(ROOT / "examples/hello.py", tmp_path / "home") as example,
        browsing(tmp_path, None) as browser,
    ):
        page = browser.open(f"{example.url}/")
        assert "ERR_CERT_AUTHORITY_INVALID" in page.wait_for("document.getElementById('error-code')?.textContent")
        assert example.server.access_lines() == []
