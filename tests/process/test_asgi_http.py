"""What ASGI says of `receive` and `send` on HTTP, one row of the table a test, end to end over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.asgi_client import ask, leave, request, seen, send_until_stuck, wait_seen
from tests.process.server import Authority, RawClient, Server, serving, wait_until

APPLICATION = Path(__file__).with_name("http_application.py").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("http"), APPLICATION, authority=authority) as running:
        yield running


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[RawClient]:
    with RawClient(server.port, authority.client_context()) as connected:
        yield connected


@pytest.fixture
def other(server: Server, authority: Authority) -> Iterator[RawClient]:
    """A second connection, to look at the application with."""
    with RawClient(server.port, authority.client_context()) as connected:
        yield connected


# receive()


def test_receive_after_the_content_waits_and_gives_disconnect_at_once_on_completion(
    client: RawClient, other: RawClient
) -> None:
    assert ask(client, "/receive_after/ra")[2] == b"hello"
    assert wait_seen(other, "ra", 4) == ["http.request", False, "http.disconnect", "http.disconnect"]


def test_receive_after_the_answer_gives_disconnect_though_content_was_never_read(
    client: RawClient, other: RawClient
) -> None:
    client.send(request("/receive_unread/ru", "Content-Length: 100000", method="POST"))
    assert client.receive_response()[2] == b"hello"
    assert wait_seen(other, "ru", 1) == ["http.disconnect"]


def test_receive_gives_disconnect_when_the_client_leaves(client: RawClient, other: RawClient) -> None:
    client.send(request("/left/rl"))
    wait_seen(other, "rl", 1)
    client.sock.close()
    assert wait_seen(other, "rl", 2)[1] == "http.disconnect"


def test_application_is_never_cancelled_when_the_client_leaves(client: RawClient, other: RawClient) -> None:
    client.send(request("/after_cancel/ac"))
    wait_seen(other, "ac", 1)
    leave(client)
    ask(other, "/open/ac")
    assert wait_seen(other, "ac", 2)[1] == "not cancelled"


# send() after the client has left


def test_send_after_disconnect_raises_oserror(client: RawClient, other: RawClient) -> None:
    client.send(request("/left/sa"))
    wait_seen(other, "sa", 1)
    leave(client)
    assert wait_seen(other, "sa", 4)[1:] == ["http.disconnect", "OSError", "OSError"]


def test_streaming_application_learns_of_a_reset_by_oserror(client: RawClient, other: RawClient) -> None:
    client.send(request("/stream/sl"))
    wait_seen(other, "sl", 1)
    leave(client)
    assert wait_seen(other, "sl", 4) == ["sent", "ClientDisconnected", "http.disconnect", "http.disconnect"]


def test_disconnect_that_the_application_lets_pass_is_no_error_in_the_log(
    server: Server, client: RawClient, other: RawClient
) -> None:
    client.send(request("/stream/lg"))
    wait_seen(other, "lg", 1)
    leave(client)
    wait_seen(other, "lg", 4)
    ask(other, "/raise/marker")
    server.wait_error("exception in GET '/raise/marker'")
    assert not [line for line in server.errors if "/stream/lg" in line and "exception" in line]


def test_disconnect_in_the_clothes_of_a_framework_is_no_error_in_the_log(
    server: Server, client: RawClient, other: RawClient
) -> None:
    client.send(request("/wrapped/wr"))
    wait_seen(other, "wr", 1)
    leave(client)
    wait_until(lambda: [line for line in server.access_lines() if line["target"] == "/wrapped/wr"], "it is logged")
    ask(other, "/raise/marker2")
    server.wait_error("exception in GET '/raise/marker2'")
    assert not [line for line in server.errors if "/wrapped/wr" in line and "exception" in line]


# Messages in the wrong order, and unknown ones


def test_messages_in_the_wrong_order_raise_at_the_call(client: RawClient, other: RawClient) -> None:
    status, _, body = ask(client, "/wrong_order/wo")
    assert (status, body) == (200, b"hello")
    assert wait_seen(other, "wo", 4) == [
        "http.response.body before http.response.start",
        "http.response.start was sent twice",
        "http.response.body after the response was complete",
        "http.response.start was sent twice",
    ]


def test_unknown_message_types_raise_at_the_call(client: RawClient, other: RawClient) -> None:
    assert ask(client, "/unknown/un")[2] == b"hello"
    assert wait_seen(other, "un", 2) == [
        "message type 'http.response.pushed' is not allowed in an HTTP response",
        "message type 'websocket.accept' is not allowed in an HTTP response",
    ]


# When the head goes out


def test_exception_between_start_and_content_becomes_a_500(client: RawClient) -> None:
    status, fields, _ = ask(client, "/late_error")
    assert status == 500
    assert b"x-mine" not in fields


def test_head_of_an_event_stream_goes_out_before_its_content(client: RawClient, other: RawClient) -> None:
    client.send(request("/events/es"))
    assert client.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    ask(other, "/open/es")
    assert client.receive_until(b"0\r\n\r\n") == b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"


def test_head_waits_for_slow_content_50_ms_and_goes_out_then(client: RawClient, other: RawClient) -> None:
    client.send(request("/slow/sl50"))
    head = client.receive_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding: chunked\r\n" in head
    ask(other, "/open/sl50")
    assert client.receive_until(b"0\r\n\r\n") == b"4\r\nlate\r\n0\r\n\r\n"


# Framing


def test_start_and_one_body_without_length_get_a_content_length(client: RawClient) -> None:
    status, fields, body = ask(client, "/hello")
    assert (status, fields[b"content-length"], body) == (200, b"5", b"hello")
    assert b"transfer-encoding" not in fields


def test_several_bodies_without_length_are_chunked(client: RawClient) -> None:
    client.send(request("/chunks"))
    head, _, body = client.receive_until(b"0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n"


def test_transfer_encoding_of_the_application_is_dropped(client: RawClient) -> None:
    _, fields, body = ask(client, "/coding")
    assert (fields[b"content-length"], body) == (b"5", b"hello")
    assert not {b"transfer-encoding", b"connection", b"keep-alive"} & fields.keys()
    assert ask(client, "/hello")[2] == b"hello"


def test_head_gets_no_content_and_keeps_the_connection(client: RawClient) -> None:
    client.send(request("/status/200?length", method="HEAD") + request("/hello"))
    first, _, rest = client.receive_until(b"\r\n\r\nhello").partition(b"\r\n\r\n")
    assert b"content-length: 5" in first
    assert b"transfer-encoding" not in first
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("query", "status"), [("", 204), ("?length", 204), ("", 304), ("?length", 304)])
def test_content_of_204_and_304_is_dropped_and_the_connection_kept(client: RawClient, query: str, status: int) -> None:
    client.send(request(f"/status/{status}{query}") + request("/hello"))
    first, _, rest = client.receive_until(b"\r\n\r\nhello").partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert (b"content-length: 5" in first) == (status == 304 and query == "?length")
    assert b"transfer-encoding" not in first
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("query", ["3,hello", "8,hello"])
def test_one_body_of_another_size_than_content_length_becomes_a_500(client: RawClient, query: str) -> None:
    status, _, body = ask(client, f"/length?{query}")
    assert status == 500
    assert b"hel" not in body


@pytest.mark.parametrize(("query", "most"), [("8,hello,world", b"hello"), ("12,hello,world", b"helloworld")])
def test_content_of_another_size_than_content_length_closes_the_connection(
    client: RawClient, query: str, most: bytes
) -> None:
    client.send(request(f"/length?{query}") + request("/hello"))
    head, _, body = client.receive_rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert most.startswith(body)


def test_content_length_that_is_not_one_number_raises_at_the_call(client: RawClient, other: RawClient) -> None:
    assert ask(client, "/two_lengths/tl")[2] == b"hello"
    assert wait_seen(other, "tl", 2) == [
        "response field content-length b'6' is not one number",
        "response field content-length b'+5' is not one number",
    ]


def test_http_1_0_without_length_is_ended_by_the_connection(client: RawClient) -> None:
    client.send(request("/chunks", "Connection: keep-alive", version="1.0"))
    head, _, body = client.receive_rest().partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"first second"


def test_http_1_0_keep_alive_is_honoured_when_the_length_is_known(client: RawClient) -> None:
    _, fields, body = ask(client, "/hello", "Connection: keep-alive", version="1.0")
    assert (fields[b"connection"], body) == (b"keep-alive", b"hello")
    assert ask(client, "/hello", version="1.0")[2] == b"hello"
    assert client.receive_rest() == b""


def test_large_content_in_one_message_arrives_with_its_length(client: RawClient) -> None:
    _, fields, body = ask(client, "/large")
    assert fields[b"content-length"] == b"3000000"
    assert body == b"x" * 3_000_000


def test_trailers_arrive_when_the_client_takes_them(client: RawClient) -> None:
    client.send(request("/trailers", "TE: trailers", "Connection: TE"))
    received = client.receive_until(b"0\r\nx-sum: 42\r\n\r\n")
    assert b"5\r\nhello\r\n" in received


def test_trailers_are_dropped_when_the_client_does_not_take_them(client: RawClient) -> None:
    client.send(request("/trailers"))
    assert b"x-sum: 42" not in client.receive_until(b"0\r\n\r\n")


# Fields


@pytest.mark.parametrize("how", ["crlf", "lf", "cr", "nul"])
def test_line_end_in_a_response_field_becomes_a_500_and_the_log_has_its_name_only(
    server: Server, client: RawClient, how: str
) -> None:
    status, fields, body = ask(client, f"/split/{how}")
    assert status == 500
    assert not {b"x-bad", b"set-cookie", b"b"} & fields.keys()
    assert b"secret" not in body
    server.wait_error("response field b'x-bad': its value holds CR, LF or NUL")
    assert not [line for line in server.errors if "secret" in line]


def test_response_field_name_that_is_no_token_becomes_a_500(server: Server, client: RawClient) -> None:
    assert ask(client, "/bad_name")[0] == 500
    server.wait_error("response field name b'x bad: y' is not a token")


def test_response_fields_that_are_too_large_become_a_500_and_the_worker_lives(
    server: Server, client: RawClient
) -> None:
    assert ask(client, "/many_fields")[0] == 500
    server.wait_error("response fields of [0-9]+ bytes, at most 262144 allowed")
    assert ask(client, "/hello")[2] == b"hello"


def test_server_and_date_of_the_application_win(client: RawClient) -> None:
    client.send(request("/own"))
    head = client.receive_until(b"hello")
    assert head.count(b"server: ") == head.count(b"date: ") == 1
    assert b"server: mine\r\n" in head
    assert b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in head


def test_server_and_date_are_added_where_the_application_has_none(client: RawClient) -> None:
    _, fields, _ = ask(client, "/hello")
    assert fields[b"server"] == b"edge"
    assert fields[b"date"].endswith(b" GMT")


@pytest.mark.parametrize(("status", "line"), [(200, b"200 OK"), (404, b"404 Not Found"), (599, b"599 ")])
def test_reason_phrase_is_always_there(client: RawClient, status: int, line: bytes) -> None:
    client.send(request(f"/status/{status}"))
    start = client.receive_until(b"hello").split(b"\r\n")[0]
    assert start.startswith(b"HTTP/1.1 " + line)
    assert start.partition(b" %d " % status)[2]


@pytest.mark.parametrize("status", [99, 100, 101, 199, 600])
def test_status_that_is_not_final_becomes_a_500(client: RawClient, status: int) -> None:
    assert ask(client, f"/status/{status}")[0] == 500


# An application that fails


@pytest.mark.parametrize("path", ["/raise", "/nothing", "/exit", "/cancel"])
def test_application_that_raises_or_returns_before_the_start_gives_500_and_the_connection_lives(
    client: RawClient, path: str
) -> None:
    assert ask(client, path)[0] == 500
    assert ask(client, "/hello")[2] == b"hello"


def test_exception_is_logged_with_the_traceback_of_the_application_alone(server: Server, client: RawClient) -> None:
    ask(client, "/raise/tb")
    server.wait_error("RuntimeError: before the start")
    assert not [line for line in server.errors if 'edge_backend/worker.py"' in line]


def test_exception_in_the_middle_of_content_closes_the_connection(client: RawClient, other: RawClient) -> None:
    client.send(request("/mid_error/me"))
    client.receive_until(b"4\r\npart\r\n")
    ask(other, "/open/me")
    assert client.receive_rest() == b""


def test_return_in_the_middle_of_content_closes_the_connection_without_a_last_chunk(client: RawClient) -> None:
    client.send(request("/mid_return"))
    assert b"0\r\n\r\n" not in client.receive_rest()


# Content of requests


def test_100_continue_comes_when_the_application_reads(client: RawClient, other: RawClient) -> None:
    client.send(request("/upload/co", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    wait_seen(other, "co", 1)
    client.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(10)
    ask(other, "/open/co")
    assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert client.receive_response()[2] == b"[5, 5]"
    assert ask(client, "/hello")[2] == b"hello"


def test_answer_without_100_continue_closes_the_connection(client: RawClient) -> None:
    client.send(request("/hello", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    status, fields, body = client.receive_response()
    assert (status, fields[b"connection"], body) == (200, b"close", b"hello")
    assert client.receive_rest() == b""


def test_pipelined_requests_are_answered_in_order(client: RawClient) -> None:
    client.send(b"".join(request("/echo", f"Content-Length: {len(x)}", method="POST", body=x) for x in (b"1", b"22")))
    client.send(request("/hello"))
    assert [client.receive_response()[2] for _ in range(3)] == [b"1", b"22", b"hello"]


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_waits_until_the_application_reads(
    server: Server, authority: Authority, client: RawClient, other: RawClient, chunked: bool
) -> None:
    key = f"up{chunked:d}"
    total = 60_000_000
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total}"
    client.send(request(f"/upload/{key}", framing, method="POST"))
    wait_seen(other, key, 1)
    piece = b"x" * 1_000_000
    block = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    client.sock.settimeout(0.3)
    sent = send_until_stuck(client, block)
    # What is held: the sockets' buffers, one window, one read.
    assert sent < 20_000_000
    ask(other, f"/open/{key}")
    client.sock.settimeout(30)
    whole = block * (total // len(piece)) + (b"0\r\n\r\n" if chunked else b"")
    client.send(whole[sent:])
    size, largest = json.loads(client.receive_response()[2])
    assert size == total
    assert largest <= 512 * 1024


def test_download_waits_until_the_client_reads(client: RawClient, other: RawClient) -> None:
    client.send(request("/download/dl"))
    client.receive_until(b"\r\n\r\n")

    def stands_still() -> bool:
        before = len(seen(other, "dl"))
        asked = [len(seen(other, "dl")) for _ in range(30)]
        return before == asked[-1]

    wait_until(stands_still, "the application waits")
    assert len(seen(other, "dl")) < 150
    tail = b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        tail = tail[-7:] + client.sock.recv(1_000_000)
    wait_until(lambda: len(seen(other, "dl")) == 200, "the application sends the rest")


def test_answer_to_unread_content_reaches_the_client_and_the_connection_ends(client: RawClient) -> None:
    client.send(request("/hello", "Content-Length: 200001", method="POST") + b"x" * 200_000)
    status, fields, body = client.receive_response()
    assert (status, fields[b"connection"], body) == (200, b"close", b"hello")
    assert client.receive_rest() == b""


def test_background_work_after_the_answer_does_not_hold_up_the_next_request(
    client: RawClient, other: RawClient
) -> None:
    assert ask(client, "/background/bg")[2] == b"hello"
    assert ask(client, "/hello")[2] == b"hello"
    assert seen(other, "bg") == []
    ask(other, "/open/bg")
    assert wait_seen(other, "bg", 1) == ["background"]
