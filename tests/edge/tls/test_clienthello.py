"""ClientHellos as Python's own TLS sends them, whole and in pieces, and those that nobody should send."""

import contextlib
import ssl
import struct

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edge.tls.clienthello import (
    DECODE_ERROR,
    ILLEGAL_PARAMETER,
    MAX_HELLO_SIZE,
    MAX_METHOD_SIZE,
    MAX_RECORDS,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    UNRECOGNIZED_NAME,
    ClientHello,
    ClientHelloError,
    NotTlsError,
    encode_alert,
    is_whole_hello,
    parse_client_hello,
)


def real_hello(
    server_name: str | None = None,
    alpn: list[str] | None = None,
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(width: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, content)


def server_name(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def body(
    *extensions: bytes, session_id: bytes = bytes(32), suites: bytes = b"\x13\x01", compression: bytes = b"\0"
) -> bytes:
    start = b"\x03\x03" + bytes(32) + vector(1, session_id) + vector(2, suites) + vector(1, compression)
    return start + vector(2, *extensions)


def message(content: bytes) -> bytes:
    return b"\x01" + vector(3, content)


def record(fragment: bytes, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    return bytes([kind]) + version + vector(2, fragment)


def hello(*extensions: bytes) -> bytes:
    return record(message(body(*extensions)))


def cut_into_records(data: bytes, size: int) -> bytes:
    return b"".join(record(data[at : at + size]) for at in range(0, len(data), size))


def parsed(data: bytes) -> ClientHello:
    result = parse_client_hello(data)
    assert result is not None
    return result


REAL = [
    pytest.param(real_hello(), None, (), 0x0304, id="bare"),
    pytest.param(real_hello("Shop.Example"), "shop.example", (), 0x0304, id="sni"),
    pytest.param(real_hello("shop.example."), "shop.example", (), 0x0304, id="trailing-dot"),
    pytest.param(real_hello("bücher.example"), "xn--bcher-kva.example", (), 0x0304, id="idna"),
    pytest.param(real_hello("a.example", ["h2", "http/1.1"]), "a.example", (b"h2", b"http/1.1"), 0x0304, id="sni-alpn"),
    pytest.param(real_hello(None, ["acme-tls/1"]), None, (b"acme-tls/1",), 0x0304, id="alpn"),
    pytest.param(real_hello("a.example", ["h2"], ssl.TLSVersion.TLSv1_2), "a.example", (b"h2",), 0x0303, id="tls-1.2"),
]


@pytest.mark.parametrize(("data", "name", "alpn", "version"), REAL)
def test_hello_of_a_real_client_is_read(data: bytes, name: str | None, alpn: tuple[bytes, ...], version: int) -> None:
    result = parsed(data)
    assert result.server_name == name
    assert result.alpn == alpn
    assert max(result.versions) == version
    assert 0x0403 in result.signature_algorithms  # ecdsa_secp256r1_sha256
    assert 0xC02B in result.cipher_suites  # ECDHE-ECDSA-AES128-GCM-SHA256
    assert (0x1301 in result.cipher_suites) is (version == 0x0304)


def test_tls_1_2_hello_without_the_extension_gives_the_legacy_version_alone() -> None:
    assert parsed(real_hello(maximum=ssl.TLSVersion.TLSv1_2)).versions == (0x0303,)


@pytest.mark.parametrize(("data", "name", "alpn", "version"), REAL)
def test_hello_that_comes_byte_by_byte_is_read_with_its_last_byte(
    data: bytes, name: str | None, alpn: tuple[bytes, ...], version: int
) -> None:
    assert {parse_client_hello(data[:size]) for size in range(len(data))} == {None}
    assert parsed(data).server_name == name


@given(st.sampled_from([case.values[0] for case in REAL]), st.integers(10, 600), st.binary(max_size=40))
def test_hello_in_several_records_reads_as_in_one(data: object, size: int, rest: bytes) -> None:
    assert isinstance(data, bytes)
    split = cut_into_records(data[5:], size)
    assert parse_client_hello(split[:-1]) is None
    assert parse_client_hello(split) == parse_client_hello(data)
    assert parse_client_hello(split + rest) == parse_client_hello(data)


def test_header_of_the_message_may_lie_in_four_records() -> None:
    content = message(body(server_name(b"a.example")))
    split = b"".join(record(content[at : at + 1]) for at in range(4)) + record(content[4:])
    assert {parse_client_hello(split[:size]) for size in range(len(split))} == {None}
    assert parsed(split).server_name == "a.example"


def test_what_follows_the_hello_in_its_record_is_left_to_the_tls_library() -> None:
    assert parsed(record(message(body(server_name(b"a.example"))) + b"\x10\0\0\0")).server_name == "a.example"


def test_hello_without_extensions_is_that_of_an_old_client() -> None:
    content = b"\x03\x01" + bytes(32) + vector(1) + vector(2, b"\x00\x2f") + vector(1, b"\0")
    assert parsed(record(message(content))) == ClientHello(None, (), (0x0301,), (), (0x002F,))


def test_lists_are_given_as_sent_with_grease() -> None:
    result = parsed(
        hello(
            extension(0x0A0A, b""),
            extension(43, vector(1, b"\x0a\x0a\x03\x04\x03\x03")),
            extension(13, vector(2, b"\x08\x04\x04\x03")),
            extension(16, vector(2, vector(1, b"\x0a\x0a"), vector(1, b"h2"))),
        )
    )
    assert result == ClientHello(None, (b"\x0a\x0a", b"h2"), (0x0A0A, 0x0304, 0x0303), (0x0804, 0x0403), (0x1301,))


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"localhost", "localhost"),
        (b"A.B.EXAMPLE", "a.b.example"),
        (b"a.example.", "a.example"),
        (b"_dmarc.foo_bar.example", "_dmarc.foo_bar.example"),
        (b"-a-.example", "-a-.example"),
        (b"a" * 63 + b".example", "a" * 63 + ".example"),
        (b"1.2.3.4.5", "1.2.3.4.5"),
        (b"3com", "3com"),
        (b"v4", "v4"),
        (b"999.0.0.1", "999.0.0.1"),
        (b".".join([b"a" * 63] * 3 + [b"b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
        (b"127.0.0.1", None),
        (b"127.0.0.1.", None),
        (b"::1", None),
        (b"[::1]", None),
        (b"fe80::1%eth0", None),
    ],
)
def test_server_name_is_lower_case_and_never_an_address(sent: bytes, name: str | None) -> None:
    assert parsed(hello(server_name(sent))).server_name == name


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b".",
        b"a..example",
        b".example",
        b"a.example..",
        b"a b.example",
        b"a.example\0.evil.example",
        b"a.example\n",
        b"*.example",
        b"b\xc3\xbccher.example",
        b"a.example:443",
        b"a/b",
        b"a" * 64 + b".example",
        b".".join([b"a" * 63] * 4),
        b"1.2.3.\xb2",
    ],
)
def test_server_name_that_can_be_no_host_name_is_refused_as_unrecognized(sent: bytes) -> None:
    with pytest.raises(ClientHelloError, match="is no host name") as caught:
        parse_client_hello(hello(server_name(sent)))
    assert caught.value.alert == UNRECOGNIZED_NAME


def refusal(data: bytes) -> tuple[int, str] | None:
    """Return the alert and the message with which `data` is refused; None if more is awaited."""
    try:
        assert parse_client_hello(data) is None
    except ClientHelloError as error:
        return error.alert, str(error)
    return None


SHOP = real_hello("shop.example", ["h2", "http/1.1"])
GOOD = message(body())

MALFORMED = [
    pytest.param(record(b"", 22), DECODE_ERROR, "empty handshake record", id="empty-record"),
    pytest.param(record(GOOD[:9]) + record(b""), DECODE_ERROR, "empty handshake record", id="empty-second-record"),
    pytest.param(b"\x16\x03\x01\x40\x01", RECORD_OVERFLOW, "record of 16385 bytes", id="record-overflow"),
    pytest.param(record(GOOD[:9]) + record(GOOD[9:], 23), UNEXPECTED_MESSAGE, "record of type 23", id="interleaved"),
    pytest.param(record(GOOD[:9]) + record(GOOD[9:], 22, b"\x02\0"), UNEXPECTED_MESSAGE, "version 2", id="version"),
    pytest.param(record(b"\x02\0\0\0"), UNEXPECTED_MESSAGE, "type 2 came first", id="server-hello"),
    pytest.param(record(b"\x02"), UNEXPECTED_MESSAGE, "type 2 came first", id="server-hello-first-byte"),
    pytest.param(record(b"\x01\0\x40\x01"), ILLEGAL_PARAMETER, "16385 bytes announced", id="too-long"),
    pytest.param(cut_into_records(b"\x01\0\x20\0" + bytes(80), 1), ILLEGAL_PARAMETER, "more than 64", id="records"),
    pytest.param(record(message(b"")), DECODE_ERROR, "session id cut short", id="empty"),
    pytest.param(record(message(bytes(34))), DECODE_ERROR, "session id cut short", id="no-session-id"),
    pytest.param(record(message(body()[:50])), DECODE_ERROR, "session id cut short", id="cut-session-id"),
    pytest.param(record(message(body()[:68])), DECODE_ERROR, "cipher suites cut short", id="cut-suites"),
    pytest.param(record(message(body()[:71])), DECODE_ERROR, "compression methods cut", id="no-compression"),
    pytest.param(record(message(body()[:-1])), DECODE_ERROR, "extensions cut short", id="cut-extensions"),
    pytest.param(record(message(body() + b"\0")), DECODE_ERROR, "1 bytes after the extensions", id="trailing"),
    pytest.param(record(message(body(session_id=bytes(33)))), DECODE_ERROR, "33 bytes, at most 32", id="session-id"),
    pytest.param(record(message(body(suites=b""))), DECODE_ERROR, "cipher suites of 0 bytes", id="no-suites"),
    pytest.param(record(message(body(suites=b"\x13"))), DECODE_ERROR, "cipher suites of 1 bytes", id="odd-suites"),
    pytest.param(record(message(body(compression=b""))), DECODE_ERROR, "no compression method", id="compression"),
    pytest.param(hello(b"\0\x10\0"), DECODE_ERROR, "extension header is cut short", id="extension-header"),
    pytest.param(hello(b"\0\x10\0\x05ab"), DECODE_ERROR, "extension 16 of 5 bytes is cut", id="extension-body"),
    pytest.param(hello(extension(5, b""), extension(5, b"")), ILLEGAL_PARAMETER, "5 comes twice", id="duplicate"),
    pytest.param(
        hello(server_name(b"a.example"), server_name(b"b.example")), ILLEGAL_PARAMETER, "0 comes twice", id="two-names"
    ),
    pytest.param(hello(extension(0, b"")), DECODE_ERROR, "server name cut short", id="sni-empty"),
    pytest.param(hello(extension(0, vector(2))), DECODE_ERROR, "server name: vector of 0 bytes", id="sni-no-entry"),
    pytest.param(hello(extension(0, vector(2, b"\0"))), DECODE_ERROR, "server name cut short", id="sni-cut"),
    pytest.param(
        hello(extension(0, vector(2, b"\0" + vector(2, b"a")) + b"x")), DECODE_ERROR, "in an extension", id="sni-rest"
    ),
    pytest.param(
        hello(extension(0, vector(2, b"\1" + vector(2, b"a")))), DECODE_ERROR, "host_name", id="sni-other-type"
    ),
    pytest.param(
        hello(extension(0, vector(2, b"\0" + vector(2, b"a"), b"\0" + vector(2, b"b")))),
        DECODE_ERROR,
        "one entry",
        id="sni-two-entries",
    ),
    pytest.param(hello(extension(16, b"")), DECODE_ERROR, "ALPN cut short", id="alpn-empty"),
    pytest.param(hello(extension(16, vector(2))), DECODE_ERROR, "ALPN: vector of 0", id="alpn-no-protocol"),
    pytest.param(hello(extension(16, vector(2, b"\x05h2"))), DECODE_ERROR, "ALPN cut short", id="alpn-cut"),
    pytest.param(hello(extension(16, vector(2, vector(1)))), DECODE_ERROR, "without a name", id="alpn-no-name"),
    pytest.param(hello(extension(43, vector(1))), DECODE_ERROR, "supported versions: vector of 0", id="no-versions"),
    pytest.param(hello(extension(43, vector(1, b"\x03"))), DECODE_ERROR, "supported versions of 1", id="odd-versions"),
    pytest.param(hello(extension(43, b"\x04\x03\x04")), DECODE_ERROR, "supported versions cut", id="cut-versions"),
    pytest.param(hello(extension(13, vector(2, b"\x04"))), DECODE_ERROR, "signature algorithms of 1", id="odd-sigs"),
    pytest.param(hello(extension(13, vector(2))), DECODE_ERROR, "signature algorithms: vector", id="no-sigs"),
]


@pytest.mark.parametrize(("data", "alert", "words"), MALFORMED)
def test_malformed_hello_is_refused_with_its_alert(data: bytes, alert: int, words: str) -> None:
    with pytest.raises(ClientHelloError, match=words) as caught:
        parse_client_hello(data)
    assert caught.value.alert == alert
    assert str(caught.value).startswith("client hello: ")


@pytest.mark.parametrize(("data", "alert", "words"), MALFORMED)
def test_malformed_hello_that_comes_byte_by_byte_gets_the_same_answer(data: bytes, alert: int, words: str) -> None:
    early = [refusal(data[:size]) for size in range(len(data) + 1)]
    first = next(found for found in early if found)
    assert first[0] == alert
    assert words in first[1]


def test_hello_of_the_greatest_size_is_read_and_one_byte_more_is_refused() -> None:
    room = MAX_HELLO_SIZE - len(body(extension(21, b"")))
    largest = message(body(extension(21, bytes(room))))
    assert parsed(cut_into_records(largest, 1 << 14)).cipher_suites == (0x1301,)
    with pytest.raises(ClientHelloError, match="at most 16384 allowed"):
        parse_client_hello(cut_into_records(message(body(extension(21, bytes(room + 1)))), 1 << 14))


def test_hello_in_as_many_records_as_allowed_is_read() -> None:
    content = message(body(extension(21, bytes(200))))
    split = b"".join(record(content[at : at + 1]) for at in range(MAX_RECORDS - 1)) + record(content[MAX_RECORDS - 1 :])
    assert parsed(split).cipher_suites == (0x1301,)


def test_no_bytes_yet_is_no_answer_yet() -> None:
    assert parse_client_hello(b"") is None


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"get /", b"PRI * HTTP/2.0\r\n", b"M-SEARCH * HTTP/1.1", b"x ", b"A" * 31 + b" "],
)
def test_plain_http_is_told_apart_as_soon_as_its_method_is_whole(data: bytes) -> None:
    end = data.index(b" ")
    assert {parse_client_hello(data[:size]) for size in range(end)} == {None}
    with pytest.raises(NotTlsError, match="looks like plain HTTP") as caught:
        parse_client_hello(data[: end + 1])
    assert caught.value.looks_like_http


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b" GET / HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET\t/ HTTP/1.1",
        b"EHLO/x",
        b"A" * MAX_METHOD_SIZE,
        b"A" * MAX_METHOD_SIZE + b" / HTTP/1.1",
        b"\x80\x2e\x01\x00\x02",  # an SSL 2.0 hello
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
        b"\x16\x02",
        b"\x16GET / HTTP/1.1",
        b"PROXY\x16",
    ],
)
def test_other_protocols_are_no_tls_and_no_http(data: bytes) -> None:
    with pytest.raises(NotTlsError, match="are no TLS") as caught:
        parse_client_hello(data)
    assert not caught.value.looks_like_http


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda data: b"\x16\x03\x01" + data)))
@example(b"\x16")
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        result = parse_client_hello(data)
    except (NotTlsError, ClientHelloError):
        return
    assert result is None or isinstance(result, ClientHello)


