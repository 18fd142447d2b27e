"""A request from the client through TLS, the edge, the wire and the application, and back."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.process.server import Authority, serving

HELLO = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""


def test_request_goes_through_tls_to_the_application_and_back(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, HELLO, authority=authority) as server:
        client = http.client.HTTPSConnection("localhost", server.port, context=authority.client_context())
        client.request("GET", "/a?b=c")
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"Hello, world!")
        client.close()
        [line] = server.wait_access(1)
    assert line["target"] == "/a?b=c"
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["tls"] == "TLSv1.3"
