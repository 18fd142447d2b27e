"""Requests that would become two, or gain a field, on their way to an HTTP/1.1 server behind another front end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.process.http2_client import APPLICATION, PROTOCOL_ERROR, Fields, Http2Client
from tests.process.server import Authority, Server, serving

SECOND = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
CRLF = b"\r\nx-injected: 1"


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("smuggling"), APPLICATION, authority=authority) as server:
        yield server


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[Http2Client]:
    with Http2Client(server, authority) as client:
        yield client


def calls(client: Http2Client) -> Counter[str]:
    """Return how often each part of the application was called, but for this one."""
    told = Counter(client.ask("/calls").json()["calls"])
    del told["calls"]
    return told


def head(**replaced: bytes) -> Fields:
    """Return the pseudo-fields of a request, some of them replaced."""
    pseudo = {"method": b"POST", "scheme": b"https", "authority": b"localhost", "path": b"/seen"} | replaced
    return [(b":" + name.encode(), value) for name, value in pseudo.items()]


MALFORMED = {
    "transfer-encoding": [*head(), (b"transfer-encoding", b"chunked")],
    "transfer-encoding-identity": [*head(), (b"transfer-encoding", b"identity")],
    "connection": [*head(), (b"connection", b"keep-alive, x-real")],
    "keep-alive": [*head(), (b"keep-alive", b"timeout=5")],
    "proxy-connection": [*head(), (b"proxy-connection", b"keep-alive")],
    "upgrade": [*head(), (b"upgrade", b"websocket")],
    "te-other-than-trailers": [*head(), (b"te", b"trailers, chunked")],
    "crlf-in-value": [*head(), (b"x-a", b"1" + CRLF)],
    "lf-in-value": [*head(), (b"x-a", b"1\nx-injected: 1")],
    "cr-in-value": [*head(), (b"x-a", b"1\rx-injected: 1")],
    "nul-in-value": [*head(), (b"x-a", b"1\0")],
    "request-in-value": [*head(), (b"x-a", b"1\r\n\r\n" + SECOND)],
    "crlf-in-name": [*head(), (b"x-a: 1" + CRLF, b"1")],
    "colon-in-name": [*head(), (b"x-a: b", b"1")],
    "space-in-name": [*head(), (b"x-a ", b"1")],
    "empty-name": [*head(), (b"", b"1")],
    "upper-case-name": [*head(), (b"X-A", b"1")],
    "transfer-encoding-in-upper-case": [*head(), (b"Transfer-Encoding", b"chunked")],
    "space-before-value": [*head(), (b"x-a", b" 1")],
    "crlf-in-cookie": [*head(), (b"cookie", b"a=1" + CRLF)],
    "crlf-in-path": head(path=b"/seen HTTP/1.1" + CRLF),
    "space-in-path": head(path=b"/seen HTTP/1.1"),
    "path-of-another-host": head(path=b"https://other.example/seen"),
    "crlf-in-method": head(method=b"GET / HTTP/1.1" + CRLF),
    "crlf-in-authority": head(authority=b"localhost" + CRLF),
    "path-in-authority": head(authority=b"localhost/smuggled?"),
    "user-in-authority": head(authority=b"localhost@other.example"),
    "crlf-in-scheme": head(scheme=b"https" + CRLF),
    "path-in-scheme": head(scheme=b"https://localhost/smuggled?"),
    "second-path": [*head(), (b":path", b"/smuggled")],
    "second-method": [*head(), (b":method", b"GET")],
    "unknown-pseudo-field": [*head(), (b":smuggled", b"1")],
    "pseudo-field-behind-a-field": [*head()[:3], (b"x-a", b"1"), (b":path", b"/seen")],
    "status-of-an-answer": [*head(), (b":status", b"200")],
    "another-host": [*head(), (b"host", b"other.example")],
    "two-hosts": [*head(), (b"host", b"localhost"), (b"host", b"localhost")],
    "two-lengths": [*head(), (b"content-length", b"1"), (b"content-length", b"2")],
    "lengths-in-a-list": [*head(), (b"content-length", b"0, 42")],
    "length-with-a-sign": [*head(), (b"content-length", b"+42")],
    "length-in-hexadecimal": [*head(), (b"content-length", b"0x2a")],
    "empty-length": [*head(), (b"content-length", b"")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_head_reaches_no_application(client: Http2Client, name: str) -> None:
    before = calls(client)
    number = client.begin_with(MALFORMED[name], end=False)
    client.send(number, SECOND, end=True)
    answer = client.wait(number)
    assert answer.status in (400, 501)
    assert calls(client) == before
    assert client.goaways == []


@pytest.mark.parametrize(
    ("length", "content"),
    [
        pytest.param(b"0", SECOND, id="none-announced"),
        pytest.param(b"5", b"12345" + SECOND, id="less-announced"),
        pytest.param(b"1000", SECOND, id="more-announced"),
    ],
)
def test_content_of_another_length_is_never_whole_and_never_a_request(
    client: Http2Client, length: bytes, content: bytes
) -> None:
    before = calls(client)
    number = client.begin_with([*head(path=b"/size"), (b"content-length", length)], end=False)
    client.send(number, content, end=True)
    answer = client.wait(number)
    assert (answer.status, answer.reset) in ((400, None), (400, PROTOCOL_ERROR))
    assert set(calls(client) - before) <= {"size"}


def test_length_without_content_is_refused(client: Http2Client) -> None:
    before = calls(client)
    number = client.begin_with([*head(), (b"content-length", b"42")], end=True)
    assert client.wait(number).status == 400
    assert calls(client) == before


@pytest.mark.parametrize(
    "field",
    [(b"x-a", b"1" + CRLF), (b"X-A", b"1"), (b":path", b"/smuggled"), (b"transfer-encoding", b"chunked")],
    ids=["crlf", "upper-case", "pseudo-field", "transfer-encoding"],
)
def test_malformed_trailers_never_end_a_request(client: Http2Client, field: tuple[bytes, bytes]) -> None:
    before = calls(client)
    number = client.begin("/size", method="POST", end=False)
    client.send(number, b"12345")
    client.h2.send_headers(number, [field], end_stream=True)
    client.flush()
    assert client.wait(number).status == 400
    assert set(calls(client) - before) <= {"size"}


def test_request_in_content_is_content(client: Http2Client) -> None:
    before = calls(client)
    chunked = b"0\r\n\r\n" + SECOND
    seen = client.ask("/seen", (b"content-length", b"%d" % len(chunked)), method="POST", body=chunked).json()
    assert seen["content"].encode() == chunked
    assert calls(client) - before == {"seen": 1}
