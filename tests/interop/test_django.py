"""Django under ASGI behind a real `edge serve` over TLS."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.interop.conftest import Serve
from tests.process.server import Authority, Server

pytest.importorskip("django", reason="django is not installed")


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("site_django:app", EDGE_SERVER_NAME="*")


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[httpx.Client]:
    base = f"https://localhost:{server.port}"
    with httpx.Client(base_url=base, verify=authority.client_context(), trust_env=False, timeout=30) as client:
        yield client


def test_request_is_secure_and_knows_its_public_address(client: httpx.Client, server: Server) -> None:
    seen = client.get("/describe/?q=caf%C3%A9").json()
    assert seen == {
        "secure": True,
        "host": f"localhost:{server.port}",
        "uri": f"https://localhost:{server.port}/describe/?q=caf%C3%A9",
        "client": "127.0.0.1",
        "path": "/describe/",
        "query": {"q": "café"},
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_view_that_is_no_coroutine_answers_from_a_thread(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/plain/")
    assert (answer.status_code, answer.text) == (200, f"{method} in a thread")


def test_host_that_is_not_allowed_is_refused_by_the_application(client: httpx.Client) -> None:
    assert client.get("/describe/", headers={"host": "evil.example"}).status_code == 400


def test_upload_larger_than_django_keeps_in_memory_arrives_whole(client: httpx.Client) -> None:
    content = b"0123456789abcdef" * 327_680  # 5 MiB; FILE_UPLOAD_MAX_MEMORY_SIZE is 2.5 MiB
    answer = client.post("/upload/", data={"name": "Ada"}, files={"file": ("large.bin", content)})
    assert answer.json() == {"name": "Ada", "file": "large.bin", "size": len(content)}


def test_streaming_response_arrives_whole(client: httpx.Client) -> None:
    answer = client.get("/stream/")
    assert answer.text.splitlines() == [f"line {number}" for number in range(1000)]


def test_redirects_lead_on(client: httpx.Client, server: Server) -> None:
    assert client.get("/move/").headers["location"] == "/plain/"
    appended = client.get("/describe?x=1")
    assert (appended.status_code, appended.headers["location"]) == (301, "/describe/?x=1")
    followed = client.get("/move/", follow_redirects=True)
    assert (followed.text, str(followed.url)) == ("GET in a thread", f"https://localhost:{server.port}/plain/")


def test_security_fields_of_the_application_reach_the_client(client: httpx.Client) -> None:
    fields = client.get("/plain/").headers
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "same-origin"
