"""The server's side of TLS in memory, against the client of Python's `ssl`."""

from __future__ import annotations

import os
import random
import ssl

import pytest

from edge.tls.channel import PlainHttpError, State, TlsChannel, TlsError
from edge.tls.contexts import TlsServer
from tests.edge.tls.pair import Client, TestAuthority


@pytest.fixture
def client(server: TlsServer, authority: TestAuthority) -> Client:
    return Client(server, authority.client_context()).connect()


# Data.


def test_data_goes_both_ways(client: Client) -> None:
    assert client.channel.receive(client.encrypt(b"ping")) == b"ping"
    assert client.decrypt(client.channel.write(b"pong")) == b"pong"


@pytest.mark.parametrize("last", [1, 20, 2500, 5000])
def test_record_split_over_two_reads_is_read_whole(client: Client, last: int) -> None:
    record = client.encrypt(b"x" * 5000)
    assert client.channel.receive(record[:-last]) == b""
    assert client.channel.receive(record[-last:]) == b"x" * 5000


def test_record_that_ends_in_a_read_with_others_behind_it_is_read_whole(client: Client) -> None:
    record, next_records = client.encrypt(b"x" * 5000), client.encrypt(b"y") + client.encrypt(b"z" * 3000)
    assert client.channel.receive(record[:-20]) == b""
    assert client.channel.receive(record[-20:] + next_records) == b"x" * 5000 + b"y" + b"z" * 3000


def test_large_data_comes_in_whole_in_reads_of_any_size(client: Client) -> None:
    content = os.urandom(1024 * 1024)
    sent = client.encrypt(content)
    sizes = random.Random(1)
    received, start = [], 0
    while start < len(sent):
        end = start + sizes.choice((1, 7, 1400, 16384, 65536, 262144))
        received.append(client.channel.receive(sent[start:end]))
        start = end
    assert b"".join(received) == content


def test_large_data_goes_out_in_pieces(client: Client) -> None:
    content = os.urandom(1024 * 1024)
    pieces = client.channel.write_large(content)
    assert len(pieces) == 16
    assert client.decrypt(b"".join(pieces)) == content


def test_request_that_comes_with_the_end_of_the_handshake_is_read(server: TlsServer, authority: TestAuthority) -> None:
    client = Client(server, authority.client_context())
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    assert client.channel.receive(client.outgoing.read()) == b""
    client.incoming.write(client.channel.data_to_send())
    client.tls.do_handshake()
    assert client.channel.receive(client.encrypt(b"GET / HTTP/1.1\r\n\r\n")) == b"GET / HTTP/1.1\r\n\r\n"
    assert client.channel.state is State.OPEN


def test_data_and_the_next_records_of_the_same_read_are_read_in_order(client: Client) -> None:
    records = b"".join(client.encrypt(b"%d" % number) for number in range(10))
    assert client.channel.receive(records) == b"0123456789"


def test_handshake_may_come_byte_by_byte(server: TlsServer, authority: TestAuthority) -> None:
    client = Client(server, authority.client_context())
    done = False
    while not done:
        try:
            client.tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        for byte in client.outgoing.read():
            client.channel.receive(bytes([byte]))
            client.incoming.write(client.channel.data_to_send())
    assert client.channel.state is State.OPEN
    assert client.channel.receive(client.encrypt(b"ping")) == b"ping"


# What the log wants to know.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_version_and_cipher_are_told(server: TlsServer, authority: TestAuthority, version: ssl.TLSVersion) -> None:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    client = Client(server, context).connect()
    cipher = client.tls.cipher()
    assert cipher is not None
    assert client.channel.version == client.tls.version() == version.name.replace("_", ".")
    assert client.channel.cipher == cipher[0]
    assert not client.channel.session_reused


def test_version_and_cipher_are_empty_before_they_are_agreed(server: TlsServer, authority: TestAuthority) -> None:
    client = Client(server, authority.client_context())
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    hello = client.outgoing.read()
    client.channel.receive(hello[:-1])
    assert client.channel.data_to_send() == b""
    client.channel.receive(hello[-1:])
    assert client.channel.state is State.HANDSHAKE
    assert client.channel.data_to_send() != b""


# The end.


