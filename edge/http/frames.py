"""The frames of HTTP/2: numbers and layouts (RFC 9113 sections 4 and 6, RFC 9218 section 7)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEADER: Final = struct.Struct("!HBBBI")  # length in two parts, type, flags, stream (the highest bit is reserved)
HEADER_SIZE: Final = HEADER.size
STREAM_MASK: Final = 0x7FFF_FFFF

# Types.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
PRIORITY_UPDATE: Final = 16

# Flags.
END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
WITH_PRIORITY: Final = 0x20

# Settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8  # RFC 8441
NO_RFC7540_PRIORITIES: Final = 9  # RFC 9218

DEFAULT_WINDOW: Final = 65535
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_FRAME_SIZE: Final = 16384
LARGEST_FRAME_SIZE: Final = 2**24 - 1


class Code(IntEnum):
    """Why a stream or the connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def encode_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def encode_settings(settings: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return encode_frame(SETTINGS, 0, 0, b"".join(struct.pack("!HI", *item) for item in settings.items()))


def encode_reset(stream: int, code: Code) -> bytes:
    """Return a RST_STREAM frame."""
    return encode_frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def encode_window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection's window."""
    return encode_frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def encode_goaway(last: int, code: Code, reason: str = "") -> bytes:
    """Return a GOAWAY frame: no stream behind `last` was or will be served."""
    return encode_frame(GOAWAY, 0, 0, struct.pack("!II", last, code) + reason.encode())
