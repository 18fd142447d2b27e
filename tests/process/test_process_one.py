"""The server as process 1 of a container: it reaps orphans, and obeys signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, RawClient, running, wait_until

# The shell ends at once, so what it has started is process 1's; it ends soon, with a code that counts for nothing.
APPLICATION = """
import os
import subprocess

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/orphan":
        command = "(sleep 0.1; exit 3) >/dev/null 2>&1 & echo $!"
        answer = subprocess.check_output(["sh", "-c", command]).strip()
    else:
        answer = b"there" if os.path.exists("/proc" + scope["path"]) else b"gone"
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")


def get(port: int, path: str) -> bytes:
    with RawClient(port) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        status, _, body = client.receive_response()
    assert status == 200
    return body


def is_gone(port: int, pid: str) -> bool:
    return get(port, f"/{pid}") == b"gone"


def can_unshare() -> bool:
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode
    )


@pytest.mark.skipif(not can_unshare(), reason="unshare --pid is not there or not permitted")
def test_process_one_reaps_orphans_and_ends_in_order_when_told_to(tmp_path: Path) -> None:
    with running(tmp_path, APPLICATION, "--bind", "127.0.0.1:0", wrapper=NAMESPACE) as server:
        [first] = server.children()
        status = Path(f"/proc/{first}/status").read_text()
        assert next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1] == "1"
        assert get(server.port, "/1") == b"there"
        orphans = [get(server.port, "/orphan").decode() for _ in range(3)]
        for orphan in orphans:
            wait_until(partial(is_gone, server.port, orphan), "the orphan is reaped")
        assert not [line for line in server.errors if " ended" in line or "replaced" in line]
        os.kill(first, signal.SIGTERM)
        assert server.wait_end(DEADLINE) == 0
