"""A shop that asks another service what is in stock, over HTTPS and without a word about certificates."""

import asyncio
import os
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any


async def app(scope: dict[str, Any], receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Answer with what the stock answers."""
    assert scope["type"] == "http"
    content = await asyncio.to_thread(_ask, os.environ["STOCK_URL"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"In stock: " + content})


def _ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
        return content
