"""Each ASGI message in the log: `--log-level trace`."""

from __future__ import annotations

import itertools
import logging
from typing import Any

from .loader import Application

logger = logging.getLogger("edge.worker")

TRACE = 5


def traced(app: Application) -> Application:
    """Return the application with its messages logged: the size of contents and not the contents, no field values."""
    numbers = itertools.count(1)

    async def call(scope: Any, receive: Any, send: Any) -> None:
        number = next(numbers)

        async def traced_receive() -> Any:
            message = await receive()
            logger.log(TRACE, "call %d receives %s", number, _summary(message))
            return message

        async def traced_send(message: Any) -> None:
            logger.log(TRACE, "call %d sends %s", number, _summary(message))
            await send(message)

        logger.log(TRACE, "call %d begins: %s %s", number, scope["type"], scope.get("path", ""))
        try:
            await app(scope, traced_receive, traced_send)
        except BaseException as error:
            logger.log(TRACE, "call %d ends: %s", number, type(error).__name__)
            raise
        logger.log(TRACE, "call %d ends", number)

    return call


def _summary(message: Any) -> str:
    parts = []
    for name, value in message.items():
        if name == "headers":
            parts.append(f"{len(list(value))} headers")
        elif isinstance(value, bytes | bytearray | memoryview):
            parts.append(f"{name}: {len(value)} bytes")
        elif name == "text" and isinstance(value, str):
            parts.append(f"text: {len(value)} characters")
        else:
            parts.append(f"{name}: {value!r}")
    return ", ".join(parts)
