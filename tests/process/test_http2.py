"""HTTP/2 over TLS, from a client through edge and worker to the application and back."""

from __future__ import annotations

import os
import signal
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.http2_client import APPLICATION, INTERNAL_ERROR, NO_ERROR, PREFACE, Http2Client, connect
from tests.process.server import Authority, RawClient, Server, running, serving, wait_until


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("http2")
    with serving(folder, APPLICATION, "--drain-timeout", "1", authority=authority) as server:
        yield server


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[Http2Client]:
    with Http2Client(server, authority) as client:
        yield client


# What the application sees.


def test_scope_is_that_of_http2(client: Http2Client, server: Server) -> None:
    seen = client.ask("/seen/a%20b?c=d").json()
    assert seen == {
        "http_version": "2",
        "method": "GET",
        "path": "/seen/a b",
        "raw_path": "/seen/a%20b",
        "query_string": "c=d",
        "scheme": "https",
        "client": ["127.0.0.1", client.sock.getsockname()[1]],
        "server": ["localhost", 443],  # of the Host field
        "root_path": "",
        "headers": seen["headers"],
        "content": "",
    }
    assert seen["headers"][0] == ["host", "localhost"]


def test_fields_keep_their_order_and_cookie_crumbs_are_joined(client: Http2Client) -> None:
    sent = [(b"x-b", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2"), (b"cookie", b"b=2"), (b"x-b", b"3")]
    seen = client.ask("/seen", *sent).json()
    mine = [pair for pair in seen["headers"] if pair[0] in ("x-a", "x-b", "cookie")]
    assert sorted(mine) == [["cookie", "a=1; b=2"], ["x-a", "2"], ["x-b", "1"], ["x-b", "3"]]
    assert [pair for pair in mine if pair[0] != "cookie"] == [["x-b", "1"], ["x-a", "2"], ["x-b", "3"]]


def test_authority_is_the_host_and_host_alone_is_one_too(client: Http2Client) -> None:
    pseudo = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/seen")]
    alone = client.wait(client.begin_with([*pseudo, (b"host", b"localhost:1")])).json()
    both = client.wait(client.begin_with([*pseudo, (b":authority", b"LOCALHOST"), (b"host", b"localhost")])).json()
    assert [value for name, value in alone["headers"] if name == "host"] == ["localhost:1"]
    assert [value for name, value in both["headers"] if name == "host"] == ["LOCALHOST"]


def test_forwarding_fields_are_the_edges_own(client: Http2Client, server: Server) -> None:
    spoofed = [(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"http"), (b"x_forwarded_for", b"192.0.2.2")]
    seen = dict(client.ask("/seen", *spoofed, (b"x-real-ip", b"192.0.2.3")).json()["headers"])
    assert {name: seen[name] for name in seen if name.startswith(("x-", "x_")) and name != "x-request-id"} == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "localhost",
        "x-forwarded-port": str(server.port),
    }


def test_trailers_end_an_upload_and_follow_an_answer(client: Http2Client) -> None:
    number = client.begin("/trailers", (b"te", b"trailers"), method="POST", end=False)
    client.send(number, b"content")
    client.h2.send_headers(number, [(b"x-check", b"1")], end_stream=True)
    client.flush()
    answer = client.wait(number)
    assert (answer.body, answer.trailers) == (b"content", [(b"x-sum", b"7")])


def test_answer_has_no_trailers_unless_they_are_asked_for(client: Http2Client) -> None:
    answer = client.ask("/trailers", method="POST", body=b"content")
    assert (answer.body, answer.trailers, answer.is_whole) == (b"content", [], True)


def test_padding_is_no_content(client: Http2Client) -> None:
    number = client.begin("/echo", method="POST", end=False)
    for _ in range(600):  # the padding alone is more than a window
        client.send(number, b"ab", padding=255)
    client.send(number, b"", end=True)
    assert client.wait(number).body == b"ab" * 600


# Answers without content, and before it.


@pytest.mark.parametrize(
    ("method", "path", "length"),
    [
        pytest.param("HEAD", "/status/200?length", b"5", id="head-with-length"),
        pytest.param("HEAD", "/status/200", None, id="head"),
        pytest.param("HEAD", "/large/1000000", b"1000000", id="head-of-much"),
        pytest.param("GET", "/status/204", None, id="204"),
        pytest.param("GET", "/status/204?length", None, id="204-with-length"),
        pytest.param("GET", "/status/304", None, id="304"),
        pytest.param("GET", "/status/304?length", b"5", id="304-with-length"),
    ],
)
def test_answer_has_no_content(client: Http2Client, method: str, path: str, length: bytes | None) -> None:
    answer = client.ask(path, method=method)
    assert (answer.is_whole, answer.reset, answer.body) == (True, None, b"")
    if method == "HEAD" and length is None:
        assert answer.fields.get(b"content-length") in (None, b"5")
    else:
        assert answer.fields.get(b"content-length") == length
    assert client.ask("/").body == b"hello"


def test_client_that_expects_100_gets_it_when_the_application_reads(client: Http2Client) -> None:
    number = client.begin("/echo", (b"expect", b"100-continue"), method="POST", end=False)
    wait_until(lambda: client.pump() and client.answers[number].informational, "100 Continue")
    client.send(number, b"content", end=True)
    answer = client.wait(number)
    assert (answer.informational, answer.status, answer.body) == ([100], 200, b"content")


def test_client_that_expects_100_gets_the_refusal_in_its_place(server: Server, client: Http2Client) -> None:
    number = client.begin(
        "/echo", (b"expect", b"100-continue"), (b"content-length", b"999999999"), method="POST", end=False
    )
    answer = client.wait(number)
    assert (answer.informational, answer.status) == ([], 413)


def test_upload_is_stopped_without_an_error_when_the_answer_is_there(client: Http2Client) -> None:
    number = client.begin("/early", method="POST", end=False)
    client.fill(number)
    answer = client.wait(number)
    client.pump_for(0.05)
    assert (answer.status, answer.body, answer.is_whole) == (200, b"enough", True)
    wait_until(lambda: answer.reset is not None or not client.pump(), "RST_STREAM")
    assert answer.reset == NO_ERROR
    assert client.ask("/").body == b"hello"


# Refusals: each ends its own request.


@pytest.mark.parametrize(
    ("status", "method", "path", "fields"),
    [
        (400, "GET", "/a b", []),
        (400, "GET", "/", [(b"connection", b"close")]),
        (405, "TRACE", "/", []),
        (414, "GET", "/" + "a" * 9000, []),
        (417, "POST", "/", [(b"expect", b"a miracle")]),
        (431, "GET", "/", [(b"x-%d" % number, b"1") for number in range(101)]),
        (431, "GET", "/", [(b"x-large", b"a" * 33_000)]),
        (501, "BREW", "/", []),
    ],
    ids=lambda value: str(value)[:12] if isinstance(value, (int, str)) else None,
)
def test_request_is_refused_and_others_live_on(
    client: Http2Client, status: int, method: str, path: str, fields: list[tuple[bytes, bytes]]
) -> None:
    waiting = client.begin("/echo", method="POST", end=False)
    answer = client.ask(path, *fields, method=method)
    assert (answer.status, answer.is_whole) == (status, True)
    assert answer.body.startswith(b"%d " % status)
    assert b"x-request-id" in answer.fields
    client.send(waiting, b"lives", end=True)
    assert client.wait(waiting).body == b"lives"
    assert client.goaways == []


def test_limits_of_content_and_time_have_their_status(tmp_path: Path, authority: Authority) -> None:
    options = ["--max-body", "1MiB", "--body-idle-timeout", "1"]
    with (
        serving(tmp_path, APPLICATION, *options, authority=authority) as server,
        Http2Client(server, authority) as client,
    ):
        announced = client.begin("/size", (b"content-length", b"1048577"), method="POST", end=False)
        assert client.wait(announced).status == 413
        streamed = client.begin("/size", method="POST", end=False)
        for _ in range(17):
            client.send(streamed, bytes(65536))
        assert client.wait(streamed).status == 413
        slow = client.begin("/size", method="POST", end=False)
        client.send(slow, b"a")
        assert client.wait(slow).status == 408
        assert client.ask("/size", method="POST", body=bytes(1 << 20)).body == b"1048576"


def test_length_is_not_required(client: Http2Client) -> None:
    # 411 is for what cannot say where content ends; every frame of HTTP/2 does.
    assert client.ask("/size", method="POST", body=b"12345").body == b"5"


# What goes wrong behind the edge.


def test_exception_of_the_application_is_a_500(client: Http2Client) -> None:
    answer = client.ask("/raises")
    assert (answer.status, answer.is_whole) == (500, True)
    assert b"told to" not in answer.body


def test_exception_behind_the_head_resets_its_stream_only(client: Http2Client) -> None:
    broken = client.begin("/raises/behind")
    assert client.wait_head(broken).status == 200
    other = client.begin("/echo", method="POST", end=False)
    client.ask("/opens/behind")
    answer = client.wait(broken)
    assert (answer.is_whole, answer.reset, answer.body) == (False, INTERNAL_ERROR, b"part")
    client.send(other, b"lives", end=True)
    assert client.wait(other).body == b"lives"


def test_death_of_a_worker_is_a_502_for_its_own_requests_only(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(tmp_path, APPLICATION, "--workers", "2", "--drain-timeout", "1", authority=authority) as server,
        Http2Client(server, authority) as client,
    ):
        ready: set[int] = set()

        def serving_workers() -> int:
            ready.add(client.ask("/calls").json()["pid"])
            return len(ready)

        wait_until(lambda: serving_workers() == 2, "two workers serve")
        victim = server.workers()[0]
        streams = [client.begin("/waits/key", method="POST") for _ in range(4)]
        wait_until(lambda: sum(calls(client)["waits"] for _ in range(2)) >= 4, "both workers run requests")
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: client.pump() and sum(client.answers[number].status == 502 for number in streams) == 2, "502"
        )
        for _ in range(4):
            client.ask("/opens/key")
        assert sorted(client.wait(number).status for number in streams) == [200, 200, 502, 502]
        assert client.goaways == []


