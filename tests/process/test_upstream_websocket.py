"""WebSockets of another server behind the edge: what that says first, and how they end when the edge goes away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from websockets.frames import Close, CloseCode, Frame, Opcode

from tests.process.http2_client import Http2Client
from tests.process.http2_websocket import Socket
from tests.process.server import Authority, Server, wait_until
from tests.process.test_control import status
from tests.process.test_sites import reload, serving_file, uvicorn
from tests.process.websocket_client import WebSocket

# Speaks first, which a front end may get together with the answer to the handshake; puts down how each ended.
SERVICE = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        raise RuntimeError("no lifespan")
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "welcome"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    with open("ended", "a") as file:
        file.write(f"{message['code']}\\n")
"""
FILE = """
[limits]
max_connections = %d
[[site]]
[[site.route]]
upstream = "%s"
"""


class Receiver(Protocol):
    """A WebSocket of either version of HTTP."""

    def receive(self) -> Frame: ...


@contextlib.contextmanager
def open_both(server: Server, authority: Authority) -> Iterator[tuple[WebSocket, Socket]]:
    """Open a WebSocket over each version of HTTP."""
    with WebSocket(server.port, authority.client_context()) as first, Http2Client(server, authority) as client:
        yield first, Socket(client, "/")


def assert_welcome(websocket: Receiver) -> None:
    frame = websocket.receive()
    assert (frame.opcode, frame.data) == (Opcode.TEXT, b"welcome")


def assert_restart(websocket: Receiver) -> None:
    frame = websocket.receive()
    assert frame.opcode is Opcode.CLOSE
    assert Close.parse(frame.data).code == CloseCode.SERVICE_RESTART


def assert_ended(folder: Path) -> None:
    """Wait until the service has heard of both ends, as the clients have answered them."""
    file = folder / "ended"
    wait_until(lambda: file.exists() and file.read_text() == "1012\n" * 2, "the service hears that both have ended")


@pytest.mark.parametrize("how", ["reload", "stop"])
def test_websockets_of_services_are_closed_with_1012_when_the_edge_goes_away(
    tmp_path: Path, authority: Authority, how: str
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(uvicorn(tmp_path, "service"))
        server = stack.enter_context(serving_file(tmp_path, FILE % (1000, address), authority))
        with open_both(server, authority) as (first, second):
            assert_welcome(first)
            assert_welcome(second)
            if how == "reload":
                (tmp_path / "edge.toml").write_text(FILE % (1001, address))
                assert reload(tmp_path) == ""
            else:
                server.process.terminate()
            assert_restart(first)
            assert_restart(second)
            second.send()  # its answer; the other has sent it
            assert_ended(tmp_path)
        if how == "reload":
            wait_until(lambda: len(status(tmp_path)["edges"]) == 1, "the edge before has ended")
        else:
            assert server.process.wait(20) == 0
        assert not [line for line in server.errors if "cut off" in line]
