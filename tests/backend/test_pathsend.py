"""Files that the application names by ASGI's path send: handed over to the edge, or read here."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from edge_backend import wire
from edge_backend.asgi import HttpExchange
from edge_backend.errors import ApplicationError
from edge_backend.pathsend import find_below
from edge_backend.scope import build_scope
from tests.backend.test_asgi import PARTS, STREAM, MemoryLink
from tests.ends import in_loop, turn


def exchange_for(root: str, method: bytes = b"GET") -> tuple[MemoryLink, HttpExchange]:
    link = MemoryLink()
    link.sendfile_root = root
    return link, HttpExchange(link, STREAM, wire.END, build_scope([method, *PARTS[1:]], "", {}), b"")


async def start(exchange: HttpExchange, status: int = 200, **more: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5"), (b"x-edge-file", b"forged")]
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def send_path(exchange: HttpExchange, path: Path | str) -> None:
    await exchange.send({"type": "http.response.pathsend", "path": str(path)})


def heads(link: MemoryLink) -> list[tuple[int, bytes]]:
    return [(flags, head) for kind, flags, _, head, _ in link.take() if kind == wire.RESPONSE]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root/a b").mkdir(parents=True)
    (tmp_path / "root/a b/é.txt").write_text("hello")
    (tmp_path / "outside.txt").write_text("outer")
    return tmp_path


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@in_loop
async def test_file_below_the_root_is_handed_over(folder: Path, method: bytes) -> None:
    link, exchange = exchange_for(str(folder / "root"), method)
    await start(exchange)
    await send_path(exchange, folder / "root/a b/é.txt")
    [(flags, head)] = heads(link)
    assert flags == wire.END
    assert head.endswith(b"\ncontent-type\ntext/plain\nx-edge-file\na%20b/%C3%A9.txt")
    assert exchange.finish() is None


@in_loop
async def test_application_cannot_name_the_field_itself(folder: Path) -> None:
    link, exchange = exchange_for(str(folder / "root"))
    await start(exchange)
    await exchange.send({"type": "http.response.body", "body": b"hello"})
    assert heads(link) == [(wire.END, b"200\n5\ncontent-type\ntext/plain")]


@in_loop
async def test_file_elsewhere_is_read_here(folder: Path) -> None:
    link, exchange = exchange_for(str(folder / "root"))
    (folder / "root/link").symlink_to(folder / "outside.txt")
    await start(exchange)
    await send_path(exchange, folder / "root/link")
    frames = link.take()
    assert b"x-edge-file" not in frames[0][3]
    assert b"".join(frame[4] for frame in frames) == b"outer"
    assert frames[-1][1] & wire.END


@pytest.mark.parametrize("case", ["late", "trailers", "204"])
@in_loop
async def test_file_is_read_here_when_the_edge_cannot_take_it(folder: Path, case: str) -> None:
    link, exchange = exchange_for(str(folder / "root"))
    await start(exchange, status=204 if case == "204" else 200, trailers=case == "trailers")
    if case == "late":
        exchange.tick()
        exchange.tick()  # the head has gone
    await send_path(exchange, folder / "root/a b/é.txt")
    frames = link.take()
    assert b"x-edge-file" not in frames[0][3]
    assert b"".join(frame[4] for frame in frames) == (b"" if case == "204" else b"hello")


@in_loop
async def test_path_has_to_be_absolute_and_there(folder: Path) -> None:
    _, exchange = exchange_for(str(folder / "root"))
    await start(exchange)
    with pytest.raises(ApplicationError, match="'root/x' is not absolute"):
        await send_path(exchange, "root/x")
    with pytest.raises(FileNotFoundError):
        await send_path(exchange, folder / "none")


@in_loop
async def test_without_a_root_there_is_no_path_send(folder: Path) -> None:
    _, exchange = exchange_for("")
    await start(exchange)
    with pytest.raises(ApplicationError, match=r"'http.response.pathsend' is not allowed"):
        await send_path(exchange, folder / "root/a b/é.txt")


@in_loop
async def test_answer_whose_client_has_left_is_not_handed_over(folder: Path) -> None:
    link, exchange = exchange_for(str(folder / "root"))
    await start(exchange)
    exchange.disconnect()
    task = asyncio.ensure_future(send_path(exchange, folder / "root/a b/é.txt"))
    await asyncio.wait([task])
    assert task.exception() is not None
    await turn()
    assert heads(link) == []


def test_root_is_compared_by_whole_names(folder: Path) -> None:
    (folder / "root2").mkdir()
    assert find_below(str(folder / "root2/x"), str(folder / "root")) is None
    assert find_below(str(folder / "root"), str(folder / "root")) is None
    assert find_below(str(folder / "root/../root/x"), str(folder / "root/")) == b"x"
    (folder / "current").symlink_to("root")
    assert find_below(str(folder / "root/x"), str(folder / "current")) == b"x"
    assert find_below("/etc/hosts", "/") == b"etc/hosts"
    assert find_below(os.fsdecode(b"/tmp/\xff"), "/tmp") == b"%FF"
