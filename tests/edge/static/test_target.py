"""Who serves a folder, on real files and with a client in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.dispatch.exchange import Exchange
from edge.http.events import RequestHead
from edge.static.catalog import Catalog
from edge.static.forms import Rules
from edge.static.root import Root
from edge.static.target import Folder, StaticTarget
from edge_backend import wire
from tests.edge.dispatch.ends import MemoryClient
from tests.ends import in_loop, turn

BIG = os.urandom(1_000_000)
NAVIGATION = b"accept\ntext/html,application/xhtml+xml"


class Behind:
    """An application behind the files, which keeps what it gets."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []

    def submit(self, exchange: Exchange, request: bytes) -> None:
        assert exchange.target is self
        self.targets.append(exchange.head.target)

    def withdraw(self, exchange: Exchange) -> None:
        self.targets.remove(exchange.head.target)


class Scene:
    """A folder that is served, and a client for each request."""

    def __init__(self, path: Path, *, prefix: str = "/static", behind: Behind | None = None, **folder: Any) -> None:
        self.path = path
        self.now = time.monotonic()
        self.target = StaticTarget(Folder(prefix, **folder), Catalog(Root(str(path)), Rules()), behind)

    def ask(self, target: bytes, *lines: bytes, method: bytes = b"GET", client: MemoryClient | None = None) -> Exchange:
        head = RequestHead(1, method, target, b"1.1", b"localhost")
        head.lines = list(lines)
        exchange = Exchange(client or MemoryClient(), head, b"id", b"203.0.113.7", self.now)
        exchange.target = self.target
        pieces = [method, target, b"1.1\nhttp\n203.0.113.7\n1\nlocalhost\n80", *lines]
        self.target.submit(exchange, wire.join_request(pieces, 8 + 2 * len(lines)))
        return exchange

    async def get(self, target: bytes, *lines: bytes, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
        """Return status, fields and content of an answer that is whole at once."""
        client = MemoryClient()
        self.ask(target, *lines, method=method, client=client)
        assert not client.calls, "it answered within submit"
        await turn()
        return read_answer(client)


def read_answer(client: MemoryClient) -> tuple[int, dict[bytes, bytes], bytes]:
    first, *others = client.take()
    if first[0] == "refuse":
        return first[1], dict(first[3]), b""
    assert [call[0] for call in others] == ["finished"], others
    _, status, length, fields, _, body = first
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return status, found | ({b"content-length": length} if length else {}), body


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    (public / "docs").mkdir(parents=True)
    (public / "empty").mkdir()
    (public / "index.html").write_text("<p>home")
    (public / "docs/index.html").write_text("<p>docs")
    (public / "a.txt").write_text("0123456789")
    (public / "nothing").touch()
    (public / "app.js").write_text("x" * 500)
    (public / "app.js.gz").write_text("gz")
    (public / ".secret").write_text("secret")
    (public / "big.bin").write_bytes(BIG)
    return public


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    found = Scene(folder)
    yield found
    found.target.close()


@in_loop
async def test_file_is_the_answer(scene: Scene) -> None:
    for _ in range(2):  # the second time its names are known
        status, fields, body = await scene.get(b"/static/a.txt")
        assert (status, body) == (200, b"0123456789")
        assert fields[b"content-type"] == b"text/plain; charset=utf-8"
        assert fields[b"content-length"] == b"10"
        assert fields[b"x-content-type-options"] == b"nosniff"


@in_loop
async def test_head_has_the_length_and_no_content(scene: Scene) -> None:
    status, fields, body = await scene.get(b"/static/big.bin", method=b"HEAD")
    assert (status, fields[b"content-length"], body) == (200, b"1000000", b"")


@in_loop
async def test_empty_file_is_a_file(scene: Scene) -> None:
    status, fields, body = await scene.get(b"/static/nothing")
    assert (status, fields[b"content-length"], body) == (200, b"0", b"")


@in_loop
async def test_conditions_are_weighed(scene: Scene) -> None:
    _, fields, _ = await scene.get(b"/static/a.txt")
    status, kept, body = await scene.get(b"/static/a.txt", b"if-none-match\n" + fields[b"etag"])
    assert (status, body) == (304, b"")
    assert kept[b"etag"] == fields[b"etag"]
    assert b"content-length" not in kept
    assert (await scene.get(b"/static/a.txt", b'if-match\n"x"'))[0] == 412
    both = (b"if-none-match\n" + fields[b"etag"], b'if-match\n"x"')
    assert (await scene.get(b"/static/a.txt", *both))[0] == 412  # it comes first
    assert (await scene.get(b"/static/a.txt", b"if-none-match\nW/" + fields[b"etag"]))[0] == 304
    assert (await scene.get(b"/static/a.txt", b"x-note\nif-unchanged"))[0] == 200  # a value that begins like a name


@in_loop
async def test_ranges_are_cut_out(scene: Scene) -> None:
    status, fields, body = await scene.get(b"/static/a.txt", b"range\nbytes=2-4")
    assert (status, fields[b"content-range"], body) == (206, b"bytes 2-4/10", b"234")
    status, fields, _ = await scene.get(b"/static/a.txt", b"range\nbytes=20-")
    assert (status, fields[b"content-range"]) == (416, b"bytes */10")
    status, fields, body = await scene.get(b"/static/app.js", b"range\nbytes=0-1,490-491")
    assert status == 206
    assert int(fields[b"content-length"]) == len(body)
    assert body.count(b"content-range: bytes ") == 2


@in_loop
async def test_little_of_a_large_file_goes_at_once(scene: Scene) -> None:
    asked = b"range\nbytes=900000-900009"
    status, fields, body = await scene.get(b"/static/big.bin", asked)
    assert (status, fields[b"content-length"], body) == (206, b"10", BIG[900_000:900_010])
    os.truncate(scene.path / "big.bin", 900_005)
    assert await scene.get(b"/static/big.bin", asked) == (500, {}, b"")


@in_loop
async def test_compressed_form_goes_to_who_takes_it(scene: Scene) -> None:
    _, fields, body = await scene.get(b"/static/app.js", b"accept-encoding\ngzip", b"accept-encoding\nbr")
    assert (fields[b"content-encoding"], body) == (b"gzip", b"gz")
    _, fields, body = await scene.get(b"/static/app.js")
    assert b"content-encoding" not in fields
    assert fields[b"vary"] == b"accept-encoding"


@in_loop
async def test_other_methods_are_told_which_there_are(scene: Scene) -> None:
    for method in (b"POST", b"DELETE", b"OPTIONS"):
        assert await scene.get(b"/static/a.txt", method=method) == (405, {b"allow": b"GET, HEAD"}, b"")


@in_loop
async def test_folder_has_its_index_behind_the_slash(scene: Scene) -> None:
    assert (await scene.get(b"/static/"))[2] == b"<p>home"
    assert (await scene.get(b"/static/docs/"))[2] == b"<p>docs"
    assert await scene.get(b"/static/docs") == (308, {b"location": b"/static/docs/"}, b"")
    assert await scene.get(b"/static?a=b") == (308, {b"location": b"/static/?a=b"}, b"")
    prefix = (b"x-any\nx-forwarded-prefix", b"x-forwarded-prefix\n/shop")
    assert await scene.get(b"/static/docs?a", *prefix) == (308, {b"location": b"/shop/static/docs/?a"}, b"")
    assert await scene.get(b"/static/docs", prefix[0]) == (308, {b"location": b"/static/docs/"}, b"")
    for nothing in (b"/static/empty", b"/static/empty/", b"/static/a.txt/", b"/static/none/"):
        assert (await scene.get(nothing))[0] == 404


@in_loop
async def test_what_is_hidden_or_malformed_is_refused(scene: Scene) -> None:
    assert (await scene.get(b"/static/.secret"))[0] == 404
    assert (await scene.get(b"/static/%2esecret"))[0] == 404
    assert (await scene.get(b"/static/../a.txt"))[0] == 400
    assert (await scene.get(b"/static/docs/index.html/"))[0] == 404


@in_loop
async def test_folder_that_takes_the_place_of_a_file_is_seen(scene: Scene) -> None:
    assert (await scene.get(b"/static/a.txt"))[0] == 200
    (scene.path / "a.txt").unlink()
    scene.now += 1
    assert (await scene.get(b"/static/a.txt"))[0] == 404
    (scene.path / "docs").rename(scene.path / "a.txt")
    assert (await scene.get(b"/static/a.txt"))[0] == 308


@in_loop
async def test_index_that_is_a_folder_stands_for_nothing(folder: Path) -> None:
    scene = Scene(folder, is_app=True, index="docs")
    for target in (b"/static/", b"/static", b"/static/users/7"):
        assert (await scene.get(target, NAVIGATION))[0] == 404
    scene.target.close()


@in_loop
async def test_names_that_are_remembered_are_bounded(scene: Scene) -> None:
    for number in range(1100):
        scene.ask(b"/static/a.txt?%d" % number)
    await turn()
    assert (await scene.get(b"/static/a.txt?0"))[0] == 200
    assert len(scene.target._names) < 1100


@in_loop
async def test_single_page_application_gets_its_index_for_pages_alone(folder: Path) -> None:
    scene = Scene(folder, is_app=True)
    status, fields, body = await scene.get(b"/static/users/7", NAVIGATION)
    assert (status, body, fields[b"cache-control"]) == (200, b"<p>home", b"no-cache")
    assert (await scene.get(b"/static/users/", NAVIGATION))[2] == b"<p>home"
    assert (await scene.get(b"/static/gone.js", NAVIGATION))[0] == 404  # a missing file is just missing
    assert (await scene.get(b"/static/api", b"accept\n*/*"))[0] == 404
    assert (await scene.get(b"/static/api"))[0] == 404
    assert (await scene.get(b"/static/docs", NAVIGATION))[0] == 308
    (folder / "index.html").unlink()
    scene.now += 1
    assert (await scene.get(b"/static/users/7", NAVIGATION))[0] == 404
    scene.target.close()


@in_loop
async def test_index_may_have_another_name(folder: Path) -> None:
    scene = Scene(folder, index="a.txt")
    assert (await scene.get(b"/static/"))[2] == b"0123456789"
    scene.target.close()


@in_loop
async def test_what_is_no_file_goes_to_who_is_behind(folder: Path) -> None:
    behind = Behind()
    scene = Scene(folder, prefix="", behind=behind)
    assert (await scene.get(b"/a.txt"))[2] == b"0123456789"
    assert (await scene.get(b"/docs"))[0] == 308
    for target in (b"/api/users", b"/empty/", b"/a//b", b"/.secret"):
        exchange = scene.ask(target)
    scene.ask(b"/a.txt", method=b"POST")
    assert behind.targets == [b"/api/users", b"/empty/", b"/a//b", b"/.secret", b"/a.txt"]
    exchange.withdraw()
    assert behind.targets == [b"/api/users", b"/empty/", b"/a//b", b"/a.txt"]
    scene.target.close()


@in_loop
async def test_answer_of_a_client_that_left_is_none(scene: Scene) -> None:
    clients = [MemoryClient(), MemoryClient()]
    first, second = [scene.ask(b"/static/big.bin", client=client) for client in clients]
    first.withdraw()
    await turn()
    assert not clients[0].calls
    assert clients[1].calls
    second.withdraw()
    missing = scene.ask(b"/static/none", client=clients[0])
    missing.withdraw()
    missing.withdraw()  # twice is as good as once
    await turn()
    assert not clients[0].calls


@in_loop
async def test_request_that_an_answer_brings_is_answered_a_turn_later(scene: Scene) -> None:
    """A client that pipelines thousands of requests must not make as many calls within each other."""

    class Pipelining(MemoryClient):
        left = 5000

        def finished(self, exchange: Exchange) -> None:
            super().finished(exchange)
            self.left -= 1
            if self.left:
                scene.ask(b"/static/a.txt", client=self)

    client = Pipelining()
    scene.ask(b"/static/a.txt", client=client)
    scene.ask(b"/static/a.txt")
    await turn(5010)
    assert client.left == 0
