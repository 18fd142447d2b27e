"""The ClientHello out of the first bytes of a connection (RFC 8446 section 4.1.2), read before any SSL object exists.

Whoever waits for a whole hello calls `parse_client_hello` with all bytes received so far after each read. A call that
answers "more" looks at record headers only, so a hello that comes byte by byte costs no more than its reads do.
"""

import ipaddress
import re
import struct
from dataclasses import dataclass
from typing import Final

MAX_HELLO_SIZE: Final = 16 * 1024
"""Bytes of one ClientHello. Browsers with a post-quantum key share and a ticket send about 2 KiB; OpenSSL would buffer
128 KiB for a peer that has not even said which site it wants."""
MAX_RECORDS: Final = 64
"""Records that one ClientHello may be cut into. Clients that hide the server name from middleboxes use a handful; the
bound keeps the walk over incomplete input short, however small the records are."""
MAX_METHOD_SIZE: Final = 32
"""Bytes in which a plain HTTP request must show a space: the longest registered method has 17."""

# Alert descriptions (RFC 8446 section 6, RFC 6066 section 3).
UNEXPECTED_MESSAGE: Final = 10
RECORD_OVERFLOW: Final = 22
ILLEGAL_PARAMETER: Final = 47
DECODE_ERROR: Final = 50
INTERNAL_ERROR: Final = 80
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120

_ALERT: Final = 21
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_HEADER_SIZE: Final = 5
_MESSAGE_HEADER_SIZE: Final = 4
_MAX_FRAGMENT_SIZE: Final = 1 << 14  # RFC 8446 section 5.1

_SERVER_NAME: Final = 0
_SIGNATURE_ALGORITHMS: Final = 13
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43

_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Underscores are no host names by RFC 952, yet wildcard certificates serve them every day.
_HOST_NAME: Final = re.compile(rb"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*+")
_MAX_NAME_SIZE: Final = 253  # RFC 1035 section 2.3.4: 255 with the length bytes of the first label and the root
_RECORD_HEADER: Final = struct.Struct(">BBxH")
_EXTENSION_HEADER: Final = struct.Struct(">HH")


class NotTlsError(Exception):
    """The first bytes are no TLS record; `looks_like_http`: they are a token and a space, as in a request line."""

    def __init__(self, message: str, *, looks_like_http: bool) -> None:
        super().__init__(message)
        self.looks_like_http = looks_like_http


class ClientHelloError(Exception):
    """The ClientHello breaks the protocol; `alert` is the description for `encode_alert`."""

    def __init__(self, alert: int, message: str) -> None:
        super().__init__(message)
        self.alert = alert


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers. Lists are as sent, in the client's order, GREASE values (RFC 8701) included."""

    server_name: str | None
    """Lower case, no trailing dot; None without one, and for an address, which RFC 6066 section 3 does not allow."""
    alpn: tuple[bytes, ...]
    versions: tuple[int, ...]
    """From supported_versions; without it the legacy version alone, which stands for all versions up to it."""
    signature_algorithms: tuple[int, ...]
    cipher_suites: tuple[int, ...]


