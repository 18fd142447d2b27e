"""The event loop that a worker runs in: `--loop`."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable

from .errors import LoadError

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(name: str, app_dir: str) -> LoopFactory:
    """Return what makes the event loop: of `auto` (uvloop where it is installed), `asyncio`, `uvloop`, or MODULE:ATTR.

    ATTR is called without arguments; `app_dir` goes to the front of `sys.path` before its module is imported.

    Raises LoadError if it is not there.
    """
    if name == "asyncio":
        return asyncio.new_event_loop
    if name in ("auto", "uvloop"):
        try:
            import uvloop  # not on every platform
        except ImportError:
            if name == "uvloop":
                raise LoadError("--loop uvloop: it is not installed here; use --loop asyncio") from None
            return asyncio.new_event_loop
        return uvloop.new_event_loop
    return _load(name, app_dir)


def _load(name: str, app_dir: str) -> LoopFactory:
    module, _, attribute = name.partition(":")
    sys.path.insert(0, app_dir)
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LoadError(f"--loop {name}: {error}; name it as MODULE:ATTRIBUTE") from None

    def make() -> asyncio.AbstractEventLoop:
        loop = factory()
        if not isinstance(loop, asyncio.AbstractEventLoop):
            raise LoadError(f"--loop {name}: it made a {type(loop).__name__}, not an event loop")
        return loop

    return make
