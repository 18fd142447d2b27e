"""A rate for each client, as clients meet it."""

from __future__ import annotations

from pathlib import Path

from tests.process.server import RawClient, running

HELLO = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def get(path: bytes = b"/", *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: localhost", *fields, b"", b""])


def test_client_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    # One in an hour: no machine is so slow that another one is due.
    arguments = ["--bind", "127.0.0.1:0", "--rate", "1/h", "--rate-burst", "2", "--trusted-proxy", "127.0.0.1"]
    other = b"X-Forwarded-For: 203.0.113.7"
    with running(tmp_path, HELLO, *arguments) as server, RawClient(server.port) as client:
        statuses = []
        for request in (get(), get(), get(), get(b"/", other), get(b"/.edge/health"), get()):
            client.send(request)
            status, fields, _ = client.receive_response()
            statuses.append(status)
        assert statuses == [200, 200, 429, 200, 200, 429]
        assert 3500 < int(fields[b"retry-after"]) <= 3600
        server.wait_error("127.0.0.1: GET '/' refused with 429: too many requests of this client")
