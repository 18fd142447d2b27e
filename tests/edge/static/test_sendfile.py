"""Files that an application names in its answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.dispatch.exchange import Exchange
from edge.http.events import RequestHead
from edge.static.sendfile import SentFiles
from edge_backend import wire
from tests.edge.dispatch.ends import MemoryClient
from tests.ends import in_loop, turn

LARGE = os.urandom(600_000)


class Worker:
    """The link to a worker, which writes down what it is told."""

    def __init__(self, number: int = 3) -> None:
        self.number = number
        self.credit = 0

    def send_content(self, exchange: Exchange, content: bytes, end: bool) -> None:
        raise AssertionError("there is none")

    def open_window(self, exchange: Exchange, credit: int) -> None:
        self.credit += credit

    def cancel(self, exchange: Exchange) -> bool:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files/sub").mkdir(parents=True)
    (tmp_path / "files/a.txt").write_text("0123456789")
    (tmp_path / "files/sub/é b.pdf").write_bytes(b"pdf")
    (tmp_path / "files/large.bin").write_bytes(LARGE)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "files/out").symlink_to(tmp_path / "secret")
    return tmp_path / "files"


@pytest.fixture
def files(folder: Path) -> Iterator[SentFiles]:
    found = SentFiles(str(folder))
    yield found
    found.sweep(1e9)
    found.close()


def begin(
    files: SentFiles | None, *lines: bytes, method: bytes = b"GET", link: Worker | None = None
) -> tuple[MemoryClient, Exchange]:
    client = MemoryClient()
    client.files = files
    head = RequestHead(1, method, b"/download", b"1.1", b"localhost")
    head.lines = list(lines)
    exchange = Exchange(client, head, b"id", b"203.0.113.7", 0.0)
    exchange.begin_local(link or Worker(), b"request")
    return client, exchange


def answer(exchange: Exchange, *fields: bytes, status: int = 200, length: bytes = b"0", flags: int = wire.END) -> None:
    exchange.receive_response(flags, b"\n".join([b"%d" % status, length, *fields]), b"")


def read(client: MemoryClient) -> tuple[int, dict[bytes, bytes], bytes]:
    [(_, status, length, fields, _, body), (last,)] = client.take()
    assert last == "finished"
    assert not length or int(length) == len(body)
    return status, dict(zip(fields[::2], fields[1::2], strict=True)), body


@pytest.mark.parametrize(
    ("name", "value", "body"),
    [
        (b"x-sendfile", b"{folder}/a.txt", b"0123456789"),
        (b"x-sendfile", b"a.txt", b"0123456789"),
        (b"x-sendfile", "{folder}/sub/é b.pdf".encode(), b"pdf"),
        (b"x-accel-redirect", b"/a.txt", b"0123456789"),
        (b"x-accel-redirect", b"/sub/%C3%A9%20b.pdf?x", b"pdf"),
        (b"x-edge-file", b"sub/%C3%A9%20b.pdf", b"pdf"),
    ],
)
def test_file_is_sent_in_the_place_of_content(
    files: SentFiles, folder: Path, name: bytes, value: bytes, body: bytes
) -> None:
    client, exchange = begin(files)
    answer(exchange, b"content-type", b"text/x", b"set-cookie", b"a=b", name, value.replace(b"{folder}", bytes(folder)))
    status, fields, content = read(client)
    assert (status, content) == (200, body)
    assert (fields[b"content-type"], fields[b"set-cookie"]) == (b"text/x", b"a=b")
    assert name not in fields
    assert exchange.worker == 3


def test_fields_of_the_file_are_its_own_and_all_others_the_applications(files: SentFiles) -> None:
    client, exchange = begin(files)
    given = (b"etag", b'"app"', b"date", b"then", b"cache-control", b"private", b"content-disposition", b"attachment")
    answer(exchange, *given, b"x-sendfile", b"a.txt")
    _, fields, _ = read(client)
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert fields[b"etag"] != b'"app"'
    assert fields[b"accept-ranges"] == b"bytes"
    assert (fields[b"cache-control"], fields[b"content-disposition"]) == (b"private", b"attachment")
    assert b"date" not in fields
    client, exchange = begin(files, b"if-none-match\n" + fields[b"etag"])
    answer(exchange, *given, b"x-sendfile", b"a.txt")
    status, kept, _ = read(client)
    assert (status, sorted(kept)) == (304, [b"cache-control", b"etag", b"last-modified"])


def test_ranges_are_of_the_file(files: SentFiles) -> None:
    client, exchange = begin(files, b"range\nbytes=2-4")
    answer(exchange, b"x-accel-redirect", b"/a.txt")
    status, fields, body = read(client)
    assert (status, fields[b"content-range"], body) == (206, b"bytes 2-4/10", b"234")


def test_status_of_the_application_stays(files: SentFiles) -> None:
    client, exchange = begin(files, b"range\nbytes=2-4")
    answer(exchange, b"x-sendfile", b"a.txt", status=404)
    status, fields, body = read(client)
    assert (status, fields[b"content-type"], body) == (404, b"text/plain; charset=utf-8", b"0123456789")


def test_fields_of_a_path_send_are_the_applications(files: SentFiles) -> None:
    client, exchange = begin(files, b'if-none-match\n"app"')
    answer(exchange, b"etag", b'"app"', b"server", b"app", b"x-edge-file", b"a.txt")
    assert read(client) == (200, {b"etag": b'"app"'}, b"0123456789")


@in_loop
async def test_large_file_goes_as_the_client_takes_it(files: SentFiles) -> None:
    client, exchange = begin(files)
    answer(exchange, b"x-sendfile", b"large.bin")
    calls = client.take()
    while calls[-1][0] != "finished":
        await turn()
        calls += client.take()
    assert b"".join(call[5] if call[0] == "response" else call[1] for call in calls[:-2]) == LARGE


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        (b"x-sendfile", b"/etc/passwd", "outside the folder"),
        (b"x-sendfile", b"{folder}2/a.txt", "outside the folder"),
        (b"x-sendfile", b"{folder}/../secret", "not a plain path"),
        (b"x-sendfile", b"../secret", "not a plain path"),
        (b"x-sendfile", b"sub/./x", "not a plain path"),
        (b"x-sendfile", b"{folder}/out", "leads out of the root"),
        (b"x-sendfile", b"{folder}", "outside the folder"),
        (b"x-sendfile", b"{folder}/sub", "no such file"),
        (b"x-sendfile", b"none", "no such file"),
        (b"x-sendfile", b"", "not a plain path"),
        (b"x-sendfile", b"\xff", "not UTF-8"),
        (b"x-accel-redirect", b"/../secret", "dot segment"),
        (b"x-accel-redirect", b"http://a.example/", "begin with a slash"),
        (b"x-accel-redirect", b"/", "no such file"),
        (b"x-edge-file", b"..%2Fsecret", "not a plain path"),
        (b"x-edge-file", b"a%00", "not a plain path"),
    ],
)
def test_what_is_no_file_of_the_folder_is_not_found(
    files: SentFiles, folder: Path, name: bytes, value: bytes, why: str
) -> None:
    client, exchange = begin(files)
    answer(exchange, name, value.replace(b"{folder}", bytes(folder)))
    [(_, status, reason, fields)] = client.take()
    assert (status, fields) == (404, ())
    assert reason.startswith(name.decode() + ": ")
    assert why in reason
    assert reason.endswith("it has to lie below --sendfile-root")


def test_content_of_the_application_is_dropped(files: SentFiles) -> None:
    link = Worker()
    client, exchange = begin(files, link=link)
    exchange.receive_response(0, b"200\n9\nx-sendfile\na.txt", b"abc")
    exchange.receive_data(0, b"def")
    assert not client.calls
    assert link.credit == 6  # which it may send on
    exchange.receive_data(wire.END, b"ghi")
    assert read(client)[2] == b"0123456789"


def test_trailers_of_the_application_end_its_answer(files: SentFiles) -> None:
    client, exchange = begin(files)
    exchange.receive_response(0, b"200\n\nx-sendfile\na.txt", b"")
    exchange.receive_trailers(b"name\nvalue")
    assert read(client)[2] == b"0123456789"


def test_application_that_fails_behind_its_head_is_an_error(files: SentFiles) -> None:
    client, exchange = begin(files)
    exchange.receive_response(0, b"200\n\nx-sendfile\na.txt", b"")
    exchange.receive_reset(b"app-error")
    assert client.take() == [("refuse", 500, "the application raised an exception", ())]


@pytest.mark.parametrize("case", ["no root", "other server", "other field"])
def test_otherwise_the_field_is_dropped_and_the_answer_stays(files: SentFiles, case: str) -> None:
    client, exchange = begin(None if case == "no root" else files, link=Worker(-1 if case == "other server" else 3))
    name = b"x-accel-expires" if case == "other field" else b"x-sendfile"
    exchange.receive_response(wire.END, b"200\n2\nx-note\n1\n" + name + b"\na.txt", b"ok")
    assert read(client) == (200, {b"x-note": b"1"}, b"ok")
