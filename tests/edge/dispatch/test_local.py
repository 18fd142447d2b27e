"""An exchange that is served by somebody else than a worker: the same content, credit and answers."""

from __future__ import annotations

from typing import Any

from edge.dispatch.exchange import Exchange
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, exchange

WINDOW = wire.INITIAL_WINDOW


class Local:
    """A link and target in one that writes down what it gets."""

    number = -1

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.window = 0

    def submit(self, item: Exchange, request: bytes) -> None:
        item.target = self
        self.window = item.begin_local(self, request)
        if not item.head.complete:
            item.pour()

    def withdraw(self, item: Exchange) -> None:
        self.calls.append(("withdraw",))

    def send_content(self, item: Exchange, content: bytes, end: bool) -> None:
        self.calls.append(("content", content, end))

    def open_window(self, item: Exchange, credit: int) -> None:
        self.calls.append(("window", credit))

    def cancel(self, item: Exchange) -> bool:
        self.calls.append(("cancel",))
        return False


def begun(method: bytes = b"GET", **of_head: Any) -> tuple[Local, MemoryClient, Exchange]:
    local, client = Local(), MemoryClient()
    item = exchange(client, method, **of_head)
    local.submit(item, HEAD)
    return local, client, item


def test_answer_goes_to_the_client_and_credit_comes_back() -> None:
    local, client, item = begun()
    assert local.window == WINDOW
    item.receive_response(0, b"200\n\nname\nvalue", b"x" * WINDOW)
    assert local.calls == [("window", WINDOW)]
    item.receive_data(wire.END, b"end")
    assert [call[0] for call in client.take()] == ["response", "data", "end", "finished"]
    assert item.worker == -1


def test_window_is_the_clients_share() -> None:
    client, local = MemoryClient(), Local()
    client.answer_window = 16384
    local.submit(exchange(client), HEAD)
    assert local.window == 16384


def test_content_comes_within_credit() -> None:
    local, client, item = begun(b"POST", complete=False, body=b"x" * (WINDOW - 1))
    assert client.take() == [("want",)]
    assert not item.feed(b"ab", True)
    item.receive_credit(10)
    assert local.calls == [("content", b"a", False), ("content", b"b", True)]


def test_content_that_is_waited_for_has_no_credit_before_it_is_wanted() -> None:
    local, client, item = begun(b"POST", complete=False, expect=True)
    item.receive_credit(100)
    assert client.take() == [("want",), ("continue",), ("want",)]
    assert item.feed(b"all", True)
    assert local.calls == [("content", b"all", True)]


def test_client_that_leaves_is_told_of_at_both() -> None:
    local, _, item = begun()
    item.withdraw()
    assert local.calls == [("cancel",), ("withdraw",)]


def test_request_of_a_lost_link_is_given_to_another_once() -> None:
    local, client, item = begun()
    assert item.link_lost("upstream closed the connection")
    local.submit(item, item.kept_request)
    assert not item.link_lost("upstream closed the connection")
    assert client.take() == [("refuse", 502, "upstream closed the connection", ())]
