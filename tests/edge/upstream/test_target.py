"""An upstream with real servers behind it: answers, content and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import trustme

from edge.http.websocket import accept_key
from edge.upstream.connection import CLOSE_TIMEOUT
from edge.upstream.frames import CLOSE
from edge_backend import wire
from edge_certs.trust.store import TrustStore
from edge_certs.x509 import parse_chain
from tests.edge.dispatch.ends import MemoryClient
from tests.edge.upstream.ends import OK, MakeCase, Servers, until, with_servers


@with_servers
async def test_answer_comes_back_and_the_connection_is_used_again(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(OK)))
    assert [await of.get() for _ in range(3)] == [(200, b"ok")] * 3
    assert servers.connections == [1]
    assert of.row() == {"up": True, "requests": 3, "in_flight": 0, "connections": 1}
    assert servers.heads[0] == b"GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n"


@with_servers
async def test_connection_that_is_not_kept_is_not_used_again(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(OK)), keepalive_timeout=0.0)
    assert [await of.get() for _ in range(2)] == [(200, b"ok")] * 2
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    other = case(await servers.add(servers.answering(closing)))
    assert [await other.get() for _ in range(2)] == [(200, b"ok")] * 2
    assert servers.connections == [2, 2]


@with_servers
async def test_unused_connection_is_closed_in_time(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(OK)), keepalive_timeout=4.0)
    await of.get()
    of.upstream.sweep(monotonic() + 3.0)
    assert of.row()["connections"] == 1
    of.upstream.sweep(monotonic() + 4.5)
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_server_on_a_unix_socket_and_the_route_left_out(servers: Servers, case: MakeCase, tmp_path: Path) -> None:
    address = await servers.add(servers.answering(OK), path=str(tmp_path / "s"))
    of = case(address, prefix=b"/x", send_host="upstream")
    assert await of.get() == (200, b"ok")
    assert servers.heads[0] == b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@with_servers
async def test_https_is_checked_against_the_root_and_the_name(servers: Servers, case: MakeCase, tmp_path: Path) -> None:
    authority, root = trustme.CA(), tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("app.internal").configure_cert(context)
    address = await servers.add(servers.answering(OK), ssl=context)
    assert await case(address, ca_root=str(root), tls_name="app.internal").get() == (200, b"ok")
    status, reason = (await case(address, ca_root=str(root)).get())[1:]
    assert (status, reason.partition(": cannot connect: ")[2]) == (
        502,
        "certificate verify failed: hostname mismatch, certificate is not valid for 'localhost'; "
        "name the one that it is for with tls_name",
    )
    home = {"EDGE_HOME": str(tmp_path / "home")}
    status, reason = (await case(address, tls_name="app.internal", environ=home).get())[1:]
    assert (status, reason.partition(": cannot connect: ")[2]) == (
        502,
        "certificate verify failed: unable to get local issuer certificate; "
        "add its root with edge trust add, or name it with ca_root",
    )
    (certificate,) = parse_chain(root.read_bytes())
    TrustStore(tmp_path / "home").add([certificate], "corp", datetime.now(UTC), "")
    assert await case(address, tls_name="app.internal", environ=home).get() == (200, b"ok")
    # Roots that are named count alone.
    trustme.CA().cert_pem.write_to_path(str(root))
    status, reason = (await case(address, ca_root=str(root), tls_name="app.internal", environ=home).get())[1:]
    assert (status, "certificate verify failed" in reason) == (502, True)


@with_servers
async def test_certificate_that_is_over_is_told_as_that(servers: Servers, case: MakeCase, tmp_path: Path) -> None:
    authority, root = trustme.CA(), tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", not_after=datetime(2021, 1, 1, tzinfo=UTC)).configure_cert(context)
    of = case(await servers.add(servers.answering(OK), ssl=context), ca_root=str(root))
    status, reason = (await of.get())[1:]
    assert (status, reason.partition(": cannot connect: ")[2]) == (
        502,
        "certificate verify failed: certificate has expired",
    )


@with_servers
async def test_trailers_come_with_the_end_of_content_that_is_taken_whole(servers: Servers, case: MakeCase) -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n"
    of = case(await servers.add(servers.answering(chunked)))
    for trailers in ([b"x-sum", b"42"], []):
        of.submit(trailers=bool(trailers))
        assert [call[-1] for call in await of.wait(3)] == [b"ok", trailers, "finished"]
    assert servers.connections == [1]


@with_servers
async def test_trailers_of_an_answer_that_the_client_refuses_are_left(servers: Servers, case: MakeCase) -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n"
    of = case(await servers.add(servers.answering(chunked)))
    of.client.refuses_answers = True
    of.submit(trailers=True)
    assert [call[0] for call in await of.wait(1)] == ["abort"]
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_content_goes_up_within_credit_and_comes_down_within_the_window(servers: Servers, case: MakeCase) -> None:
    size = 3 * wire.INITIAL_WINDOW

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        content = await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + content)

    of = case(await servers.add(echo))
    of.client.congested = True
    item = of.submit(b"POST", length=size, complete=False)
    for _ in range(3):
        await until(lambda: item._pending == b"" and item.link is not None)
        item.feed(b"x" * wire.INITIAL_WINDOW, item.content_read == 2 * wire.INITIAL_WINDOW)
    await until(lambda: of.client.calls and of.client.calls[-1][0] in ("response", "data"))
    # The client takes nothing: not much more than the window comes, one read of a socket at most.
    before = taken = 0
    while ("finished",) not in of.client.calls:
        await asyncio.sleep(0.01)
        now = content_of(of.client)
        if now == before:
            assert now - taken <= 2 * wire.INITIAL_WINDOW
            taken = now
            item.settle()
        before = now
    assert content_of(of.client) == size


def content_of(client: MemoryClient) -> int:
    """Return how much content a client has got."""
    return sum(len(call[-1]) for call in client.calls if call[0] in ("response", "data"))


@with_servers
async def test_content_of_unknown_length_goes_up_in_chunks(servers: Servers, case: MakeCase) -> None:
    got: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        got.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(OK)

    of = case(await servers.add(keep))
    item = of.submit(b"POST", length=-1, complete=False, expect=True)
    # The client waits for 100 Continue, which it gets as soon as there is a connection.
    await until(lambda: ("continue",) in of.client.calls)
    item.feed(b"hello", False)
    item.feed(b"", True)
    await until(lambda: ("finished",) in of.client.calls)
    assert got == [b"5\r\nhello\r\n0\r\n\r\n"]


@with_servers
async def test_answer_before_the_content_is_whole_ends_the_connection(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(b"HTTP/1.1 413 \r\ncontent-length: 0\r\n\r\n")))
    of.submit(b"POST", length=10, complete=False)
    assert [call[:2] for call in await of.wait(2)] == [("response", 413), ("finished",)]
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_answer_of_a_server_that_hangs_up_on_an_upload_is_heard(servers: Servers, case: MakeCase) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        sock = writer.get_extra_info("socket")
        # Both are there, the answer and the end by a reset, before the edge looks at either.
        os.write(sock.fileno(), b"HTTP/1.1 413 \r\ncontent-length: 3\r\n\r\nbig")
        item.link._transport.pause_reading()  # type: ignore[union-attr]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(item.feed, bytes(1000), False)
        await until(lambda: of.client.calls != [])

    of = case(await servers.add(refuse))
    item = of.submit(b"POST", length=1 << 20, complete=False)
    calls = await of.wait(2)
    assert [call[:2] for call in calls] == [("response", 413), ("finished",)]


@with_servers
async def test_content_that_the_server_never_takes_does_not_outlive_its_answer(
    servers: Servers, case: MakeCase
) -> None:
    gate, ended = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await servers.read_head(reader)
        await gate.wait()
        writer.write(b"HTTP/1.1 413 \r\ncontent-length: 0\r\n\r\n")
        await ended.wait()

    of = case(await servers.add(refuse))
    item = of.submit(b"POST", length=1 << 30, complete=False)
    await until(lambda: item.link is not None)
    while item.link is not None and not item.link._is_full:  # type: ignore[attr-defined]
        item.feed(bytes(wire.MAX_DATA), False)
        await asyncio.sleep(0)
    gate.set()
    await until(lambda: ("finished",) in of.client.calls and of.row()["connections"] == 0)
    ended.set()


@with_servers
async def test_websocket_is_carried_both_ways(servers: Servers, case: MakeCase) -> None:
    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await servers.read_head(reader)
        key = head.partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
        accept = b"x" if key == b"" else accept_key(key)
        writer.write(b"HTTP/1.1 101 x\r\nsec-websocket-protocol: chat\r\nsec-websocket-accept: %b\r\n\r\n" % accept)
        writer.write(b"<" + await reader.readexactly(4) + b">")

    of = case(await servers.add(socket))
    item = of.submit(upgrade=b"key of the client")
    assert (await of.wait(1))[0] == ("upgrade", [b"sec-websocket-protocol", b"chat"])
    item.feed(b"ping", False)
    await until(lambda: ("finished",) in of.client.calls)
    assert b"".join(call[1] for call in of.client.calls if call[0] == "data") == b"<ping>"


async def shake_hands(servers: Servers, reader: asyncio.StreamReader) -> bytes:
    """Read a handshake; return its answer."""
    head = await servers.read_head(reader)
    key = head.partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
    return b"HTTP/1.1 101 x\r\nsec-websocket-accept: %b\r\n\r\n" % accept_key(key)


def data_of(client: MemoryClient) -> bytes:
    """Return the bytes that a client has got on its WebSocket."""
    return b"".join(call[1] for call in client.calls if call[0] == "data")


@with_servers
async def test_what_a_server_says_with_its_handshake_reaches_the_client(servers: Servers, case: MakeCase) -> None:
    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await shake_hands(servers, reader) + b"\x81\x05hello")
        await reader.read()

    of = case(await servers.add(socket))
    of.submit(upgrade=b"key of the client")
    await until(lambda: data_of(of.client) == b"\x81\x05hello")
    assert [call[0] for call in of.client.calls if call[0] != "want"] == ["upgrade", "data"]


CLIENTS_CLOSE = b"\x88\x82\0\0\0\0\x03\xf4"


@with_servers
async def test_websocket_is_closed_with_1012_between_two_frames_when_the_edge_goes_away(
    servers: Servers, case: MakeCase
) -> None:
    proceed, got = asyncio.Event(), bytearray()

    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await shake_hands(servers, reader) + b"\x81\x05hel")
        await proceed.wait()
        writer.write(b"lo\x81\x03too")
        got.extend(await reader.readexactly(len(CLIENTS_CLOSE)))
        writer.write(b"\x88\x02\x03\xf4")

    of = case(await servers.add(socket))
    item = of.submit(upgrade=b"key of the client")
    await until(lambda: data_of(of.client) == b"\x81\x05hel")
    of.upstream.drain()
    assert data_of(of.client) == b"\x81\x05hel"
    proceed.set()
    await until(lambda: data_of(of.client) == b"\x81\x05hello" + CLOSE)
    of.upstream.drain()  # once is enough
    item.feed(CLIENTS_CLOSE, False)
    await until(lambda: ("finished",) in of.client.calls)
    assert (bytes(got), data_of(of.client)) == (CLIENTS_CLOSE, b"\x81\x05hello" + CLOSE)
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_websocket_that_begins_when_the_edge_goes_away_is_closed_at_once(
    servers: Servers, case: MakeCase
) -> None:
    proceed = asyncio.Event()

    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await shake_hands(servers, reader)
        await proceed.wait()
        writer.write(answer)
        await reader.read()

    of = case(await servers.add(socket))
    of.submit(upgrade=b"key of the client")
    await until(lambda: of.row()["in_flight"] == 1)
    of.upstream.drain()
    proceed.set()
    await until(lambda: data_of(of.client) == CLOSE)


@with_servers
async def test_websocket_that_nobody_closes_is_ended_in_the_end(servers: Servers, case: MakeCase) -> None:
    ended = asyncio.Event()

    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # More than the window holds: what nobody gets any more must not fill it.
        writer.write(await shake_hands(servers, reader) + b"\x81\x7e\xff\xff" + b"x" * 65535)
        with contextlib.suppress(ConnectionError):
            while not ended.is_set():
                writer.write(b"\x81\x7e\xff\xff" + b"x" * 65535)
                await writer.drain()
        ended.set()

    of = case(await servers.add(socket))
    of.submit(upgrade=b"key of the client")
    await until(lambda: data_of(of.client) != b"")
    of.upstream.drain()
    await until(lambda: data_of(of.client)[-4:] == CLOSE)
    of.upstream.sweep(monotonic() + CLOSE_TIMEOUT - 1)
    assert ("finished",) not in of.client.calls
    of.upstream.sweep(monotonic() + CLOSE_TIMEOUT + 1)
    assert ("finished",) in of.client.calls
    await ended.wait()
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_websocket_whose_client_ends_it_ends_at_the_server(servers: Servers, case: MakeCase) -> None:
    ended = asyncio.Event()

    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await servers.read_head(reader)
        key = head.partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
        writer.write(b"HTTP/1.1 101 x\r\nsec-websocket-accept: %b\r\n\r\n" % accept_key(key))
        assert await reader.read() == b"bye"
        ended.set()

    of = case(await servers.add(socket))
    item = of.submit(upgrade=b"key of the client")
    await of.wait(1)
    item.feed(b"bye", True)
    await ended.wait()


@with_servers
async def test_websocket_over_http_2_that_its_client_ends_ends_cleanly_and_may_be_silent(
    servers: Servers, case: MakeCase
) -> None:
    async def socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await shake_hands(servers, reader))
        assert await reader.read() == CLIENTS_CLOSE

    of = case(await servers.add(socket), idle_timeout=60.0)
    item = of.submit(upgrade=b"key of the client")
    await of.wait(1)
    item.status = 200  # as HTTP/2 says it
    of.upstream.sweep(monotonic() + 61.0)
    assert [call for call in of.client.calls if call[0] != "want"] == []
    item.feed(CLIENTS_CLOSE, True)
    assert await of.wait(2) == [("end", []), ("finished",)]
    await until(lambda: of.row()["connections"] == 0)


@with_servers
async def test_proof_of_another_key_is_refused(servers: Servers, case: MakeCase) -> None:
    of = case(await servers.add(servers.answering(b"HTTP/1.1 101 x\r\nsec-websocket-accept: x\r\n\r\n")))
    of.submit(upgrade=b"key of the client")
    [(name, status, reason, _)] = await of.wait(1)
    assert (name, status, "does not answer the key" in reason) == ("refuse", 502, True)
