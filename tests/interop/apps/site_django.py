"""A Django project in one module: settings, views, urls, and the ASGI application."""
# Django carries no types.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import AsyncIterator

import django
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse

settings.configure(
    SECRET_KEY="not a secret",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost"],
    SECURE_SSL_REDIRECT=True,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
)


async def describe(request: HttpRequest) -> HttpResponse:
    """Return the request as an async view sees it."""
    return JsonResponse(
        {
            "secure": request.is_secure(),
            "host": request.get_host(),
            "uri": request.build_absolute_uri(),
            "client": request.META["REMOTE_ADDR"],
            "path": request.path,
            "query": dict(request.GET.items()),
        }
    )


def plain(request: HttpRequest) -> HttpResponse:
    """Answer from a view that is no coroutine: Django runs it in a thread."""
    return HttpResponse(f"{request.method} in a thread", content_type="text/plain")


def upload(request: HttpRequest) -> HttpResponse:
    """Take a form with a file that is too large for memory."""
    file = request.FILES["file"]
    assert isinstance(file, UploadedFile)
    size = sum(len(chunk) for chunk in file.chunks())
    return JsonResponse({"name": request.POST["name"], "file": file.name, "size": size})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Send an answer whose length nobody knows."""

    async def lines() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"line %d\n" % number

    return StreamingHttpResponse(lines(), content_type="text/plain")


def move(request: HttpRequest) -> HttpResponse:
    """Redirect to another view."""
    return HttpResponseRedirect(reverse("plain"))


urlpatterns = [
    path("describe/", describe),
    path("plain/", plain, name="plain"),
    path("upload/", upload),
    path("stream/", stream),
    path("move/", move),
]

django.setup(set_prefix=False)
app = ASGIHandler()