def is_whole_hello(data: bytes) -> bool:
    """Tell whether `data` begins with a whole ClientHello in one record, as all but odd clients send it.

    False says nothing: `parse_client_hello` knows why. This spares a connection whose policy does not depend on the
    hello 30 us of the 360 that its handshake costs; the TLS library reads what is in it, and refuses what is malformed.
    """
    if len(data) < _RECORD_HEADER_SIZE + _MESSAGE_HEADER_SIZE or data[0] != _HANDSHAKE or data[1] != 3:
        return False
    size = int.from_bytes(data[6:9], "big") + _MESSAGE_HEADER_SIZE
    record_size = data[3] << 8 | data[4]
    is_in_record = size <= record_size <= _MAX_FRAGMENT_SIZE
    return data[5] == _CLIENT_HELLO and is_in_record and size <= len(data) - _RECORD_HEADER_SIZE


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Return the ClientHello that begins `data`, all bytes of the connection so far; None: more bytes are needed.

    What follows the hello is left to the TLS library.

    Raises NotTlsError at once if this is no TLS, or after at most `MAX_METHOD_SIZE` bytes if it may be plain HTTP;
    ClientHelloError with the alert to send.
    """
    if not data:
        return None
    if data[0] != _HANDSHAKE or data[1:2] not in (b"", b"\x03"):
        _refuse_not_tls(data)
        return None
    message = _read_message(data)
    return None if message is None else _parse_message(message)


def encode_alert(description: int) -> bytes:
    """Return a plain fatal alert record (RFC 8446 section 6), for failures before there are keys."""
    return bytes((_ALERT, 3, 3, 0, 2, 2, description))


def _refuse_not_tls(data: bytes) -> None:
    """Raise NotTlsError unless this may still become the method of a plain HTTP request and the space after it."""
    head = data[:MAX_METHOD_SIZE]
    size = len(head) - len(head.lstrip(_TOKEN_BYTES))
    if 0 < size == len(data) < MAX_METHOD_SIZE:
        return
    looks_like_http = size > 0 and head[size : size + 1] == b" "
    what = "looks like plain HTTP" if looks_like_http else "a handshake record begins with 16 03"
    raise NotTlsError(f"connection: first bytes {data[:8]!r} are no TLS; {what}", looks_like_http=looks_like_http)


def _read_message(data: bytes) -> bytes | None:
    """Return the first handshake message without its header, joined from its records; None if it is not whole."""
    spans: list[tuple[int, int]] = []
    header, needed = b"", _MESSAGE_HEADER_SIZE
    unpack, total, received, at = _RECORD_HEADER.unpack_from, len(data), 0, 0
    while at + _RECORD_HEADER_SIZE <= total:
        kind, major, size = unpack(data, at)
        if kind != _HANDSHAKE or major != 3 or not 0 < size <= _MAX_FRAGMENT_SIZE:
            raise _record_error(kind, major, size)
        start = at + _RECORD_HEADER_SIZE
        at = start + size
        spans.append((start, at))
        received += (at if at < total else total) - start
        if len(header) < _MESSAGE_HEADER_SIZE:
            header += data[start : min(at, start + _MESSAGE_HEADER_SIZE - len(header))]
            needed = _message_end(header)
        if received >= needed:
            return b"".join([data[first:last] for first, last in spans])[_MESSAGE_HEADER_SIZE:needed]
        if len(spans) == MAX_RECORDS:
            message = f"client hello: cut into more than {MAX_RECORDS} records, at most {MAX_RECORDS} are joined"
            raise ClientHelloError(ILLEGAL_PARAMETER, message)
    return None


def _record_error(kind: int, major: int, size: int) -> ClientHelloError:
    if kind != _HANDSHAKE or major != 3:
        message = f"client hello: record of type {kind} version {major} in its midst, handshake (22) version 3 is due"
        return ClientHelloError(UNEXPECTED_MESSAGE, message)
    if size:
        message = f"client hello: record of {size} bytes, at most {_MAX_FRAGMENT_SIZE} allowed (RFC 8446 section 5.1)"
        return ClientHelloError(RECORD_OVERFLOW, message)
    # Forbidden, and a way to send for ever without ever completing.
    return ClientHelloError(DECODE_ERROR, "client hello: empty handshake record (RFC 8446 section 5.1)")


def _message_end(header: bytes) -> int:
    """Return the size of the message with its header; of the header alone while that is not whole."""
    if header and header[0] != _CLIENT_HELLO:
        message = f"client hello: handshake message of type {header[0]} came first, client_hello (1) must"
        raise ClientHelloError(UNEXPECTED_MESSAGE, message)
    if len(header) < _MESSAGE_HEADER_SIZE:
        return _MESSAGE_HEADER_SIZE
    size = int.from_bytes(header[1:], "big")
    if size > MAX_HELLO_SIZE:
        message = f"client hello: {size} bytes announced, at most {MAX_HELLO_SIZE} allowed"
        raise ClientHelloError(ILLEGAL_PARAMETER, message)
    return _MESSAGE_HEADER_SIZE + size


def _parse_message(body: bytes) -> ClientHello:
    # legacy_version 2, random 32, then the vectors.
    session_id, at = _read_vector(body, 34, 1, "session id")
    if len(session_id) > 32:
        raise _decode_error(f"session id of {len(session_id)} bytes, at most 32 allowed")
    suites, at = _read_vector(body, at, 2, "cipher suites")
    compression, at = _read_vector(body, at, 1, "compression methods")
    if not compression:
        raise _decode_error("no compression method, null (0) must be there")
    # TLS 1.2 allows a hello that ends here.
    extensions = _parse_extensions(body, at) if at < len(body) else {}
    versions = extensions.get(_SUPPORTED_VERSIONS)
    algorithms = extensions.get(_SIGNATURE_ALGORITHMS)
    return ClientHello(
        server_name=_parse_server_name(extensions.get(_SERVER_NAME)),
        alpn=_parse_alpn(extensions.get(_ALPN)),
        versions=(
            (body[0] << 8 | body[1],)
            if versions is None
            else _parse_numbers(_read_whole_vector(versions, 1, "supported versions"), "supported versions")
        ),
        signature_algorithms=(
            ()
            if algorithms is None
            else _parse_numbers(_read_whole_vector(algorithms, 2, "signature algorithms"), "signature algorithms")
        ),
        cipher_suites=_parse_numbers(suites, "cipher suites"),
    )


def _parse_extensions(body: bytes, at: int) -> dict[int, bytes]:
    block, end = _read_vector(body, at, 2, "extensions")
    if end != len(body):
        raise _decode_error(f"{len(body) - end} bytes after the extensions")
    extensions: dict[int, bytes] = {}
    unpack, total, at = _EXTENSION_HEADER.unpack_from, len(block), 0
    while at < total:
        if at + 4 > total:
            raise _decode_error("extension header is cut short")
        kind, size = unpack(block, at)
        start = at + 4
        at = start + size
        if at > total:
            raise _decode_error(f"extension {kind} of {size} bytes is cut short")
        if kind in extensions:
            # Two parsers would disagree on which of the two names the site (RFC 8446 section 4.2).
            raise ClientHelloError(ILLEGAL_PARAMETER, f"client hello: extension {kind} comes twice, once is allowed")
        extensions[kind] = block[start:at]
    return extensions


def _parse_server_name(extension: bytes | None) -> str | None:
    if extension is None:
        return None
    entries = _read_whole_vector(extension, 2, "server name")
    name, end = _read_vector(entries, 1, 2, "server name")
    # No name type but host_name (0) was ever defined, and OpenSSL takes one entry only: agree with it.
    if entries[0] != 0 or end != len(entries):
        raise _decode_error("server name list, one entry of type host_name (0) is allowed")
    name = name.lower().removesuffix(b".")
    text = name.decode("latin-1")
    if _is_address(text):
        return None
    if len(name) > _MAX_NAME_SIZE or not _HOST_NAME.fullmatch(name):
        message = f"client hello: server name {name[:64]!r} is no host name, labels of a-z 0-9 - _ are allowed"
        raise ClientHelloError(UNRECOGNIZED_NAME, message)
    return text


def _is_address(text: str) -> bool:
    # No address lacks both, and few names have one: spares them the attempt.
    if ":" not in text and not text[-1:].isdigit():
        return False
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _parse_alpn(extension: bytes | None) -> tuple[bytes, ...]:
    if extension is None:
        return ()
    names = _read_whole_vector(extension, 2, "ALPN")
    protocols: list[bytes] = []
    at = 0
    while at < len(names):
        name, at = _read_vector(names, at, 1, "ALPN")
        if not name:
            raise _decode_error("ALPN protocol without a name (RFC 7301 section 3.1)")
        protocols.append(name)
    return tuple(protocols)


def _parse_numbers(vector: bytes, what: str) -> tuple[int, ...]:
    size = len(vector)
    if not size or size % 2:
        raise _decode_error(f"{what} of {size} bytes, pairs of bytes are due")
    return struct.unpack(f">{size // 2}H", vector)


def _read_vector(data: bytes, at: int, width: int, what: str) -> tuple[bytes, int]:
    """Return the vector at `at`, whose length takes `width` bytes, and where it ends."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise _decode_error(f"{what} cut short")
    return data[start:end], end


def _read_whole_vector(data: bytes, width: int, what: str) -> bytes:
    vector, end = _read_vector(data, 0, width, what)
    if end != len(data) or not vector:
        raise _decode_error(f"{what}: vector of {len(vector)} bytes in an extension of {len(data)}")
    return vector


def _decode_error(message: str) -> ClientHelloError:
    return ClientHelloError(DECODE_ERROR, f"client hello: {message} (RFC 8446 section 4.1.2)")
