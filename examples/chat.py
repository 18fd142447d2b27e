# edge serve --dev --workers 1 --app-dir examples chat:app
"""A chat page over WebSocket (pip install starlette): open https://localhost:8443 in two windows.

The room is the memory of one worker, hence `--workers 1`; with more, workers would pass messages on through a broker.
"""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Chat</title>
<h1>Chat</h1>
<ul id="messages"></ul>
<form id="form"><input id="text" autocomplete="off" autofocus><button>Send</button></form>
<p id="status">connecting</p>
<script>
  const byId = (id) => document.getElementById(id);
  const socket = new WebSocket("wss://" + location.host + "/room");
  socket.onopen = () => { byId("status").textContent = "connected"; };
  socket.onclose = (event) => { byId("status").textContent = "closed with " + event.code; };
  socket.onmessage = (event) => {
    const item = document.createElement("li");
    item.textContent = event.data;  // never as HTML: others wrote it
    byId("messages").append(item);
  };
  byId("form").onsubmit = (event) => {
    event.preventDefault();
    socket.send(byId("text").value);
    byId("text").value = "";
  };
</script>
"""


class Room:
    """Those who are connected."""

    def __init__(self) -> None:
        self._members: dict[WebSocket, str] = {}
        self._joined = 0

    async def attend(self, member: WebSocket) -> None:
        """Let a member hear and speak until it leaves."""
        await member.accept()
        self._joined += 1
        name = self._members[member] = f"guest {self._joined}"
        try:
            while True:
                text = await member.receive_text()
                await self._tell(list(self._members), f"{name}: {text}")
        except WebSocketDisconnect:
            pass
        finally:
            del self._members[member]

    async def _tell(self, members: Sequence[WebSocket], line: str) -> None:
        for member in members:
            try:
                await member.send_text(line)
            except WebSocketDisconnect:
                continue  # its own task is about to notice


room = Room()


async def page(request: Request) -> HTMLResponse:
    """Return the chat page."""
    return HTMLResponse(PAGE)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/room", room.attend)])
