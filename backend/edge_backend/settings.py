"""What a worker needs to know, and how it is handed over: one JSON line on its control socket."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass

# A worker that gets this writes the stacks of its threads to standard error and goes on, as a JVM does.
DUMP_SIGNAL = signal.SIGQUIT


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The application and how to run it. Durations are seconds, sizes are bytes.

    `ca_bundle` is the file that certifi shall answer with; empty when it is to be left alone. `relax_strict` turns off
    what Python 3.13 added to the verification of servers. `disconnect_grace` is how long an application call may go on
    after its client has left; 0 is for ever. `sendfile_root` is the folder out of which the edge sends files that the
    application names; empty: none. `python_path` is where modules are looked for besides `app_dir`. `lifespan_timeout`
    is what its shutdown may take; 0 is for ever. `interface` is auto, asgi3, asgi2 or wsgi; `threads` are the calls of
    a WSGI application that run at a time. `is_first`: what is to be said once is this worker's to say. `ws_max_queue`
    is how many messages of a WebSocket may wait; 0 is any number. `trust_prefix`: the edge may pass on a path that a
    proxy took off the targets.
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
    relax_strict: bool = False
    disconnect_grace: float = 0.0
    sendfile_root: str = ""
    ws_max_queue: int = 0
    log_config: str = ""
    use_colors: bool = False
    loop: str = "auto"
    python_path: tuple[str, ...] = ()
    lifespan_timeout: float = 0.0
    is_first: bool = False
    interface: str = "auto"
    threads: int = 10
    trust_prefix: bool = False

    def encode(self) -> bytes:
        """Return the settings as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> WorkerSettings:
        """Return the settings that `encode` wrote."""
        values = json.loads(line)
        return cls(**{**values, "python_path": tuple(values["python_path"])})
