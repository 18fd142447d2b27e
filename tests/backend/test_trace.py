import asyncio
import logging
from typing import Any

import pytest

from edge_backend.trace import TRACE, traced

SCOPE = {"type": "http", "path": "/a"}


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"secret", "more_body": False}


async def send(message: dict[str, Any]) -> None:
    pass


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == TRACE]


def test_messages_are_logged_without_their_contents(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cookie", b"secret")]})
        await send({"type": "websocket.send", "text": "secret", "bytes": None})

    with caplog.at_level(TRACE, "edge.worker"):
        asyncio.run(traced(app)(SCOPE, receive, send))
    assert lines(caplog) == [
        "call 1 begins: http /a",
        "call 1 receives type: 'http.request', body: 6 bytes, more_body: False",
        "call 1 sends type: 'http.response.start', status: 200, 1 headers",
        "call 1 sends type: 'websocket.send', text: 6 characters, bytes: None",
        "call 1 ends",
    ]


def test_calls_are_counted_and_their_exceptions_named(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    call = traced(app)
    with caplog.at_level(TRACE, "edge.worker"):
        for number in (1, 2):
            with pytest.raises(RuntimeError):
                asyncio.run(call({"type": "lifespan"}, receive, send))
            assert lines(caplog)[-2:] == [f"call {number} begins: lifespan ", f"call {number} ends: RuntimeError"]


def test_nothing_is_logged_at_other_levels(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    with caplog.at_level(logging.DEBUG, "edge.worker"):
        asyncio.run(traced(app)(SCOPE, receive, send))
    assert lines(caplog) == []