@given(st.data())
def test_damaged_hello_raises_nothing_else_and_gives_only_host_names(data: st.DataObject) -> None:
    damaged = bytearray(SHOP)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = parse_client_hello(bytes(damaged))
    except (NotTlsError, ClientHelloError):
        return
    assume(result is not None and result.server_name is not None)
    assert result is not None
    assert result.server_name is not None
    assert set(result.server_name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (UNRECOGNIZED_NAME, "TLSV1_UNRECOGNIZED_NAME"),
        (DECODE_ERROR, "TLSV1_ALERT_DECODE_ERROR"),
        (ILLEGAL_PARAMETER, "SSLV3_ALERT_ILLEGAL_PARAMETER"),
        (UNEXPECTED_MESSAGE, "SSLV3_ALERT_UNEXPECTED_MESSAGE"),
        (RECORD_OVERFLOW, "TLSV1_ALERT_RECORD_OVERFLOW"),
    ],
)
def test_real_client_understands_the_alert(description: int, reason: str) -> None:
    incoming = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(encode_alert(description))
    with pytest.raises(ssl.SSLError) as caught:
        client.do_handshake()
    assert caught.value.reason == reason


def test_whole_hello_is_told_from_each_of_its_beginnings() -> None:
    data = real_hello("shop.example", ["h2", "http/1.1"])
    assert is_whole_hello(data)
    assert is_whole_hello(data + b"what follows")
    assert not any(is_whole_hello(data[:size]) for size in range(len(data)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(cut_into_records(message(body()), 20), id="in several records"),
        pytest.param(b"\x15" + hello()[1:], id="not a handshake record"),
        pytest.param(record(b"\x02" + message(body())[1:]), id="not a client hello"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="plain HTTP"),
    ],
)
def test_hello_that_needs_a_closer_look_is_not_called_whole(data: bytes) -> None:
    assert not is_whole_hello(data)


@given(st.binary(max_size=80).map(lambda content: record(message(content))))
def test_whole_hello_needs_no_more_bytes_to_be_parsed(data: bytes) -> None:
    assert is_whole_hello(data)
    with contextlib.suppress(ClientHelloError):  # whole, and malformed
        assert parse_client_hello(data) is not None
