"""The wire between an edge process and a worker process: frames on a Unix stream socket.

Theory of operation
-------------------
One connection joins one edge to one worker and carries many *streams*. A stream is one HTTP request and
its answer, or one WebSocket. The edge opens a stream with REQUEST and numbers it; both ends then send
frames that name it, and it ends when both have sent END, or when either sends RESET.

A frame is a fixed header (`HEADER`) and a payload. The payload is a *head* of `head_size` bytes and a *body*:
the rest. A head is a list of byte strings joined by LF. No part can hold an LF, because no method, target, field
name or field value can (RFC 9110 section 5.5), and nobody parses HTTP twice: `bytes.join` and `bytes.split` are the
whole codec. Both ends check it all the same: a request's head ends with the number of its parts, and a worker refuses
to send a value that holds one.

Credit: each direction of a stream starts with `INITIAL_WINDOW` bytes of body that may be sent, and WINDOW
gives more. A reader gives credit back when it has handed the bytes on, so a slow client or a slow application
stops its own stream only, and memory is bounded by the window. A REQUEST that carries NARROW gives the worker
`NARROW_WINDOW` bytes to begin with. A REQUEST that carries EXPECT starts with no
credit towards the worker: the first WINDOW is the application's wish to read (RFC 9110 section 10.1.1).

This module does no I/O and keeps no clock.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

VERSION = 3

HEADER = struct.Struct("!IIIBB")  # payload size, head size, stream, type, flags
HEADER_SIZE = HEADER.size

# Frame types.
HELLO = 1  # worker -> edge, first: version, process id, worker number
READY = 2  # worker -> edge: lifespan startup is done, requests may come
DRAIN = 3  # edge -> worker: the edge is going away; WebSockets are to close with 1012
REQUEST = 4  # edge -> worker: opens a stream
RESPONSE = 5  # worker -> edge: the final status and fields of a stream
DATA = 6  # both: content, or the bytes of a WebSocket
RESET = 7  # both: the stream is over, now; the head holds one part, the reason
WINDOW = 8  # both: four bytes, how much more the sender of this frame will take
PING = 9  # edge -> worker: answered by PONG from the worker's event loop
PONG = 10  # worker -> edge
TRAILERS = 11  # worker -> edge: trailer fields; always with END

# Flags.
END = 1  # the sender's last frame of this stream
UPGRADE = 2  # REQUEST: a WebSocket handshake that the edge has checked
EXPECT = 4  # REQUEST: the client waits for 100 Continue
HAS_DATE = 8  # RESPONSE: the application set Date
HAS_SERVER = 16  # RESPONSE: the application set Server
NARROW = 32  # REQUEST: the answer begins with NARROW_WINDOW of credit, as the client has many requests open
WHOLE = 64  # READY: requests are best sent when their content is whole: each call takes a thread (WSGI)

INITIAL_WINDOW = 256 * 1024
# What a hundred streams of one client may hold between them before the edge knows that the client takes anything.
NARROW_WINDOW = 16 * 1024
# Credit comes back in pieces of a quarter window: often enough to keep the sender going, rare enough to cost little.
WINDOW_STEP = INITIAL_WINDOW // 4
# One frame's share of a connection: a large body does not hold up the small frames of other streams for long.
MAX_DATA = 64 * 1024
# The fields of an answer (front ends allow 4 KiB to 1 MiB). The worker refuses more before it is a frame: a frame that
# is too large ends the connection, and with it every other request of the worker.
MAX_FIELDS = 256 * 1024
# A request head is at most 1 MiB of fields and 1 MiB of request line, as far as the edge's limits can be raised; a
# small body may travel in the same frame.
MAX_PAYLOAD = 4 * 1024 * 1024

# The parts of a REQUEST head before the fields: method, target, HTTP version, scheme, client host and port,
# server host and port. An empty client host: the peer has no address. An empty server port: a Unix socket.
REQUEST_PARTS = 8

Frame = tuple[int, int, int, bytes, bytes]
"""Type, flags, stream, head, body. A plain tuple: one is made for each frame, and a class costs eight times as much."""


class WireError(Exception):
    """The other end broke the wire's rules; the connection cannot be used any more."""