def calls(client: Http2Client) -> Counter[str]:
    """Return how often each part of the application was called in the worker that answers."""
    return Counter(client.ask("/calls").json()["calls"])


# HTTP/1.1 beside it.


def test_clients_of_http1_are_served_beside_it(server: Server, authority: Authority, client: Http2Client) -> None:
    with connect(server, authority, protocols=("http/1.1",)) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
    with RawClient(server.port, authority.client_context()) as old:
        assert isinstance(old.sock, ssl.SSLSocket)
        assert old.sock.selected_alpn_protocol() is None
        old.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert old.receive_response()[2] == client.ask("/").body


def test_http2_can_be_turned_off(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(tmp_path, APPLICATION, "--http2", "off", authority=authority) as server,
        connect(server, authority, protocols=("h2", "http/1.1")) as sock,
    ):
        assert sock.selected_alpn_protocol() == "http/1.1"


def test_http3_is_not_advertised_as_it_is_not_served(server: Server, authority: Authority, client: Http2Client) -> None:
    with RawClient(server.port, authority.client_context()) as old:
        old.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        _, fields, _ = old.receive_response()
    for names in (fields.keys(), client.ask("/").fields.keys()):
        assert b"server" in names
        assert b"alt-svc" not in names


def test_http2_is_not_spoken_without_tls(tmp_path: Path) -> None:
    with running(tmp_path, APPLICATION, "--port", "0") as server, RawClient(server.port) as client:
        client.send(PREFACE)
        assert client.receive_rest().startswith(b"HTTP/1.1 505 ")