def test_close_notify_of_the_client_ends_its_data(client: Client) -> None:
    request = client.encrypt(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert client.channel.receive(request + client.outgoing.read()) == b"last words"
    assert client.channel.peer_closed


def test_what_follows_close_notify_is_not_read(client: Client) -> None:
    request = client.encrypt(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert client.channel.receive(request + client.outgoing.read() + request) == b"last words"
    assert client.channel.peer_closed


def test_close_notify_alone_is_seen(client: Client) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert client.channel.receive(client.outgoing.read()) == b""
    assert client.channel.peer_closed


def test_our_close_notify_tells_the_client_that_the_data_is_whole(client: Client) -> None:
    last = client.channel.write(b"all") + client.channel.close()
    client.incoming.write(last)
    assert client.tls.read(10) == b"all"
    assert client.tls.read(10) == b""  # what SSLObject makes of close_notify
    assert client.channel.close() == b""
    assert client.channel.receive(client.encrypt(b"late")) == b""


def test_close_before_the_handshake_says_nothing(server: TlsServer) -> None:
    channel = TlsChannel(server)
    assert channel.close() == b""
    assert channel.state is State.CLOSED


# What is refused.


def alert_of(data: bytes) -> tuple[int, int]:
    """Return level and description of the one alert record that `data` is (RFC 8446 section 6)."""
    assert data[0] == 21
    assert len(data) == 7
    return data[5], data[6]


def refused_hello(server: TlsServer, hello: bytes) -> tuple[str, bytes]:
    """Return the reason for the log, and what the client gets."""
    channel = TlsChannel(server)
    with pytest.raises(TlsError) as caught:
        channel.receive(hello)
    assert channel.state is State.CLOSED
    return str(caught.value), channel.data_to_send()


def test_tls_1_1_is_refused_with_an_alert(server: TlsServer, authority: TestAuthority) -> None:
    context = authority.client_context()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    client = Client(server, context)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    reason, answer = refused_hello(server, client.outgoing.read())
    assert "version" in reason or "protocol" in reason
    assert alert_of(answer) == (2, 70)
    client.incoming.write(answer)
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        client.tls.do_handshake()


def test_cipher_that_is_not_on_the_list_is_refused_with_an_alert(server: TlsServer, authority: TestAuthority) -> None:
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    client = Client(server, context)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    reason, answer = refused_hello(server, client.outgoing.read())
    assert reason == "TLS handshake failed: no shared cipher"
    assert alert_of(answer) == (2, 40)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"PUT /", b"OPTIONS *"])
def test_plain_http_is_told_from_other_bytes(server: TlsServer, start: bytes) -> None:
    channel = TlsChannel(server)
    with pytest.raises(PlainHttpError, match="plain HTTP on a TLS port"):
        channel.receive(start)
    assert channel.data_to_send() == b""
    assert channel.receive(b"more") == b""


def test_bytes_that_are_no_tls_are_refused_without_an_answer(server: TlsServer) -> None:
    reason, answer = refused_hello(server, b"\x00\x01\x02\x03garbage")
    assert reason.startswith("connection: first bytes b'\\x00\\x01")
    assert answer == b""


@pytest.mark.parametrize(
    ("hello", "alert"),
    [
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 50),  # a hello of one byte: decode_error
        (b"\x16\x03\x01\x40\x01", 22),  # a record of more than 16 KiB: record_overflow
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x64\x17\x03\x03\x00\x01", 10),  # data within it: unexpected_message
    ],
)
def test_malformed_hello_is_refused_with_an_alert(server: TlsServer, hello: bytes, alert: int) -> None:
    reason, answer = refused_hello(server, hello)
    assert reason
    assert alert_of(answer) == (2, alert)


def test_client_that_refuses_our_certificate_is_named_with_its_reason(server: TlsServer) -> None:
    client = Client(server, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # trusts nobody
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.channel.receive(client.outgoing.read())
    client.incoming.write(client.channel.data_to_send())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.tls.do_handshake()
    with pytest.raises(TlsError, match="TLS handshake failed: tlsv1 alert unknown ca"):
        client.channel.receive(client.outgoing.read())


@pytest.mark.parametrize("whole_before", [b"", b"a whole record before it"])
def test_record_that_was_changed_on_the_way_ends_the_connection_with_an_alert(
    client: Client, whole_before: bytes
) -> None:
    first = client.encrypt(whole_before) if whole_before else b""
    second = bytearray(client.encrypt(b"transfer 10 coins"))
    second[-1] ^= 1
    with pytest.raises(TlsError, match="TLS broken by the peer: decryption failed or bad record mac"):
        client.channel.receive(first + bytes(second))
    assert client.channel.state is State.CLOSED
    client.incoming.write(client.channel.data_to_send())
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        client.tls.read(1)
    assert client.channel.receive(b"more") == b""
