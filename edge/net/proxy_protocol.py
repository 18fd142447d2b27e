"""The PROXY protocol, versions 1 and 2: whom a proxy that passes on bytes has in front of it (HAProxy's specification).

The header stands before everything else, also before TLS. Whether there is one must be known beforehand: who guesses is
fooled by any client that sends one. Nothing but the client's address is taken from it.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final, NamedTuple

MAX_TEXT_SIZE: Final = 107
"""Bytes of a header of version 1, with its CRLF (specification section 2.1)."""
MAX_SIZE: Final = 16 * 1024
"""Bytes of a header of version 2. Addresses take 216, what proxies add of TLS up to a client's certificate; the length
field could say 64 KiB."""

_TEXT_START: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_PREFIX: Final = struct.Struct(">12sBBH")
_IPV4: Final = struct.Struct(">4s4sHH")
_IPV6: Final = struct.Struct(">16s16sHH")
_UNIX_SIZE: Final = 216
_EXTENSION: Final = struct.Struct(">BH")
_CRC32C: Final = 3

_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES: Final = (0, _IPV4.size, _IPV6.size, _UNIX_SIZE)  # unspecified, IPv4, IPv6, Unix sockets
_STREAM: Final = 1

_TEXT: Final = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_MAX_PORT: Final = 65535


class ProxyProtocolError(Exception):
    """What a proxy sent is no header; the connection cannot go on."""


class Announced(NamedTuple):
    """A whole header: the client that it names, None for the peer itself, and how many bytes it took."""

    client: tuple[str, int] | None
    size: int


def parse_proxy_header(data: bytes) -> Announced | None:
    """Return the header that begins `data`, all bytes of the connection so far; None: more bytes are needed.

    Raises ProxyProtocolError as soon as it cannot become one.
    """
    start = data[: len(_SIGNATURE)]
    if data.startswith(_TEXT_START):
        return _parse_text(data)
    if start == _SIGNATURE:
        return _parse_binary(data)
    if _SIGNATURE.startswith(start) or _TEXT_START.startswith(start):
        return None
    raise ProxyProtocolError(f"first bytes {start!r} are no PROXY header; does the proxy send one?")


def _parse_text(data: bytes) -> Announced | None:
    line = data[:MAX_TEXT_SIZE]
    end = line.find(b"\n") + 1
    if not end:
        if len(line) == MAX_TEXT_SIZE:
            raise ProxyProtocolError(f"line of more than {MAX_TEXT_SIZE} bytes, at most {MAX_TEXT_SIZE} allowed")
        return None
    line = line[:end]
    # Whatever follows UNKNOWN is to be ignored (section 2.1).
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in (b" ", b"\r") and line.endswith(b"\r\n"):
        return Announced(None, end)
    match = _TEXT.fullmatch(line)
    if match is None:
        raise ProxyProtocolError(f"line {line!r} is not PROXY, TCP4, TCP6 or UNKNOWN, two addresses and two ports")
    kind = ipaddress.IPv4Address if match[1] == b"4" else ipaddress.IPv6Address
    try:
        source, _ = kind(match[2].decode()), kind(match[3].decode())
    except ValueError:
        raise ProxyProtocolError(f"line {line!r} has an address that is none of TCP{match[1].decode()}") from None
    if max(int(match[4]), int(match[5])) > _MAX_PORT:
        raise ProxyProtocolError(f"line {line!r} has a port above {_MAX_PORT}")
    return Announced((str(source), int(match[4])), end)


def _parse_binary(data: bytes) -> Announced | None:
    if len(data) < _PREFIX.size:
        return None
    _, command, family, length = _PREFIX.unpack_from(data)
    size = _PREFIX.size + length
    if command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError(f"version and command {command:#x}, 0x20 or 0x21 allowed")
    if family >> 4 >= len(_FAMILIES) or family & 15 > 2:
        raise ProxyProtocolError(f"address family and protocol {family:#x} are not known")
    if size > MAX_SIZE:
        raise ProxyProtocolError(f"header of {size} bytes, at most {MAX_SIZE} allowed")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return Announced(None, size)  # the proxy speaks for itself, such as to see how we are
    addresses = _FAMILIES[family >> 4]
    if length < addresses:
        raise ProxyProtocolError(f"{length} bytes of addresses, {addresses} are due")
    _check_extensions(data[:size], _PREFIX.size + addresses)
    if family == 1 << 4 | _STREAM:
        source, _, port, _ = _IPV4.unpack_from(data, _PREFIX.size)
        return Announced((str(ipaddress.IPv4Address(source)), port), size)
    if family == 2 << 4 | _STREAM:
        source, _, port, _ = _IPV6.unpack_from(data, _PREFIX.size)
        return Announced((str(ipaddress.IPv6Address(source)), port), size)
    return Announced(None, size)


def _check_extensions(header: bytes, at: int) -> None:
    """Walk over what follows the addresses (section 2.2): nothing of it counts, but a checksum has to be right."""
    while at < len(header):
        if at + _EXTENSION.size > len(header):
            raise ProxyProtocolError("extension cut short")
        kind, length = _EXTENSION.unpack_from(header, at)
        at += _EXTENSION.size
        if at + length > len(header):
            raise ProxyProtocolError(f"extension {kind:#x} of {length} bytes is cut short")
        if kind == _CRC32C:
            _check_sum(header, at, length)
        at += length


def _check_sum(header: bytes, at: int, length: int) -> None:
    if length != 4:
        raise ProxyProtocolError(f"checksum of {length} bytes, 4 are due")
    found = int.from_bytes(header[at : at + 4], "big")
    if found != crc32c(header[:at] + bytes(4) + header[at + 4 :]):
        raise ProxyProtocolError(f"checksum {found:#010x} is not that of the header")


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data` (RFC 3720 appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _table_entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    return number


_TABLE: Final = tuple(map(_table_entry, range(256)))
