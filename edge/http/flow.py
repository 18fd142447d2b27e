"""What leaves on an HTTP/2 connection: frames in order, content within both windows, streams in turn (RFC 9113 5.2).

Theory of operation
-------------------
Heads and control frames are written in the order in which they are made, as field compression asks. Content that fits
one frame and the windows follows its head at once. More than that waits with its stream, and `take()` goes round the
streams that may send, a frame of each: a large download costs a small answer one frame's time for each other download.

While the socket takes nothing, all content waits, however small and whatever the windows allow: `waiting` is all that a
client that does not read makes the process keep, and the process has a bound for that.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from edge.http import frames
from edge.http.frames import Code
from edge.http.hpack import HeadEncoder

# Below this, more content of a stream is asked for: it keeps the connection busy while the worker is told.
LOW_WATER = 32 * 1024
# Pieces that wait are joined up to this size: an object each would be several times what a small one holds.
_SMALL = 1024
_MAX_REMEMBERED = 256

# What may come of a request whose answer is there already. Some clients wait for room to send all of it before they
# look at the answer (httpcore 1.0); they have this much, and half a second.
MAX_DROPPED = 8 * 1024 * 1024


class Stream:
    """One request and its answer, as far as framing goes."""

    __slots__ = (
        "chunks",
        "code",
        "ended_in",
        "ended_out",
        "ending",
        "expected",
        "head_size",
        "id",
        "is_late",
        "is_queued",
        "is_refused",
        "max_body",
        "received",
        "remaining",
        "spare",
        "trailers",
        "unacknowledged",
        "waiting",
        "window_in",
        "window_out",
    )

    def __init__(self, number: int, window_out: int) -> None:
        self.id = number
        self.window_in = frames.DEFAULT_WINDOW  # bytes that the client may still send
        self.unacknowledged = 0  # bytes that were handed on since the last WINDOW_UPDATE
        self.expected = -1  # bytes of content that the request announced; -1: it did not
        self.received = 0
        self.max_body = 0  # bytes of content that it may have; 0: no limit
        self.head_size = 0  # what its head counts for while it is open
        self.ended_in = False  # the client has ended its side
        self.is_refused = False  # what still comes of the request is dropped
        self.spare = MAX_DROPPED  # how much of it the client may still send
        self.code = Code.NO_ERROR  # with which the rest of a request is refused, once the answer is out
        self.window_out = window_out  # bytes that the client takes
        self.chunks: deque[memoryview] = deque()  # content that waits for the windows
        self.waiting = 0  # its size
        self.is_queued = False
        self.ending = False  # the answer ends with `chunks` and `trailers`
        self.trailers: list[bytes] = []
        self.ended_out = False
        self.is_late = False  # to be reset when the time comes again
        self.remaining = -1  # bytes that the answer's Content-Length still announces; -1: it announced none

    def add(self, body: bytes) -> None:
        """Put content behind that which waits."""
        self.waiting += len(body)
        chunks = self.chunks
        if chunks and len(chunks[-1]) + len(body) <= _SMALL:
            chunks[-1] = memoryview(b"".join((chunks[-1], body)))
        else:
            chunks.append(memoryview(body))


class Sender:
    """Everything that is to be written. `streams` is the connection's table: those that are over leave it here."""

    __slots__ = (
        "_at_once",
        "_encoder",
        "_out",
        "_ready",
        "_streams",
        "answered",
        "drained",
        "earned",
        "frame_size",
        "initial_window",
        "replies",
        "reset_here",
        "sent",
        "waiting",
        "window",
    )

    def __init__(self, encoder: HeadEncoder, streams: dict[int, Stream]) -> None:
        self._encoder = encoder
        self._streams = streams
        self._out: list[bytes | memoryview] = []
        self._ready: deque[Stream] = deque()
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.frame_size = frames.DEFAULT_FRAME_SIZE
        self._at_once = self.frame_size  # bytes of content that need not wait, if the windows allow it
        self.replies = 0  # control frames that answer the client's, not yet taken
        self.waiting = 0  # bytes of content of all streams that wait for windows
        self.sent = 0  # bytes of content that were ever taken
        self.earned = 0  # frames that a client may answer with a WINDOW_UPDATE or two
        self.reset_here: OrderedDict[int, None] = OrderedDict()  # of which late frames are to be expected
        self.answered: list[Stream] = []  # whose client goes on sending
        self.drained: list[int] = []  # streams that can take more content

    def block(self, *, is_blocked: bool) -> None:
        """Tell whether what is written now would only gather, as the socket takes nothing."""
        self._at_once = 0 if is_blocked else self.frame_size

    def control(self, frame: bytes) -> None:
        """Write a frame that carries no content."""
        self._out.append(frame)

    def reply(self, frame: bytes) -> None:
        """Write a frame that answers one of the client's: nothing bounds those but their number."""
        self.replies += 1
        self._out.append(frame)

    def head(self, stream: Stream, block: bytes, *, end: bool) -> None:
        """Write a block of fields; the answer's whole, if `end`."""
        flags = frames.END_STREAM if end else 0
        if len(block) <= self.frame_size:
            size = len(block)
            header = frames.HEADER.pack(size >> 8, size & 0xFF, frames.HEADERS, flags | frames.END_HEADERS, stream.id)
            self._out.append(header + block)
        else:
            self._large_head(stream.id, flags, block)
        if end:
            self._end(stream)

    def content(self, stream: Stream, body: bytes, *, end: bool) -> None:
        """Write content, now or when the windows allow it."""
        size = len(body)
        # A window may be below zero (RFC 9113 section 6.9.2), and an end without content needs none.
        if stream.waiting or size > self._at_once or (size > stream.window_out and size) or size > self.window:
            stream.add(body)
            stream.ending = end
            self.waiting += size
            self._queue(stream)
            return
        if size or end:
            stream.window_out -= size
            self.window -= size
            self.sent += size
            self.earned += 2
            flags = frames.END_STREAM if end else 0
            self._out.append(frames.HEADER.pack(size >> 8, size & 0xFF, frames.DATA, flags, stream.id) + body)
            if end:
                self._end(stream)

    def end(self, stream: Stream, trailers: list[bytes]) -> None:
        """End the answer behind its content, with trailer fields if there are any."""
        if stream.waiting:
            stream.ending = True
            stream.trailers = trailers
        elif trailers:
            self.head(stream, self._encoder.encode(trailers), end=True)
        else:
            self.content(stream, b"", end=True)

    def reset(self, stream: Stream, code: Code) -> None:
        """End a stream before its time."""
        self.refuse(stream.id, code)
        self.forget(stream)

    def refuse(self, number: int, code: Code) -> None:
        """Reset a stream, or one that never was, and remember that what still comes of it is dropped."""
        self._out.append(frames.encode_reset(number, code))
        self.reset_here[number] = None
        if len(self.reset_here) > _MAX_REMEMBERED:
            self.reset_here.popitem(last=False)

    def forget(self, stream: Stream) -> None:
        """Drop what a stream had to send: it is over."""
        self._streams.pop(stream.id, None)
        stream.ended_out = True
        self.waiting -= stream.waiting
        stream.waiting = 0
        stream.chunks.clear()

    def widen(self, stream: Stream, increment: int) -> None:
        """The client takes that much more of a stream; it may be negative."""
        stream.window_out += increment
        self._queue(stream)

    @property
    def has_output(self) -> bool:
        """Tell whether `take()` has anything to give."""
        return bool(self._out) or (bool(self._ready) and self.window > 0)

    def take(self, limit: int) -> bytes:
        """Return what may be written now: all frames without content, and content up to about `limit` bytes."""
        out, self._out = self._out, []
        self.replies = 0
        size = 0
        while self._ready and self.window > 0 and size < limit:
            stream = self._ready.popleft()
            stream.is_queued = False
            if stream.waiting and stream.window_out > 0:
                size += self._take_frame(stream, out)
                self._queue(stream)
                if self._out:  # the end of the stream: trailers, or a reset
                    out += self._out
                    self._out.clear()
        return b"".join(out)

    def _take_frame(self, stream: Stream, out: list[bytes | memoryview]) -> int:
        """Move one DATA frame of a stream to `out`; return the size of its content."""
        size = left = min(self.frame_size, stream.window_out, self.window, stream.waiting)
        stream.window_out -= size
        stream.waiting -= size
        self.window -= size
        self.waiting -= size
        self.sent += size
        is_last = stream.ending and not stream.waiting
        flags = frames.END_STREAM if is_last and not stream.trailers else 0
        out.append(frames.HEADER.pack(size >> 8, size & 0xFF, frames.DATA, flags, stream.id))
        if is_last or size >= 1024:
            self.earned += 2  # a piece that is smaller is the client's own doing: it gave no more
        chunks = stream.chunks
        while left:
            chunk = chunks.popleft()
            if len(chunk) > left:
                chunks.appendleft(chunk[left:])
                chunk = chunk[:left]
            left -= len(chunk)
            out.append(chunk)
        if is_last:
            if stream.trailers:
                self.head(stream, self._encoder.encode(stream.trailers), end=True)
            else:
                self._end(stream)
        elif stream.waiting <= LOW_WATER:
            self.drained.append(stream.id)
        return size

    def _queue(self, stream: Stream) -> None:
        if stream.waiting and stream.window_out > 0 and not stream.is_queued:
            stream.is_queued = True
            self._ready.append(stream)

    def end_late(self) -> None:
        """Reset the streams whose client has not ended its side though it had time to read the answer."""
        for stream in [stream for stream in self.answered if not stream.ended_in and stream.id in self._streams]:
            if stream.is_late:
                self.reset(stream, Code.NO_ERROR)
            stream.is_late = True
        self.answered = [stream for stream in self.answered if stream.id in self._streams]

    def _end(self, stream: Stream) -> None:
        """The answer is out: so is the stream, when the client has ended its side or is told to (RFC 9113 8.1).

        Not told at once: clients there are that drop an answer when the reset comes with it, though they must not. But
        a malformed request is an error of its stream (RFC 9113 section 8.1.1).
        """
        stream.ended_out = True
        if stream.code:
            self.refuse(stream.id, stream.code)
        if stream.ended_in or stream.code:
            self._streams.pop(stream.id, None)
        else:
            stream.is_refused = True
            self.answered.append(stream)

    def _large_head(self, number: int, flags: int, block: bytes) -> None:
        kind = frames.HEADERS
        for start in range(0, len(block), self.frame_size):
            piece = block[start : start + self.frame_size]
            if start + self.frame_size >= len(block):
                flags |= frames.END_HEADERS
            self._out.append(frames.encode_frame(kind, flags, number, piece))
            kind, flags = frames.CONTINUATION, 0
