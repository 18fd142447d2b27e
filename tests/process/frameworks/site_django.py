"""The test's application with Django: `app` under ASGI with Channels, `wsgi_app` under WSGI."""
# Neither Django nor Channels carries types.
# mypy: disable-error-code="import-untyped"

from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from tests.process.frameworks.gates import GATES, describe, events, events_later, pieces, pieces_later

settings.configure(SECRET_KEY="of the test", ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__)
django.setup()


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(describe(request.read()))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(pieces_later() if isinstance(request, ASGIRequest) else pieces())


def feed(request: HttpRequest, name: str) -> StreamingHttpResponse:
    content = events_later(name) if isinstance(request, ASGIRequest) else events(name)
    return StreamingHttpResponse(content, content_type="text/event-stream")


def open_gate(request: HttpRequest, name: str) -> HttpResponse:
    GATES[name].set()
    return HttpResponse("open")


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    async def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        if text_data == "bye":
            await self.close(4001)
        else:
            await self.send(text_data=str(text_data).upper())


urlpatterns = [
    path("upload", upload),
    path("stream", stream),
    path("events/<name>", feed),
    path("gates/<name>", open_gate),
]
app = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws", Echo.as_asgi())])},
)
wsgi_app = get_wsgi_application()
