"""`--disconnect-grace`: what an application call may do when its client has left; its own events tell the order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.server import RawClient, Server, serving, wait_until
from tests.process.test_control import status

# Seconds. A timer of its own loop tells the call when a quarter has passed since it heard of the client's leaving.
GRACE = 2.0
APPLICATION = f"""
import asyncio, os

def note(text):
    descriptor = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text.encode() + b"\\n")
    os.close(descriptor)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    name = scope["path"]
    loop = asyncio.get_running_loop()
    try:
        if scope["type"] == "websocket":
            await receive()
            await send({{"type": "websocket.accept"}})
        note("began " + name)
        while name != "/stays" and not (await receive())["type"].endswith(".disconnect"):
            pass
        note("left " + name)
        loop.call_later({GRACE / 4}, note, "quarter " + name)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        note("finished " + name)
    except asyncio.CancelledError:
        note("cancelled " + name)
        raise
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": b"done"}})
"""
WEBSOCKET = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


def noted(folder: Path, name: str) -> list[str]:
    """What the call with this path has noted, in its order."""
    path = folder / "notes"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [event for event, of in lines if of == name]


def leave(server: Server, folder: Path, name: str, request: bytes) -> None:
    """Ask, and hang up when the application has begun."""
    with RawClient(server.port) as client:
        client.send(request % name.encode())
        wait_until(lambda: noted(folder, name), f"the call {name} has begun")


@pytest.mark.parametrize(("name", "request_"), [("/get", GET), ("/socket", WEBSOCKET)], ids=["http", "websocket"])
def test_call_is_cancelled_when_the_grace_is_over_and_not_before(tmp_path: Path, name: str, request_: bytes) -> None:
    with serving(tmp_path, APPLICATION, "--disconnect-grace", str(GRACE)) as server, RawClient(server.port) as other:
        other.send(GET % b"/stays")
        wait_until(lambda: noted(tmp_path, "/stays"), "the other call has begun")
        leave(server, tmp_path, name, request_)
        wait_until(lambda: len(noted(tmp_path, name)) == 4, "the call is cancelled")
        assert noted(tmp_path, name) == ["began", "left", "quarter", "cancelled"]
        # The call whose client is there goes on, and so does the worker.
        assert "cancelled" not in noted(tmp_path, "/stays")
        (tmp_path / "go").touch()
        assert other.receive_response()[0] == 200
        assert noted(tmp_path, "/stays")[-1] == "finished"
        wait_until(lambda: status(tmp_path)["workers"][0]["in_flight"] == 0, "no call is counted any more")
        assert status(tmp_path)["restarts"] == 0


def test_call_that_ends_within_the_grace_is_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, "--disconnect-grace", "60") as server:
        leave(server, tmp_path, "/get", GET)
        wait_until(lambda: "quarter" in noted(tmp_path, "/get"), "some time has passed")
        (tmp_path / "go").touch()
        wait_until(lambda: len(noted(tmp_path, "/get")) == 4, "the call has ended")
        assert noted(tmp_path, "/get")[-1] == "finished"
        wait_until(lambda: status(tmp_path)["workers"][0]["in_flight"] == 0, "no call is counted any more")


def test_call_may_go_on_for_ever_by_default(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        leave(server, tmp_path, "/get", GET)
        wait_until(lambda: "quarter" in noted(tmp_path, "/get"), "some time has passed")
        (tmp_path / "go").touch()
        wait_until(lambda: noted(tmp_path, "/get")[-1] == "finished", "the call has ended by itself")