class FrameReader:
    """Turns the bytes of a connection into frames, in any split."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises WireError if a header announces more than `MAX_PAYLOAD` bytes, or a head larger than its payload.
        """
        if self._buffer:
            data = self._buffer + data
        frames: list[Frame] = []
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            size, head_size, stream, kind, flags = HEADER.unpack_from(data, position)
            if size > MAX_PAYLOAD or head_size > size:
                raise WireError(f"frame of {size} bytes with a head of {head_size}, at most {MAX_PAYLOAD} allowed")
            start = position + HEADER_SIZE
            position = start + size
            if position > end:
                position = start - HEADER_SIZE
                break
            middle = start + head_size
            frames.append((kind, flags, stream, data[start:middle], data[middle:position]))
        self._buffer = data[position:] if position < end else b""
        return frames


class FrameWriter:
    """Gathers the frames of one loop turn, so that they leave in one system call.

    `write` is the transport's; `later` is the loop's `call_soon`. An event loop that writes at once (uvloop does) would
    make a system call of each frame.
    """

    __slots__ = ("_frames", "_later", "_write")

    def __init__(self, write: Callable[[bytes], None], later: Callable[[Callable[[], None]], object]) -> None:
        self._write = write
        self._later = later
        self._frames: list[bytes] = []

    def write(self, frames: bytes) -> None:
        """Send whole frames at the end of this turn."""
        if not self._frames:
            self._later(self.flush)
        self._frames.append(frames)

    def flush(self) -> None:
        """Send what has gathered."""
        frames, self._frames = self._frames, []
        if frames:
            self._write(b"".join(frames) if len(frames) > 1 else frames[0])

    def close(self) -> None:
        """The connection is lost: what has gathered, and what is written from now on, goes nowhere."""
        self._write = lambda frames: None


def encode_frame(kind: int, flags: int, stream: int, head: bytes = b"", body: bytes = b"") -> bytes:
    """Return the frame's bytes; the payload is `head` and then `body`."""
    head_size = len(head)
    return HEADER.pack(head_size + len(body), head_size, stream, kind, flags) + head + body


def join_request(pieces: list[bytes], parts: int) -> bytes:
    """Return the head of a REQUEST out of `pieces`, which hold `parts` parts between them.

    Pieces may have been joined before, as most of them are the same from request to request. The last part is the
    number of parts before it.
    """
    return b"%b\n%d" % (b"\n".join(pieces), parts)


def extend_request(head: bytes, name: bytes, value: bytes) -> bytes:
    """Return the head of a REQUEST with one field more."""
    pieces, _, parts = head.rpartition(b"\n")
    return b"%b\n%b\n%b\n%d" % (pieces, name, value, int(parts) + 2)


def split_request(head: bytes) -> list[bytes]:
    """Return the parts of the head of a REQUEST, without their number.

    Raises WireError if they are not as many as announced: one of them held an LF.
    """
    parts = head.split(b"\n")
    announced = parts.pop()
    if announced != b"%d" % len(parts):
        raise WireError(f"a head of {len(parts)} parts that announces {announced[:20]!r}")
    return parts


def encode_window(stream: int, credit: int) -> bytes:
    """Return a WINDOW frame: the sender takes `credit` bytes more on this stream."""
    return HEADER.pack(4, 0, stream, WINDOW, 0) + credit.to_bytes(4, "big")


def decode_window(body: bytes) -> int:
    """Return the bytes of credit that a WINDOW frame gives.

    Raises WireError if the payload is not four bytes.
    """
    if len(body) != 4:
        raise WireError(f"a WINDOW frame of {len(body)} bytes, 4 expected")
    return int.from_bytes(body, "big")


def encode_reset(stream: int, reason: bytes) -> bytes:
    """Return a RESET frame; `reason` is one of the documented words."""
    return encode_frame(RESET, 0, stream, reason)


def encode_hello(pid: int, worker: int) -> bytes:
    """Return the frame that a worker sends first."""
    return encode_frame(HELLO, 0, 0, b"edge-wire\n%d\n%d\n%d" % (VERSION, pid, worker))


def decode_hello(head: bytes) -> tuple[int, int]:
    """Return the process id and the worker's number out of a HELLO.

    Raises WireError if the other end is not a worker, or speaks another version.
    """
    parts = head.split(b"\n")
    if len(parts) != 4 or parts[0] != b"edge-wire" or not all(part.isdigit() for part in parts[1:]):
        raise WireError(f"not the greeting of a worker: {head[:40]!r}")
    if int(parts[1]) != VERSION:
        raise WireError(f"the worker speaks version {int(parts[1])} of the wire, this edge speaks {VERSION}")
    return int(parts[2]), int(parts[3])