def test_redirect_listener_speaks_http1_alone(tmp_path: Path, authority: Authority) -> None:
    options = ["--cert", str(authority.cert), "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"]
    with running(tmp_path, APPLICATION, *options) as server:
        with RawClient(server.ports("http")[0]) as client:
            client.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            status, fields, _ = client.receive_response()
        assert (status, fields[b"location"][:9]) == (308, b"https://l")
        with Http2Client(server, authority) as new:
            assert new.ask("/").body == b"hello"


# Log lines.


def test_access_log_says_what_was_asked_and_how_it_ended(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, "--drain-timeout", "1", authority=authority) as server:
        with Http2Client(server, authority) as client:
            client.ask("/large/100000?token=secret", (b"user-agent", b"mine"))
            client.ask("/", (b"bad", b"a\0b"))
            client.reset(client.begin("/waits/key", method="POST"))
            client.begin("/waits/key", method="POST", end=False)
            wait_until(lambda: calls(client)["waits"] == 2 or None, "the application has them")

        def lines() -> list[dict[str, Any]]:
            return [line for line in server.access_lines() if line["target"] != "/calls"]

        wait_until(lambda: len(lines()) >= 4, "all lines")
        large, bad, reset, left = lines()
    assert (large["status"], large["version"], large["bytes_out"], large["tls"]) == (200, "2", 100_000, "TLSv1.3")
    assert "secret" not in str(large)
    assert (bad["status"], bad["method"]) == (400, "-")
    assert (reset["status"], reset["error"]) == (499, "the client gave the request up")
    assert (left["status"], left["error"]) == (499, "the client left")
