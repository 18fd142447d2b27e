"""HTTP/2, the server's side of one connection (RFC 9113, 8441, 9218).

Theory of operation
-------------------
`receive()` cuts frames and returns what they amount to: the same events as HTTP/1.1's, with the number of the stream;
`answers` (answers2.py) queues the answers, and `sender.take()` (flow.py) gives what may be written. Each stream is
IDLE until its HEADERS, then open on both sides, then half closed, then gone from the table; `ended_in` and `ended_out`
are all of that (section 5.1).

What a request says wrong ends its stream with a status. A frame that breaks a rule ends the connection, also where a
stream error would do (section 5.4 allows it): honest peers never send one, and so no client can make the server reset
streams at its will (made-you-reset, CVE-2025-8671).

A client's windows are opened again as content is handed on (`consumed()`): a worker that reads slowly stops its own
stream, and a connection holds a bounded amount of content (windows.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.http import frames
from edge.http.answers2 import Answers
from edge.http.events import Data, Event, Failure, ProtocolError, Refusal, RequestHead, Reset
from edge.http.field import FieldMemory
from edge.http.flood import Patience
from edge.http.flow import Sender, Stream
from edge.http.frames import Code
from edge.http.head_reader import HeadReader
from edge.http.hpack import CompressionError, HeadEncoder
from edge.http.incoming import (
    HeadBlock,
    Http2Error,
    check_other,
    check_ping,
    check_preface,
    check_reset,
    parse_settings,
    parse_window_update,
    strip_head,
    strip_padding,
)
from edge.http.windows import ReceiveWindow

# Answers to PING and SETTINGS that may wait to be written.
MAX_REPLIES = 100
SETTINGS_NOISE = 5
# Bytes of the heads of open streams, with ENTRY_OVERHEAD for each field (HPACK bomb, CVE-2026-49975).
MAX_HEADS = 1024 * 1024

_MAX_FRAME = frames.DEFAULT_FRAME_SIZE


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """What a connection may have and send. Sizes in bytes; `max_body` 0 is no limit."""

    max_streams: int
    max_target: int
    max_header_size: int
    max_headers: int
    max_body: int


class Http2Connection:
    """The server's side of one HTTP/2 connection. It does no I/O and knows no clock."""

    __slots__ = (
        "_block",
        "_buffer",
        "_encoder",
        "_events",
        "_final",
        "_given_up",
        "_held",
        "_is_acknowledged",
        "_is_greeted",
        "_last",
        "_limits",
        "_now",
        "_patience",
        "_reader",
        "_window",
        "answers",
        "is_over",
        "sender",
        "streams",
    )

    def __init__(self, memory: FieldMemory, limits: Http2Limits) -> None:
        """`memory` serves all connections of the process."""
        self._limits = limits
        self._reader = HeadReader(
            memory,
            max_fields=limits.max_headers,
            max_size=limits.max_header_size,
            max_target=limits.max_target,
            max_body=limits.max_body,
        )
        self._encoder = HeadEncoder(memory)
        self.streams: dict[int, Stream] = {}
        self.sender = Sender(self._encoder, self.streams)
        self._buffer = b""
        self._block = HeadBlock(limits.max_header_size + limits.max_target)
        self._is_greeted = False  # the client's preface is there
        self._is_acknowledged = False  # the client knows our SETTINGS
        self._last = 0  # the client's last stream
        self._final = frames.MAX_WINDOW  # streams behind this one are not served any more
        self._held = 0  # streams that are over, whose request a worker still runs
        self._given_up = 0  # streams that were reset in this call, of which that is not known yet
        self._patience = Patience()
        self.answers = Answers(self._encoder, self.streams, self.sender, self._patience)
        self._now = 0.0
        self._events: list[Event] = []
        self.is_over = False  # nothing more is read
        self._greet()
        self._window = ReceiveWindow(self.sender)

    # What comes in.

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Return what `data` completes; `now` is in seconds of any clock. A Failure is the last event of all."""
        events: list[Event] = []
        if self.is_over:
            return events
        self._now = now
        self._given_up = 0
        self._events = events
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            position, end = 0, len(data)
            if not self._is_greeted:
                self._is_greeted = check_preface(data)
                position = len(frames.PREFACE) if self._is_greeted else end
                self._buffer = b"" if self._is_greeted else data
            while end - position >= frames.HEADER_SIZE:
                high, low, kind, flags, number = frames.HEADER.unpack_from(data, position)
                size = high << 8 | low
                if size > _MAX_FRAME:
                    raise Http2Error(Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes, at most {_MAX_FRAME} allowed")
                start = position + frames.HEADER_SIZE
                if start + size > end:
                    break
                position = start + size
                self._receive_frame(kind, flags, number & frames.STREAM_MASK, data[start:position])
            if position < end:
                self._buffer = data[position:]
        except Http2Error as error:
            self._fail(error.code, error.reason)
        except CompressionError as error:
            self._fail(Code.COMPRESSION_ERROR, f"{error} (RFC 7541)")
        self._events = []  # who is idle keeps no heads
        return events

    def _receive_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block.stream and (kind != frames.CONTINUATION or number != self._block.stream):
            raise Http2Error(Code.PROTOCOL_ERROR, "a frame within a head (RFC 9113 section 4.3)")
        if kind == frames.HEADERS:
            piece = strip_head(flags, number, payload)
            if flags & frames.END_HEADERS:
                self._receive_block(flags, number, piece)
            else:
                self._block.begin(number, flags, piece)
        elif kind == frames.DATA:
            self._receive_data(flags, number, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._receive_window_update(number, payload)
        elif kind == frames.RST_STREAM:
            self._receive_reset(number, payload)
        elif kind == frames.CONTINUATION:
            self._receive_continuation(flags, payload)
        elif kind == frames.SETTINGS:
            self._receive_settings(flags, number, payload)
        else:
            self._receive_other(kind, flags, number, payload)

    # Heads.

    def _receive_continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        number = block.stream
        if not number:
            raise Http2Error(Code.PROTOCOL_ERROR, "CONTINUATION of nothing (RFC 9113 section 6.10)")
        block.add(payload)
        if flags & frames.END_HEADERS:
            self._receive_block(block.flags, number, block.finish())

    def _receive_block(self, flags: int, number: int, block: bytes) -> None:
        ended = flags & frames.END_STREAM != 0
        if number <= self._last:
            self._receive_trailers(number, self._reader.read_trailers(block), ended)
            return
        head, size = self._reader.read(number, block, ended=ended)
        self._last = number
        if number > self._final:
            self._spend(1)  # after GOAWAY: the client will ask somebody else
            return
        running = len(self.streams) + self._held + self._given_up
        if running >= self._limits.max_streams or not self._has_room(size):
            self._refuse_stream(number)
            return
        self._patience.request()
        stream = Stream(number, self.sender.initial_window)
        self.streams[number] = stream
        stream.ended_in = ended
        stream.head_size = size
        if type(head) is not RequestHead:
            assert isinstance(head, ProtocolError)
            self._refuse(stream, head.status, head.reason, head.fields)
            return
        if not ended:
            stream.expected = head.length
            stream.max_body = 0 if head.upgrade else self._limits.max_body
        self._events.append(head)

    def _has_room(self, size: int) -> bool:
        """Tell whether a head of `size` bytes may be kept beside those of the open streams (HPACK bomb)."""
        if size * self._limits.max_streams <= MAX_HEADS:
            return True
        return size + sum([stream.head_size for stream in self.streams.values()]) <= MAX_HEADS

    def _receive_trailers(self, number: int, fault: ProtocolError | None, ended: bool) -> None:
        stream = self.streams.get(number)
        if stream is None or stream.ended_in:
            self._check_late("HEADERS", number)
            self._spend(1)
            return
        if not ended:
            raise Http2Error(Code.PROTOCOL_ERROR, "trailers that do not end the stream (RFC 9113 section 8.1)")
        if fault is None or stream.is_refused or stream.ending:
            self._receive_content(stream, b"", True)
        else:
            stream.ended_in = True
            self._refuse(stream, fault.status, fault.reason)

    def _refuse_stream(self, number: int) -> None:
        """More than is announced, or held: the client may send this one again (RFC 9113 section 5.1.2)."""
        self._spend(1)
        if self._is_acknowledged and len(self.streams) >= self._limits.max_streams:
            self._patience.err("requests beyond what was announced", self._now)
        self.sender.refuse(number, Code.REFUSED_STREAM)

    def _refuse(self, stream: Stream, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Have a request answered with `status`; nothing more of it is read."""
        if status == 400:
            stream.code = Code.PROTOCOL_ERROR  # RFC 9113 section 8.1.1, malformed
            self._patience.err(f"too many malformed requests, the last: {reason}", self._now)
        stream.is_refused = True
        self._events.append(Refusal(stream.id, status, reason, fields))

    # Content.

    def _receive_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._window.take(size)
        body = strip_padding(payload) if flags & frames.PADDED else payload
        stream = self.streams.get(number)
        if stream is None or stream.ended_in:
            self._check_not_idle("DATA", number)
            self._check_late("DATA", number)
            if not body:
                self._spend(1)
            self._window.hand_on(None, size)
            return
        self._window.take_of(stream, size)
        ended = flags & frames.END_STREAM != 0
        if not body and not ended:
            self._spend(1)
        if size > len(body):
            self._window.hand_on(stream, size - len(body))  # padding counts, and is handed to nobody
        self._receive_content(stream, body, ended)

    def _receive_content(self, stream: Stream, body: bytes, ended: bool) -> None:
        stream.ended_in = ended
        if stream.is_refused or stream.ending:  # the answer is whole, and waits for its client
            self._window.hand_on(stream, len(body))
            if ended and stream.ended_out:
                self.sender.forget(stream)
            return
        stream.received += len(body)
        received, expected = stream.received, stream.expected
        if stream.max_body and received > stream.max_body:
            self._refuse_content(stream, len(body), 413, f"content of more than {stream.max_body} bytes")
        elif expected >= 0 and (received > expected or (ended and received < expected)):
            reason = f"content of {received} bytes, Content-Length {expected} (RFC 9113 section 8.1.1)"
            self._refuse_content(stream, len(body), 400, reason)
        else:
            self._events.append(Data(stream.id, body, ended))

    def _refuse_content(self, stream: Stream, size: int, status: int, reason: str) -> None:
        self._refuse(stream, status, reason)
        self._window.hand_on(stream, size)

    def consumed(self, number: int, size: int) -> None:
        """Let the client send `size` bytes more: so many of stream `number` were handed on, or dropped."""
        self._window.hand_on(self.streams.get(number), size)

    # Everything else that comes in.

    def _receive_window_update(self, number: int, payload: bytes) -> None:
        increment = parse_window_update(payload)
        self._spend(1)
        sender = self.sender
        if not number:
            sender.window += increment
            _check_window(sender.window)
            return
        stream = self.streams.get(number)
        if stream is None:
            self._check_not_idle("WINDOW_UPDATE", number)
        else:
            sender.widen(stream, increment)
            _check_window(stream.window_out)

    def _receive_reset(self, number: int, payload: bytes) -> None:
        check_reset(payload)
        self._check_not_idle("RST_STREAM", number)
        stream = self.streams.get(number)
        if stream is None:
            self._spend(1)
            return
        if stream.ended_out:
            self._spend(1)  # it has its answer
        else:
            self._patience.give_up(self._now)
            self._given_up += 1
            self._events.append(Reset(number))
        self.sender.forget(stream)

    def _receive_settings(self, flags: int, number: int, payload: bytes) -> None:
        settings = parse_settings(flags, number, payload)
        self._spend(SETTINGS_NOISE + len(settings))
        if flags & frames.ACK:
            self._is_acknowledged = True
            return
        sender = self.sender
        for name, value in settings:
            if name == frames.HEADER_TABLE_SIZE:
                self._encoder.resize(value)
            elif name == frames.INITIAL_WINDOW_SIZE:
                change, sender.initial_window = value - sender.initial_window, value
                # RFC 9113 section 6.9.2: the windows of open streams move with it, below zero if need be.
                for stream in self.streams.values():
                    sender.widen(stream, change)
                    _check_window(stream.window_out)
            # Not MAX_FRAME_SIZE: larger frames would only make the turns of the streams longer.
        self._reply(frames.encode_frame(frames.SETTINGS, frames.ACK, 0))

    def _receive_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._spend(1)  # RFC 9113 section 5.5: what is not known is ignored
        if kind == frames.PING:
            check_ping(number, payload)
            if not flags & frames.ACK:
                self._reply(frames.encode_frame(frames.PING, frames.ACK, 0, payload))
        else:
            check_other(kind, number, payload)

    # What goes out beside the answers.

    def reset(self, number: int, code: Code) -> None:
        """End a stream before its time."""
        stream = self.streams.get(number)
        if stream is not None:
            self.sender.reset(stream, code)

    def end_late(self) -> None:
        """Reset the streams that were answered two calls ago, and whose client sends on."""
        self.sender.end_late()

    def hold(self) -> None:
        """Count a stream that is over on until `release()`: a worker still runs its request."""
        self._held += 1

    def release(self) -> None:
        """The worker has done with a request that was held."""
        self._held -= 1

    def announce_end(self) -> None:
        """Say that the connection will be closed; requests under way to here are served yet (RFC 9113 section 6.8)."""
        if not self.is_over and not self.is_closing:
            self.sender.control(frames.encode_goaway(frames.MAX_WINDOW, Code.NO_ERROR))

    def refuse_more(self) -> None:
        """Say that only the requests that have come are served."""
        if not self.is_over and self._final == frames.MAX_WINDOW:
            self._final = self._last
            self.sender.control(frames.encode_goaway(self._last, Code.NO_ERROR))

    @property
    def is_closing(self) -> bool:
        """True when the client has been told that nothing more is taken."""
        return self._final != frames.MAX_WINDOW

    @property
    def is_within_head(self) -> bool:
        """True while a head, or the preface, has begun and is not whole."""
        return self._block.stream > 0 or not self._is_greeted

    # Below: how.

    def _greet(self) -> None:
        limits = self._limits
        settings = {
            frames.MAX_CONCURRENT_STREAMS: limits.max_streams,
            frames.MAX_HEADER_LIST_SIZE: limits.max_header_size,
            frames.ENABLE_CONNECT_PROTOCOL: 1,
            frames.NO_RFC7540_PRIORITIES: 1,
        }
        self.sender.control(frames.encode_settings(settings))

    def _spend(self, cost: int) -> None:
        if self.sender.earned:
            self._patience.send(self.sender.earned)
            self.sender.earned = 0
        self._patience.hear(cost, self._now)

    def _reply(self, frame: bytes) -> None:
        self.sender.reply(frame)
        if self.sender.replies > MAX_REPLIES:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, f"more than {MAX_REPLIES} frames that ask for an answer at once")

    def _check_not_idle(self, frame: str, number: int) -> None:
        if number > self._last or not number & 1:
            raise Http2Error(Code.PROTOCOL_ERROR, f"{frame} on stream {number}, which is idle (RFC 9113 section 5.1)")

    def _check_late(self, frame: str, number: int) -> None:
        """Raise Http2Error unless it may have been under way: the stream was reset here, or is behind a GOAWAY."""
        if number not in self.sender.reset_here and number <= self._final:
            raise Http2Error(Code.STREAM_CLOSED, f"{frame} on stream {number}, which is closed (RFC 9113 section 5.1)")

    def _fail(self, code: Code, reason: str) -> None:
        self.is_over = True
        self.sender.control(frames.encode_goaway(min(self._last, self._final), code, reason[:200]))
        self._events.append(Failure(reason))


def _check_window(window: int) -> None:
    if window > frames.MAX_WINDOW:
        raise Http2Error(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes (RFC 9113 section 6.9.1)")
