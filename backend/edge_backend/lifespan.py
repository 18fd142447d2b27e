"""ASGI lifespan: one startup and one shutdown in a worker's event loop (specification 2.0)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .errors import ApplicationError, StartupError
from .loader import Application, application_traceback

logger = logging.getLogger("edge.worker")


class Lifespan:
    """Runs the application's lifespan task. Call `startup()` once, and later `shutdown()` once."""

    def __init__(self, app: Application, mode: str) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[str | None] = loop.create_future()
        self._stopped: asyncio.Future[str | None] = loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._has_raised = False

    async def startup(self) -> None:
        """Wait until the application has started, or has shown that it has no lifespan.

        Raises StartupError if it reports a failure, or raises with `--lifespan on`.
        """
        if self._mode == "off":
            return
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._run())
        failure = await self._started
        if failure is None:
            return
        # Starlette sends its whole traceback as the message, and raises as well: the last line is the reason.
        lines = failure.strip().splitlines() or [failure]
        if len(lines) > 1 and not self._has_raised:
            logger.error("application: lifespan startup failed: %s", failure)
        raise StartupError(lines[-1])

    async def shutdown(self, limit: float = 0.0) -> None:
        """Wait until the application has shut down, at most `limit` seconds; 0 is as long as it takes.

        A failure is logged, as nothing else can be done about it.
        """
        if self._task is None or self._task.done():
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        failure: str | None
        try:
            async with asyncio.timeout(limit or None):
                failure = await self._stopped
        except TimeoutError:
            failure = f"not done within {limit:g} s"
        if failure is not None:
            logger.error("application: lifespan shutdown failed: %s", failure)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def abandon(self) -> None:
        """Cancel the application's lifespan, as nothing is to be shut down."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._events.get, self._send)
        except (Exception, SystemExit) as error:
            self._raised(error)
        # An application that returns early has nothing to do at startup or shutdown.
        self._settle(self._started, None)
        self._settle(self._stopped, None)

    def _raised(self, error: Exception | SystemExit) -> None:
        self._has_raised = True
        trace = (type(error), error, application_traceback(error.__traceback__))
        if self._started.done():
            logger.error("application: exception in lifespan", exc_info=trace)
        elif self._mode == "on" or isinstance(error, SystemExit):
            logger.error("application: exception in lifespan startup", exc_info=trace)
            self._settle(self._started, f"{type(error).__name__}: {error}")
        else:
            # Specification: an exception on the lifespan scope means that the application does not support it.
            logger.debug("application: no lifespan support (%s)", type(error).__name__)

    async def _send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._settle(self._started, None)
            case "lifespan.startup.failed":
                self._settle(self._started, message.get("message") or "the application gave no reason")
            case "lifespan.shutdown.complete":
                self._settle(self._stopped, None)
            case "lifespan.shutdown.failed":
                self._settle(self._stopped, message.get("message") or "the application gave no reason")
            case other:
                raise ApplicationError(f"lifespan: message type {other!r} is not one of lifespan.*.complete or .failed")

    @staticmethod
    def _settle(future: asyncio.Future[str | None], failure: str | None) -> None:
        if not future.done():
            future.set_result(failure)
