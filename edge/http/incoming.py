"""What the frames of a client may look like, each on its own (RFC 9113 section 6): no state but a head in pieces."""

from __future__ import annotations

import struct

from edge.http import frames
from edge.http.frames import Code

# A head comes in one frame and rarely in two (CONTINUATION flood, CVE-2024-27316).
MAX_CONTINUATIONS = 8

# RFC 9113 section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1: on or off.
_SWITCHES = (frames.ENABLE_PUSH, frames.ENABLE_CONNECT_PROTOCOL, frames.NO_RFC7540_PRIORITIES)

_SETTING = struct.Struct("!HI")
_WORD = struct.Struct("!I")


class Http2Error(Exception):
    """The peer broke a rule of the connection; `code` is what it is told."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class HeadBlock:
    """A head that comes in several frames. `max_size` is in bytes."""

    __slots__ = ("_max_size", "_pieces", "_size", "flags", "stream")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._pieces: list[bytes] = []
        self._size = 0
        self.stream = 0  # 0: none is under way
        self.flags = 0  # of its HEADERS

    def begin(self, stream: int, flags: int, piece: bytes) -> None:
        """Take the piece that HEADERS brought."""
        self.stream = stream
        self.flags = flags
        self._pieces = [piece]
        self._size = len(piece)

    def add(self, piece: bytes) -> None:
        """Take the piece that a CONTINUATION brought. Raises Http2Error."""
        self._pieces.append(piece)
        self._size += len(piece)
        if len(self._pieces) > 1 + MAX_CONTINUATIONS:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, f"a head in more than {MAX_CONTINUATIONS} CONTINUATION frames")
        if self._size > self._max_size:
            reason = f"a head of {self._size} bytes, at most {self._max_size} allowed"
            raise Http2Error(Code.ENHANCE_YOUR_CALM, reason)

    def finish(self) -> bytes:
        """Return the whole block."""
        block = b"".join(self._pieces)
        self._pieces = []
        self.stream = 0
        return block


def check_preface(data: bytes) -> bool:
    """Tell whether the whole preface is there (section 3.4). Raises Http2Error if it cannot be one."""
    preface = frames.PREFACE
    if not preface.startswith(data[: len(preface)]):
        raise Http2Error(Code.PROTOCOL_ERROR, "not the preface of HTTP/2 (RFC 9113 section 3.4)")
    head = data[len(preface) : len(preface) + frames.HEADER_SIZE]
    if len(head) < frames.HEADER_SIZE:
        return False
    if head[3] != frames.SETTINGS or head[4] & frames.ACK:
        raise Http2Error(Code.PROTOCOL_ERROR, "a preface without SETTINGS (RFC 9113 section 3.4)")
    return True


def strip_head(flags: int, number: int, payload: bytes) -> bytes:
    """Return the block of a HEADERS frame without padding and priority. Raises Http2Error."""
    if not number & 1:
        raise Http2Error(Code.PROTOCOL_ERROR, f"HEADERS on stream {number} (RFC 9113 section 5.1.1)")
    if flags & frames.PADDED:
        payload = strip_padding(payload)
    if flags & frames.WITH_PRIORITY:
        # RFC 9113 section 5.3.2: what RFC 7540 made of it is gone, and nothing is read from it.
        if len(payload) < 5:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority (RFC 9113 section 6.2)")
        payload = payload[5:]
    return payload


def strip_padding(payload: bytes) -> bytes:
    """Return what is padded. Raises Http2Error if the padding is longer than the frame (section 6.1)."""
    if not payload or payload[0] >= len(payload):
        raise Http2Error(Code.PROTOCOL_ERROR, "padding that is longer than its frame (RFC 9113 section 6.1)")
    return payload[1 : len(payload) - payload[0]]


def parse_window_update(payload: bytes) -> int:
    """Return the increment of a window, in bytes. Raises Http2Error (section 6.9)."""
    if len(payload) != 4:
        raise Http2Error(Code.FRAME_SIZE_ERROR, f"WINDOW_UPDATE of {len(payload)} bytes (RFC 9113 section 6.9)")
    increment: int = _WORD.unpack(payload)[0] & frames.STREAM_MASK
    if not increment:
        raise Http2Error(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0 bytes (RFC 9113 section 6.9)")
    return increment


def parse_settings(flags: int, number: int, payload: bytes) -> list[tuple[int, int]]:
    """Return the names and values of a SETTINGS frame, each one that may be set. Raises Http2Error (section 6.5)."""
    if number:
        raise Http2Error(Code.PROTOCOL_ERROR, f"SETTINGS on stream {number} (RFC 9113 section 6.5)")
    if len(payload) % _SETTING.size or (flags & frames.ACK and payload):
        raise Http2Error(Code.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes (RFC 9113 section 6.5)")
    settings: list[tuple[int, int]] = list(_SETTING.iter_unpack(payload))
    for name, value in settings:
        if name == frames.INITIAL_WINDOW_SIZE and value > frames.MAX_WINDOW:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value} (RFC 9113 section 6.5.2)")
        if name == frames.MAX_FRAME_SIZE and not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
            raise Http2Error(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value} (RFC 9113 section 6.5.2)")
        if name in _SWITCHES and value > 1:
            raise Http2Error(Code.PROTOCOL_ERROR, f"setting {name} is {value}, 0 or 1 allowed (RFC 9113 section 6.5.2)")
    return settings


def check_reset(payload: bytes) -> None:
    """Raise Http2Error unless it is the payload of a RST_STREAM (section 6.4)."""
    if len(payload) != 4:
        raise Http2Error(Code.FRAME_SIZE_ERROR, f"RST_STREAM of {len(payload)} bytes (RFC 9113 section 6.4)")


def check_ping(number: int, payload: bytes) -> None:
    """Raise Http2Error unless it is a PING (section 6.7)."""
    if number or len(payload) != 8:
        code = Code.PROTOCOL_ERROR if number else Code.FRAME_SIZE_ERROR
        raise Http2Error(code, f"PING of {len(payload)} bytes on stream {number} (RFC 9113 section 6.7)")


def check_other(kind: int, number: int, payload: bytes) -> None:
    """Check the frames of which nothing is used. Raises Http2Error."""
    if kind == frames.PRIORITY:
        if not number or len(payload) != 5:
            code = Code.FRAME_SIZE_ERROR if number else Code.PROTOCOL_ERROR
            raise Http2Error(code, f"PRIORITY of {len(payload)} bytes on stream {number} (RFC 9113 section 6.3)")
    elif kind == frames.PRIORITY_UPDATE:
        # Streams take turns, whatever their urgency.
        if not number and len(payload) < 4:
            reason = f"PRIORITY_UPDATE of {len(payload)} bytes (RFC 9218 section 7.1)"
            raise Http2Error(Code.FRAME_SIZE_ERROR, reason)
        if number or not _WORD.unpack_from(payload)[0] & frames.STREAM_MASK:
            raise Http2Error(Code.PROTOCOL_ERROR, "PRIORITY_UPDATE of no stream (RFC 9218 section 7.1)")
    elif kind == frames.GOAWAY:
        # The client opens nothing more, and takes what it has asked for.
        if number or len(payload) < 8:
            code = Code.PROTOCOL_ERROR if number else Code.FRAME_SIZE_ERROR
            raise Http2Error(code, f"GOAWAY of {len(payload)} bytes on stream {number} (RFC 9113 section 6.8)")
    elif kind == frames.PUSH_PROMISE:
        raise Http2Error(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client (RFC 9113 section 8.4)")
