"""What an operator asks of a server that runs, on the control socket (docs/reference/control.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from edge.config_pool import MAX_PROCESSES
from edge.control import Reply
from edge.edges import Edges
from edge.errors import ConfigError
from edge.gate import GateState, parse_command
from edge.pools import Pools

logger = logging.getLogger("edge.master")

Do = Callable[[str, dict[str, Any], Reply], None]
"""Does a command of this name, with these arguments, and sees to its answer."""


class Commands:
    """Does commands: those on workers and the gate here, and `own`, which are the master's. `gate` is as it was set.

    `is_upgrading` tells whether another server is about to take over; it would not know of the gate.
    """

    def __init__(self, workers: Pools, edges: Edges, own: Mapping[str, Do], is_upgrading: Callable[[], bool]) -> None:
        self.gate = GateState()
        self._is_upgrading = is_upgrading
        self._workers = workers
        self._edges = edges
        gates = dict.fromkeys(("pause", "resume", "maintenance"), self._set_gate)
        self._known: dict[str, Do] = {**own, "scale": self._scale, **gates}

    def do(self, name: str, arguments: dict[str, Any], reply: Reply) -> None:
        """Do the command; `reply` gets the outcome, perhaps later."""
        if name in self._known:
            self._known[name](name, arguments, reply)
            return
        *others, last = self._known
        reply.refuse(f"{name!r}: unknown command; use {', '.join(others)} or {last}")

    def resize_all(self, more: int) -> None:
        """Run so many workers more in each pool, or fewer if it is negative, at least one."""
        for key in self._workers.keys:
            self._workers.resize(min(MAX_PROCESSES, max(1, self._workers.size(key) + more)), key)

    def _set_gate(self, name: str, arguments: dict[str, Any], reply: Reply) -> None:
        try:
            gate = parse_command(name, arguments)
        except ConfigError as error:
            reply.refuse(f"{name}: {error}")
            return
        if gate.mode != "open" and self._is_upgrading():
            reply.refuse(
                f"{name}: an upgrade is under way, and the new server would let requests through; try again later"
            )
            return
        self.gate = gate
        self._edges.order(gate=self.gate.order)
        logger.info("%s", self.gate.describe() or "requests are let through")
        reply.send(mode=self.gate.mode)

    def _scale(self, _name: str, arguments: dict[str, Any], reply: Reply) -> None:
        count, key, keys = arguments.get("workers"), arguments.get("pool"), self._workers.keys
        if key is None and len(keys) == 1:
            key = keys[0]
        if not keys:
            reply.refuse("no application is served here, so there are no workers to scale")
            return
        if key not in keys:
            reply.refuse(f"{key!r}: not a pool; use one of {', '.join(keys)}")
            return
        if type(count) is not int or not 1 <= count <= MAX_PROCESSES:
            reply.refuse(f"{count!r}: not a number of workers; use 1 to {MAX_PROCESSES}")
            return
        before = self._workers.size(key)
        self._workers.resize(count, key)
        reply.send(workers=count, before=before)
