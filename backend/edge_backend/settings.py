"""What a worker needs to know, and how it is handed over: one JSON line on its control socket."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The application and how to run it. Durations are seconds, sizes are bytes.

    `ca_bundle` is the file that certifi shall answer with; empty when it is to be left alone.
    """

    target: str
    app_dir: str
    factory: bool
    root_path: str
    lifespan: str
    number: int
    log_level: str
    drain_timeout: float
    ws_max_size: int
    ws_ping_interval: float
    ws_ping_timeout: float
    ws_per_message_deflate: bool
    ca_bundle: str = ""

    def encode(self) -> bytes:
        """Return the settings as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> WorkerSettings:
        """Return the settings that `encode` wrote."""
        return cls(**json.loads(line))
