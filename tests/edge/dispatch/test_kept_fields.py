from typing import Any, cast

import pytest

from edge.dispatch.exchange import Exchange
from edge.dispatch.kept_fields import KeptFields
from edge.dispatch.sides import Client
from edge.http.events import RequestHead


class Recorder:
    """A client connection and a target that take note of what they are called with."""

    answer_window = 7

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def send_response(self, *arguments: Any) -> None:
        self.sent.append(arguments)

    def submit(self, exchange: Exchange, request: bytes) -> None:
        self.sent.append((exchange, request))

    def withdraw(self, exchange: Exchange) -> None:
        self.sent.append((exchange,))


@pytest.mark.parametrize(
    ("length", "kept"), [(b"3", [b"a", b"b", b"content-length", b"3"]), (b"", [b"a", b"b"])], ids=["length", "none"]
)
def test_fields_of_the_answer_are_kept_and_go_on(length: bytes, kept: list[bytes]) -> None:
    client, behind = Recorder(), Recorder()
    exchange = Exchange(cast(Client, client), RequestHead(1, b"GET", b"/", b"1.1", b""), b"id", b"", 0.0)
    target = KeptFields(behind)
    target.submit(exchange, b"request")
    assert behind.sent == [(exchange, b"request")]
    assert exchange.target is behind
    assert exchange._client.answer_window == 7
    exchange._client.send_response(exchange, length, [b"a", b"b"], 0, b"")
    assert client.sent == [(exchange, length, [b"a", b"b"], 0, b"")]
    assert exchange.fields == kept
    target.withdraw(exchange)
    assert behind.sent[1:] == [(exchange,)]
