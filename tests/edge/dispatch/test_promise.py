from __future__ import annotations

from edge.dispatch.exchange import Exchange
from edge.dispatch.promise import find_promise
from tests.edge.dispatch.ends import MemoryClient, exchange


class Files:
    """Writes down what it is to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[bytes], tuple[bytes, bytes]]] = []

    def find_named(self, fields: list[bytes]) -> tuple[bytes, bytes] | None:
        return (b"x-sendfile", b"/a") if b"x-sendfile" in fields else None

    def send(self, exchange: Exchange, status: int, fields: list[bytes], named: tuple[bytes, bytes]) -> None:
        self.sent.append((status, fields, named))


def test_answer_that_names_no_file_promises_none() -> None:
    assert find_promise(Files(), 200, [b"a", b"b"]) is None


def test_nothing_is_promised_where_nobody_sends_files() -> None:
    assert find_promise(None, 200, [b"x-sendfile", b"/a"]) is None


def test_file_is_sent_with_what_the_application_said_and_may_leave() -> None:
    files = Files()
    promise = find_promise(files, 203, [b"x-sendfile", b"/a", b"a", b"b", b"connection", b"close"])
    assert promise is not None
    assert files.sent == []
    promise.keep(exchange(MemoryClient()))
    assert files.sent == [(203, [b"a", b"b"], (b"x-sendfile", b"/a"))]
