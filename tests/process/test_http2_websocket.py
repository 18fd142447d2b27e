"""WebSockets over HTTP/2 (RFC 8441), by a client of `h2` and the frames of `websockets`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.frames import Opcode

from tests.process.http2_client import NO_ERROR, Http2Client
from tests.process.http2_websocket import Socket
from tests.process.server import Authority, Server, serving, wait_until

SOURCE = (Path(__file__).parent / "websocket_application.py").read_text()


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("websocket")
    with serving(folder, SOURCE, "--drain-timeout", "1", authority=authority) as server:
        yield server


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[Http2Client]:
    with Http2Client(server, authority) as client:
        yield client


def test_server_announces_it(client: Http2Client) -> None:
    client.ask("/seen")
    assert client.h2.remote_settings.enable_connect_protocol == 1


def test_messages_are_echoed_beside_other_requests(client: Http2Client) -> None:
    socket, other = Socket(client, "/echo"), Socket(client, "/echo")
    assert socket.answer.status == 200
    assert b"sec-websocket-accept" not in socket.answer.fields
    for content in (b"", b"text", b"x" * 200_000):
        socket.protocol.send_text(content)
        socket.send()
        frame = socket.receive()
        assert (frame.opcode, frame.data) == (Opcode.TEXT, content)
    other.protocol.send_binary(b"\0\xff")
    other.send()
    assert other.receive().data == b"\0\xff"
    assert client.ask("/seen").status == 200


def test_pings_are_answered(client: Http2Client) -> None:
    socket = Socket(client, "/echo")
    socket.protocol.send_ping(b"data")
    socket.send()
    frame = socket.receive()
    assert (frame.opcode, frame.data) == (Opcode.PONG, b"data")


def test_messages_are_compressed_when_that_was_agreed_on(client: Http2Client) -> None:
    agreed = b"permessage-deflate; client_no_context_takeover; server_no_context_takeover"
    socket = Socket(client, "/echo", (b"sec-websocket-extensions", agreed))
    assert socket.answer.fields[b"sec-websocket-extensions"].startswith(b"permessage-deflate")
    socket.protocol.send_text(b"a" * 10_000)
    socket.send()
    assert socket.receive().data == b"a" * 10_000
    assert len(socket.answer.body) < 1000


def test_close_of_the_client_is_answered_and_ends_the_stream(client: Http2Client) -> None:
    socket = Socket(client, "/echo/closed")
    socket.protocol.send_close(4000, "bye")
    socket.send()
    frame = socket.receive()
    assert (frame.opcode, frame.data) == (Opcode.CLOSE, b"\x0f\xa0bye")
    answer = client.wait(socket.number)
    assert (answer.is_whole, answer.reset in (None, NO_ERROR)) == (True, True)
    seen = wait_until(lambda: client.ask("/seen/closed").json(), "the application sees the close")
    assert seen == [["websocket.disconnect", 4000, "bye"]]


def test_close_of_the_application_reaches_the_client(client: Http2Client) -> None:
    socket = Socket(client, "/close")
    frame = socket.receive()
    assert (frame.opcode, frame.data) == (Opcode.CLOSE, b"\x0f\xa1bye")
    socket.send()  # the close that answers it
    assert client.wait(socket.number).is_whole


def test_reset_by_the_client_is_a_disconnect_and_others_live_on(client: Http2Client) -> None:
    socket, other = Socket(client, "/note/reset"), Socket(client, "/echo")
    client.reset(socket.number)
    seen = wait_until(lambda: client.ask("/seen/reset").json()[1:], "the application sees the end")
    assert seen[0][:2] == ["websocket.disconnect", 1006]
    other.protocol.send_text(b"lives")
    other.send()
    assert other.receive().data == b"lives"


def test_refusal_is_an_answer(client: Http2Client) -> None:
    socket = Socket(client, "/refuses")
    assert socket.answer.status == 403
    denied = Socket(client, "/denies")
    answer = client.wait(denied.number)
    assert (answer.status, answer.body, answer.fields[b"www-authenticate"]) == (401, b"not you", b"Basic")


def test_subprotocol_and_fields_of_the_application_are_in_the_answer(client: Http2Client) -> None:
    socket = Socket(client, "/subprotocol", (b"sec-websocket-protocol", b"chat, superchat"))
    assert socket.answer.fields[b"sec-websocket-protocol"] == b"superchat"
    assert socket.answer.fields[b"x-mine"] == b"1"
    own = Socket(client, "/own_headers")
    assert own.answer.fields[b"set-cookie"] == b"a=b"
    assert {b"sec-websocket-accept", b"connection", b"upgrade"}.isdisjoint(own.answer.fields)


def test_scope_is_that_of_a_websocket(client: Http2Client) -> None:
    scope = json.loads(bytes(Socket(client, "/scope").receive().data))
    assert (scope["type"], scope["scheme"], scope["path"], scope["http_version"]) == ("websocket", "wss", "/scope", "2")


@pytest.mark.parametrize(
    ("replaced", "status"),
    [
        pytest.param((b":method", b"GET"), 400, id="not-connect"),
        pytest.param((b":protocol", b"connect-udp"), 501, id="another-protocol"),
        pytest.param((b"sec-websocket-version", b"8"), 426, id="another-version"),
    ],
)
def test_request_that_is_no_websocket_is_refused(
    client: Http2Client, replaced: tuple[bytes, bytes], status: int
) -> None:
    fields = {
        b":method": b"CONNECT",
        b":protocol": b"websocket",
        b":scheme": b"https",
        b":authority": b"localhost",
        b":path": b"/echo",
        b"sec-websocket-version": b"13",
    }
    number = client.begin_with(list((fields | dict([replaced])).items()), end=False)
    assert client.wait(number).status == status


def test_plain_connect_is_no_way_through(client: Http2Client) -> None:
    number = client.begin_with([(b":method", b"CONNECT"), (b":authority", b"localhost:25")], end=False)
    assert client.wait(number).status == 405


def test_what_the_client_does_not_read_stops_its_own_socket(client: Http2Client) -> None:
    flood = Socket(client, "/flood/flood")
    client.unread.add(flood.number)
    other = Socket(client, "/echo")
    for _ in range(20):
        other.protocol.send_text(b"lives")
        other.send()
        assert other.receive().data == b"lives"
    assert len(client.ask("/seen/flood").json()) < 50
