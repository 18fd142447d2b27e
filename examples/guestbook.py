# edge serve --dev --workers 1 --app-dir examples guestbook:app
"""Django with Channels, in one file (pip install django channels): a page, and a WebSocket that tells who came.

The guests are in the memory of one worker, hence `--workers 1`; with more, Channels passes them on through Redis.
"""

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="only for this example",
    # edge tells the application the host that the client asked for; Django decides whether it is one of its own.
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Guests</title>
<form><input name="name" autofocus><button>Sign</button></form>
<ul id="guests"></ul>
<script>
  const socket = new WebSocket("wss://" + location.host + "/guests");
  socket.onmessage = (event) => {
    const item = document.createElement("li");
    item.textContent = event.data;
    document.getElementById("guests").append(item);
  };
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    socket.send(event.target.name.value);
    event.target.reset();
  };
</script>
"""


def page(request: HttpRequest) -> HttpResponse:
    """Return the page; Django runs it in a thread."""
    return HttpResponse(PAGE)


class Guests(AsyncWebsocketConsumer):
    """One who reads the book."""

    async def connect(self) -> None:
        """Let everybody in."""
        await get_channel_layer().group_add("readers", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Tell this one no more."""
        await get_channel_layer().group_discard("readers", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Tell all who signed."""
        await get_channel_layer().group_send("readers", {"type": "guest.signed", "name": (text_data or "")[:40]})

    async def guest_signed(self, event: dict[str, str]) -> None:
        """Tell this one who signed."""
        await self.send(event["name"])


urlpatterns = [path("", page)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(URLRouter([path("guests", Guests.as_asgi())])),
    }
)
