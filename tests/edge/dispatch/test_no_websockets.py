from types import SimpleNamespace
from typing import Any

import pytest

from edge.dispatch.no_websockets import NoWebSockets
from edge.policy.chain import Answered


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def submit(self, exchange: Any, request: bytes) -> None:
        self.calls.append(("submit", exchange))

    def withdraw(self, exchange: Any) -> None:
        self.calls.append(("withdraw", exchange))


def test_handshake_of_a_websocket_is_refused() -> None:
    behind = Recorder()
    exchange: Any = SimpleNamespace(head=SimpleNamespace(upgrade=b"key"))
    with pytest.raises(Answered, match="a WebSocket; --ws none takes none") as caught:
        NoWebSockets(behind).submit(exchange, b"")
    assert caught.value.status == 403
    assert behind.calls == []


def test_every_other_request_goes_to_the_target_behind_it() -> None:
    behind = Recorder()
    target = NoWebSockets(behind)
    exchange: Any = SimpleNamespace(head=SimpleNamespace(upgrade=b""))
    target.submit(exchange, b"")
    target.withdraw(exchange)
    assert exchange.target is behind
    assert behind.calls == [("submit", exchange), ("withdraw", exchange)]
