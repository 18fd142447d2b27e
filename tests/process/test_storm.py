"""Connections in every way of ending, at the pace that Python clients reach; afterwards nothing of them is there."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.storm import GET, Storm, add_up, storming
from tests.process.load import APPLICATION
from tests.process.server import Authority, RawClient, running, wait_until
from tests.process.test_control import ready
from tests.process.test_edges import left_behind, settled

# `EDGE_STORM_SECONDS=30` for a longer one.
SECONDS = float(os.environ.get("EDGE_STORM_SECONDS", "8"))


def test_storm_of_connections_leaves_no_descriptor_task_or_stream(tmp_path: Path, authority: Authority) -> None:
    options = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--cert", str(authority.cert), "--workers", "2"]
    with running(tmp_path, APPLICATION, *options, "--no-access-log", environ={"EDGE_LOG_LEVEL": "error"}) as server:
        [tls], [plain] = wait_until(
            lambda: (p := (server.ports("https"), server.ports("http"))) and all(p) and p, "both listen"
        )
        wait_until(lambda: len(ready(tmp_path)) == 2, "both workers are ready")
        with RawClient(tls, authority.client_context()) as client:
            client.send(GET)
            assert client.receive_response()[0] == 200
        before = wait_until(lambda: settled(tmp_path), "nothing is open")
        with storming(tls, plain, authority.root, SECONDS, 2) as printed:
            pass
        done, failed = add_up(printed)
        assert not failed
        assert done.keys() == Storm(tls, plain, str(authority.root), 1).kinds.keys()
        # Connections whose end the server has to find out by itself are over when the time for a head is (10 s).
        wait_until(lambda: left_behind(tmp_path) == before, f"{before} again, not {left_behind(tmp_path)}")
        with RawClient(tls, authority.client_context()) as client:
            client.send(GET)
            assert client.receive_response()[0] == 200
        assert [line for line in server.errors if " ERROR " in line or "Traceback" in line] == []
