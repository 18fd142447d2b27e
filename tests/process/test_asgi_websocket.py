"""WebSocket over HTTP/1.1, one row of the table a test, end to end.

Without TLS: the client of `websockets` reads and writes in two threads, which Python's SSL objects do not bear. Other
clients speak it over TLS in tests/interop.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Opcode
from websockets.typing import Subprotocol

from tests.process.server import Authority, Server, serving, wait_until
from tests.process.sockets import Sockets, frame, receive_exactly, receive_frame, receive_head, wait_close

APPLICATION = Path(__file__).with_name("websocket_application.py").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("websocket"), APPLICATION) as running:
        yield running


@pytest.fixture
def sockets(server: Server) -> Sockets:
    return Sockets(server)


# The handshake


def test_scope_has_the_fields_of_its_type_alone(sockets: Sockets) -> None:
    with sockets.open("/scope?a=b") as connection:
        scope = json.loads(connection.recv())
    assert scope == {
        "type": "websocket",
        "scheme": "ws",
        "path": "/scope",
        "subprotocols": [],
        "http_version": "1.1",
        "extensions": {"websocket.http.response": {}},
        "others": ["asgi", "client", "headers", "query_string", "raw_path", "root_path", "server", "state"],
    }


def test_several_subprotocol_lines_all_reach_the_application(sockets: Sockets) -> None:
    lines = ["Sec-WebSocket-Protocol: one, two", "Sec-WebSocket-Protocol: three,"]
    with sockets.accepted("/scope", *lines) as client:
        head = receive_exactly(client, 4)
        scope = json.loads(receive_exactly(client, int.from_bytes(head[2:], "big")))
    assert scope["subprotocols"] == ["one", "two", "three"]


def test_subprotocol_and_fields_of_accept_reach_the_client(sockets: Sockets) -> None:
    with sockets.open("/subprotocol", subprotocols=[Subprotocol("a"), Subprotocol("chat")]) as connection:
        assert connection.subprotocol == "chat"
        assert connection.response is not None
        assert connection.response.headers["x-mine"] == "1"


@pytest.mark.parametrize("version", ["8", "12", "14"])
def test_wrong_version_is_answered_with_426_and_the_right_one(sockets: Sockets, version: str) -> None:
    with sockets.open_raw("/echo", version=version) as client:
        status, fields, _ = client.receive_response()
    assert status == 426
    assert fields[b"sec-websocket-version"] == b"13"


def test_fields_of_the_connection_are_the_edges_own(sockets: Sockets) -> None:
    with sockets.open_raw("/own_headers") as client:
        head = client.receive_until(b"\r\n\r\n")
    assert head.count(b"sec-websocket-accept: ") == 1
    assert head.count(b"connection: ") == 1
    assert b"sec-websocket-accept: mine" not in head
    assert b"set-cookie: a=b\r\n" in head


def test_line_end_in_a_field_of_accept_becomes_a_500(sockets: Sockets) -> None:
    with sockets.open_raw("/bad_header") as client:
        status, fields, _ = client.receive_response()
    assert status == 500
    assert b"set-cookie" not in fields


@pytest.mark.parametrize(
    ("path", "status"), [("/raises_early", 500), ("/returns_early", 500), ("/refuses/rf", 403), ("/denies_half", 500)]
)
def test_application_that_does_not_accept_gives_a_status(sockets: Sockets, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        sockets.open(path)
    assert refusal.value.response.status_code == status


def test_close_before_accept_gives_the_application_1006(sockets: Sockets) -> None:
    with pytest.raises(InvalidStatus):
        sockets.open("/refuses/r6")
    assert sockets.wait_seen("r6", 1) == [["websocket.disconnect", 1006, ""]]


def test_denial_response_arrives_whole_and_the_connection_lives(sockets: Sockets) -> None:
    with sockets.open_raw("/denies/dn") as client:
        data = client.receive_until(b"0\r\n\r\n")
        client.send(b"GET /seen/dn HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"after the handshake was refused" in client.receive_response()[2]
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nwww-authenticate: Basic\r\n" in head
    assert b"upgrade" not in head.lower()
    assert body == b"4\r\nnot \r\n3\r\nyou\r\n0\r\n\r\n"


def test_messages_in_the_wrong_order_raise_at_the_call(sockets: Sockets) -> None:
    with sockets.open("/order/od") as connection:
        assert wait_close(connection) == (1000, "")
    names = [entry[0] for entry in sockets.wait_seen("od", 7)]
    assert names == ["ApplicationError"] * 7


# Messages


@pytest.mark.parametrize(
    "message", ["", "text", "ünïcödé \U0001f600", b"", b"\x00\xff", "x" * 200_000, bytes(3_000_000)]
)
@pytest.mark.parametrize("compression", ["deflate", None])
def test_message_comes_back_as_it_was(sockets: Sockets, message: str | bytes, compression: str | None) -> None:
    with sockets.open("/echo", compression=compression, max_size=None) as connection:
        connection.send(message)
        assert connection.recv(timeout=10) == message


def test_permessage_deflate_is_negotiated_when_the_client_offers_it(sockets: Sockets) -> None:
    with sockets.open("/echo") as connection:
        assert connection.response is not None
        assert connection.response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
    with sockets.open("/echo", compression=None) as connection:
        assert connection.response is not None
        assert "sec-websocket-extensions" not in connection.response.headers


def test_permessage_deflate_can_be_switched_off(tmp_path: Path) -> None:
    with (
        serving(tmp_path, APPLICATION, "--no-ws-per-message-deflate") as server,
        Sockets(server).open("/echo") as connection,
    ):
        assert connection.response is not None
        assert "sec-websocket-extensions" not in connection.response.headers
        connection.send("plain")
        assert connection.recv(timeout=10) == "plain"


def test_ping_between_fragments_is_answered_and_the_message_stays_whole(sockets: Sockets) -> None:
    with sockets.accepted("/echo") as client:
        client.send(frame(Opcode.TEXT, b"one ", fin=False))
        client.send(frame(Opcode.PING, b"now"))
        assert receive_frame(client) == (Opcode.PONG, b"now")
        client.send(frame(Opcode.CONT, b"two"))
        assert receive_frame(client) == (Opcode.TEXT, b"one two")


def test_multibyte_character_in_two_fragments_stays_whole(sockets: Sockets) -> None:
    data = "é".encode()
    with sockets.accepted("/echo") as client:
        client.send(frame(Opcode.TEXT, data[:1], fin=False) + frame(Opcode.CONT, data[1:]))
        assert receive_frame(client) == (Opcode.TEXT, data)


def test_frames_that_come_with_the_handshake_are_read(sockets: Sockets) -> None:
    with sockets.open_raw("/echo") as client:
        client.send(frame(Opcode.TEXT, b"early"))
        assert receive_head(client).startswith(b"HTTP/1.1 101 ")
        assert receive_frame(client) == (Opcode.TEXT, b"early")


# What the client does wrong


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(Opcode.TEXT, b"\xff\xfe"), 1007, id="invalid UTF-8"),
        pytest.param(frame(Opcode.TEXT, b"hello", masked=False), 1002, id="unmasked"),
        pytest.param(frame(Opcode.TEXT, b"hello", rsv=2), 1002, id="RSV2"),
        pytest.param(frame(Opcode.TEXT, b"hello", rsv=4), 1002, id="RSV1 without an extension"),
        pytest.param(frame(3, b"hello"), 1002, id="reserved opcode"),
        pytest.param(frame(Opcode.CONT, b"hello"), 1002, id="continuation of nothing"),
        pytest.param(frame(Opcode.PING, b"x" * 126), 1002, id="large ping"),
        pytest.param(frame(Opcode.PING, b"x", fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(Opcode.CLOSE, b"\x03"), 1002, id="close of one byte"),
        pytest.param(frame(Opcode.CLOSE, struct.pack("!H", 1005)), 1002, id="close with 1005"),
        pytest.param(frame(Opcode.CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007, id="reason that is not UTF-8"),
    ],
)
def test_frame_that_breaks_the_protocol_is_answered_with_a_code_and_the_end(
    sockets: Sockets, data: bytes, code: int
) -> None:
    with sockets.accepted("/echo") as client:
        client.send(data)
        opcode, content = receive_frame(client)
        assert (opcode, int.from_bytes(content[:2], "big")) == (Opcode.CLOSE, code)
        started_at = time.monotonic()
        assert client.receive_rest() == b""
        assert time.monotonic() - started_at < 2


def test_application_learns_of_a_broken_protocol(sockets: Sockets) -> None:
    with sockets.accepted("/note/bp") as client:
        client.send(frame(Opcode.TEXT, b"hello", masked=False))
        [_, (kind, code, _)] = sockets.wait_seen("bp", 2)
    assert (kind, code) == ("websocket.disconnect", 1002)


@pytest.mark.parametrize("size", [16 * 1024 * 1024 + 1, 2**40])
def test_message_above_the_limit_is_answered_with_1009(sockets: Sockets, size: int) -> None:
    with sockets.accepted("/echo") as client:
        client.send(bytes([0x80 | Opcode.BINARY, 0xFF]) + struct.pack("!Q", size) + b"\0\0\0\0")
        opcode, content = receive_frame(client)
    assert (opcode, int.from_bytes(content[:2], "big")) == (Opcode.CLOSE, 1009)


def test_fragments_above_the_limit_together_are_answered_with_1009(tmp_path: Path) -> None:
    with (
        serving(tmp_path, APPLICATION, "--ws-max-size", "1000") as server,
        Sockets(server).accepted("/echo") as client,
    ):
        client.send(frame(Opcode.BINARY, bytes(600), fin=False) + frame(Opcode.CONT, bytes(600)))
        opcode, content = receive_frame(client)
    assert (opcode, int.from_bytes(content[:2], "big")) == (Opcode.CLOSE, 1009)


def test_compressed_message_that_unpacks_above_the_limit_is_answered_with_1009(
    tmp_path: Path,
) -> None:
    with (
        serving(tmp_path, APPLICATION, "--ws-max-size", "1000") as server,
        Sockets(server).open("/echo", max_size=None) as connection,
    ):
        connection.send("x" * 100_000)
        assert wait_close(connection)[0] == 1009


# Closing


def test_code_and_reason_of_the_client_reach_the_application(sockets: Sockets) -> None:
    with sockets.open("/note/cr") as connection:
        connection.close(4002, "why")
    assert sockets.wait_seen("cr", 2)[1] == ["websocket.disconnect", 4002, "why"]


def test_close_without_code_reaches_the_application_as_1005(sockets: Sockets) -> None:
    with sockets.accepted("/note/nc") as client:
        client.send(frame(Opcode.CLOSE, b""))
        assert receive_frame(client) == (Opcode.CLOSE, b"")
        assert client.receive_rest() == b""
    assert sockets.wait_seen("nc", 2)[1] == ["websocket.disconnect", 1005, ""]


@pytest.mark.parametrize("how", ["RST", "end of TCP"])
def test_loss_of_the_connection_reaches_the_application_as_1006(sockets: Sockets, how: str) -> None:
    client = sockets.accepted(f"/note/lost {how}".replace(" ", "-"))
    if how == "RST":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()
    assert sockets.wait_seen(f"lost-{how}".replace(" ", "-"), 2)[1] == ["websocket.disconnect", 1006, ""]


def test_end_of_tls_reaches_the_application_as_1006(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, APPLICATION, authority=authority) as server:
        sockets = Sockets(server, authority.client_context())
        client = sockets.accepted("/note/lost-tls")
        assert isinstance(client.sock, ssl.SSLSocket)
        client.sock.settimeout(1)
        client.sock.unwrap()
        client.sock.close()
        assert sockets.wait_seen("lost-tls", 2)[1] == ["websocket.disconnect", 1006, ""]


def test_send_after_disconnect_raises_oserror(sockets: Sockets) -> None:
    with sockets.open("/after/sd") as connection:
        connection.close(1001, "")
    noted = sockets.wait_seen("sd", 5)[1:]
    assert noted[0] == ["websocket.disconnect", 1001, ""]
    assert noted[1][0] == "websocket.disconnect"
    assert [name for name, _ in noted[2:]] == ["ClientDisconnected", "ClientDisconnected"]


def test_code_and_reason_of_the_application_reach_the_client(sockets: Sockets) -> None:
    with sockets.open("/close/ca") as connection:
        assert wait_close(connection) == (4001, "bye")
    noted = sockets.wait_seen("ca", 2)
    assert noted[0] == ["websocket.disconnect", 4001, "bye"]
    assert noted[1][0] == "ClientDisconnected"


@pytest.mark.parametrize(("path", "code"), [("/close_plain", 1000), ("/returns", 1000), ("/raises", 1011)])
def test_end_of_the_application_closes_with_a_code(sockets: Sockets, path: str, code: int) -> None:
    with sockets.open(path) as connection:
        with pytest.raises(ConnectionClosedOK if code == 1000 else ConnectionClosedError):
            connection.recv(timeout=10)
        assert connection.close_code == code


@pytest.mark.parametrize("path", ["/returns", "/raises", "/close/ct"])
def test_tcp_connection_ends_as_soon_as_the_client_has_answered_the_close(sockets: Sockets, path: str) -> None:
    with sockets.accepted(path) as client:
        _, content = receive_frame(client)
        client.send(frame(Opcode.CLOSE, content[:2]))
        started_at = time.monotonic()
        assert client.receive_rest() == b""
        assert time.monotonic() - started_at < 2


def test_websocket_is_in_the_access_log_with_101(server: Server, sockets: Sockets) -> None:
    with sockets.open("/echo/log?a=b") as connection:
        connection.send("hello")
        connection.recv(timeout=10)
    line = wait_until(
        lambda: next((line for line in server.access_lines() if line["target"] == "/echo/log?a=b"), None), "a line"
    )
    assert line["status"] == 101


# Keep-alive, back-pressure, drain


def test_pings_keep_an_answering_client_and_drop_a_silent_one(tmp_path: Path) -> None:
    arguments = ("--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.3")
    with serving(tmp_path, APPLICATION, *arguments) as server:
        sockets = Sockets(server)
        with sockets.open("/echo") as answering, sockets.accepted("/echo/pi") as silent:
            opcode, data = receive_frame(silent)
            assert opcode == Opcode.PING
            silent.send(frame(Opcode.PONG, data))
            assert receive_frame(silent)[0] == Opcode.PING
            opcode, content = receive_frame(silent)
            assert (opcode, content[:2]) == (Opcode.CLOSE, struct.pack("!H", 1011))
            assert silent.receive_rest() == b""
            answering.send("still here")
            assert answering.recv(timeout=10) == "still here"
            assert sockets.wait_seen("pi", 1)[0][:2] == ["websocket.disconnect", 1011]


def test_application_waits_for_a_client_that_does_not_read(sockets: Sockets) -> None:
    with sockets.accepted("/flood/fl") as client:

        def stands_still() -> bool:
            before = len(sockets.wait_seen("fl", 1))
            return [len(sockets.wait_seen("fl", 1)) for _ in range(10)][-1] == before

        wait_until(stands_still, "the application waits")
        assert len(sockets.wait_seen("fl", 1)) < 150
        left = 200 * (100_000 + 10)  # each with the header of its frame
        while left:
            left -= len(client.sock.recv(min(left, 1 << 20)))
        assert len(sockets.wait_seen("fl", 200)) == 200


def test_client_waits_for_an_application_that_does_not_read(sockets: Sockets) -> None:
    with sockets.accepted("/slow/sw") as client:
        client.sock.settimeout(0.3)
        message = frame(Opcode.BINARY, bytes(10_000))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 60_000_000:
                sent += client.sock.send(message[sent % len(message) :])
        # What is held: the sockets' buffers, one window, one read, and what waits for the application.
        assert sent < 20_000_000
        with sockets.open("/go"):
            pass
        client.sock.close()
        [count] = sockets.wait_seen("sw", 1)
    assert count > 0


def test_large_message_of_the_application_arrives_whole(sockets: Sockets) -> None:
    with sockets.open("/large", max_size=None) as connection:
        assert connection.recv(timeout=10) == bytes(5_000_000)


def test_drain_closes_websockets_with_1012_and_the_server_ends(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        with Sockets(server).open("/echo") as connection:
            connection.send("hello")
            assert connection.recv(timeout=10) == "hello"
            server.process.terminate()
            assert wait_close(connection) == (1012, "")
        assert server.wait_end(10) == 0


def test_refused_handshake_leaves_the_others_alone(sockets: Sockets) -> None:
    with sockets.open("/echo") as connection:
        with pytest.raises(InvalidStatus):
            sockets.open("/refuses")
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"
