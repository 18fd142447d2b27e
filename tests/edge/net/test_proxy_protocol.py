"""The PROXY protocol's two versions: what is a header, whom it names, and what is refused."""

from __future__ import annotations

import asyncio
import random
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from edge.config import build_settings
from edge.net.connection import ClientConnection
from edge.net.proxy_protocol import (
    MAX_SIZE,
    MAX_TEXT_SIZE,
    Announced,
    ProxyProtocolError,
    crc32c,
    parse_proxy_header,
)
from edge.net.stream import PROXY_TIME, ClientStream, Phase
from edge.policy.chain import Policy
from edge.policy.forwarded import TrustedProxies
from edge.process import EdgeProcess
from edge.upstream.trust import UpstreamTrust
from tests.edge.net.test_connection import MemoryTransport

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = IPv4Address("203.0.113.7").packed + IPv4Address("192.0.2.1").packed + struct.pack(">HH", 56324, 443)
V6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + struct.pack(">HH", 56324, 443)
UNIX = b"/run/client.sock".ljust(108, b"\0") + b"/run/edge.sock".ljust(108, b"\0")


def binary(body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body) if length is None else length) + body


def extension(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def with_checksum(addresses: bytes, *, change: int = 0) -> bytes:
    """A header that holds its own checksum, between two other extensions, off by `change`."""
    around = extension(0x05, b"unique"), extension(0x02, b"shop.example")
    blank = binary(addresses + around[0] + extension(0x03, bytes(4)) + around[1])
    checksum = struct.pack(">I", crc32c(blank) ^ change)
    return binary(addresses + around[0] + extension(0x03, checksum) + around[1])


CLIENT, CLIENT6 = ("203.0.113.7", 56324), ("2001:db8::7", 56324)
GOOD: dict[str, tuple[bytes, tuple[str, int] | None]] = {
    "text over IPv4": (b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", CLIENT),
    "text over IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", CLIENT6),
    "text over IPv6 in capitals": (b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 56324 443\r\n", CLIENT6),
    "text with the smallest and the largest port": (b"PROXY TCP4 203.0.113.7 192.0.2.1 0 65535\r\n", (CLIENT[0], 0)),
    "text that does not know": (b"PROXY UNKNOWN\r\n", None),
    "text that does not know, with addresses": (b"PROXY UNKNOWN 2001:db8::7 ::1 1 2\r\n", None),
    "text that does not know, as long as it may be": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(MAX_TEXT_SIZE - 2, b"f") + b"\r\n",
        None,
    ),
    "binary over IPv4": (binary(V4), CLIENT),
    "binary over IPv6": (binary(V6, family=0x21), CLIENT6),
    "binary of a Unix socket": (binary(UNIX, family=0x31), None),
    "binary without a family": (binary(b"", family=0), None),
    "binary without a family, with extensions": (binary(extension(0xEA, b"x"), family=0), None),
    "binary of datagrams": (binary(V4, family=0x12), None),
    "binary of an unspecified protocol": (binary(V4, family=0x10), None),
    "binary of the proxy itself": (binary(b"", command=0x20, family=0), None),
    "binary of the proxy itself, with addresses": (binary(V4, command=0x20), None),
    "binary of the proxy itself, with what is nothing": (binary(b"\1", command=0x20), None),
    "binary with extensions": (binary(V4 + extension(0x01, b"h2") + extension(0x20, b"\1" * 300)), CLIENT),
    "binary with an empty extension": (binary(V4 + extension(0x04, b"")), CLIENT),
    "binary with its checksum": (with_checksum(V4), CLIENT),
    "binary as large as it may be": (binary(V4 + extension(0x04, bytes(MAX_SIZE - 16 - 12 - 3))), CLIENT),
}
BAD: dict[str, tuple[bytes, str]] = {
    "HTTP": (b"GET / HTTP/1.1\r\n", "first bytes b'GET / HTTP/1' are no PROXY header; does the proxy send one?"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", "are no PROXY header"),
    "another protocol of the same name": (b"PROXYTCP4", "are no PROXY header"),
    "lower case": (b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n", "are no PROXY header"),
    "signature that is off": (SIGNATURE[:-1] + b"\r", "are no PROXY header"),
    "text of another transport": (b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n", "is not PROXY, TCP4, TCP6 or UNKNOWN"),
    "text that does not know, run together": (b"PROXY UNKNOWNX\r\n", "is not PROXY"),
    "text with a bare LF": (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n", "is not PROXY"),
    "text that does not know, with a bare LF": (b"PROXY UNKNOWN \n", "is not PROXY"),
    "text with two spaces": (b"PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n", "is not PROXY"),
    "text with too few parts": (b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n", "is not PROXY"),
    "text with too many parts": (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n", "is not PROXY"),
    "text with a zero before a port": (b"PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n", "is not PROXY"),
    "text with a sign before a port": (b"PROXY TCP4 203.0.113.7 192.0.2.1 +1 2\r\n", "is not PROXY"),
    "text with a port too large": (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n", "has a port above 65535"),
    "text with the wrong family": (b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n", "has an address that is none of TCP4"),
    "text with the wrong family, six": (b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n", "none of TCP6"),
    "text with a number too large": (b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n", "none of TCP4"),
    "text with a zero before a number": (b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n", "none of TCP4"),
    "text that never ends": (b"PROXY UNKNOWN".ljust(MAX_TEXT_SIZE, b" "), "line of more than 107 bytes"),
    "binary of another version": (binary(V4, command=0x11), "version and command 0x11, 0x20 or 0x21 allowed"),
    "binary of another command": (binary(V4, command=0x22), "version and command 0x22"),
    "binary of another family": (binary(V4, family=0x41), "address family and protocol 0x41 are not known"),
    "binary of another transport": (binary(V4, family=0x13), "address family and protocol 0x13"),
    "binary that is too large": (binary(V4, length=MAX_SIZE), f"header of {MAX_SIZE + 16} bytes, at most {MAX_SIZE}"),
    "binary without its addresses": (binary(V4[:-1]), "11 bytes of addresses, 12 are due"),
    "binary of IPv6 with addresses of IPv4": (binary(V4, family=0x21), "12 bytes of addresses, 36 are due"),
    "binary with half an extension": (binary(V4 + b"\1\0"), "extension cut short"),
    "binary with an extension that is too long": (binary(V4 + b"\1\0\5abcd"), "extension 0x1 of 5 bytes is cut short"),
    "binary with a short checksum": (binary(V4 + extension(0x03, b"abc")), "checksum of 3 bytes, 4 are due"),
    "binary with a wrong checksum": (with_checksum(V4, change=1), "is not that of the header"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"PROXY ", SIGNATURE])
def test_header_names_the_client_and_ends_where_it_ends(name: str, rest: bytes) -> None:
    header, client = GOOD[name]
    assert parse_proxy_header(header + rest) == Announced(client, len(header))


@pytest.mark.parametrize("name", GOOD)
def test_header_is_not_whole_before_its_last_byte(name: str) -> None:
    header, client = GOOD[name]
    # All lengths of short ones, some of the long ones.
    sizes = range(len(header)) if len(header) < 1000 else random.Random(1).sample(range(len(header)), 300)
    assert all(parse_proxy_header(header[:size]) is None for size in sizes)
    assert parse_proxy_header(header) == Announced(client, len(header))


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_with_the_reason(name: str) -> None:
    header, message = BAD[name]
    with pytest.raises(ProxyProtocolError) as caught:
        parse_proxy_header(header)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_byte_by_byte_too(name: str) -> None:
    def feed() -> None:
        for size in range(len(header) + 1):
            assert parse_proxy_header(header[:size]) is None

    header, _ = BAD[name]
    with pytest.raises(ProxyProtocolError):
        feed()


def test_proxy_has_its_time_for_the_header_and_the_client_has_its_own_after_it() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        settings = build_settings({"app": "m:a"})
        edge = EdgeProcess(settings, [], None, UpstreamTrust())
        policy = Policy(scheme=b"http", port=80, address=b"", trust=TrustedProxies(), redirect=None)
        for sent, reason in ((b"PROXY TCP4", "aborted"), (GOOD["text over IPv4"][0], "")):
            transport = MemoryTransport()
            stream = ClientStream(
                None, settings.timeouts, lambda stream: ClientConnection(edge, policy, stream), lambda peer: True
            )
            stream.connection_made(transport)
            assert stream.phase is Phase.PROXY
            assert PROXY_TIME - 1 < stream.deadline - loop.time() <= PROXY_TIME
            stream.data_received(sent)
            if reason:
                stream.expire(stream.deadline)
            assert transport.ended == reason
        assert stream.phase is Phase.HEAD
        assert settings.timeouts.header - 1 < stream.deadline - loop.time() <= settings.timeouts.header
        assert stream.peer == CLIENT

    asyncio.run(scenario())


# RFC 3720 appendix B.4, and the check value of the algorithm.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksum_is_crc_32c(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
