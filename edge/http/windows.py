"""What clients may send on an HTTP/2 connection: its window, and those of its streams (RFC 9113 section 5.2)."""

from __future__ import annotations

from edge.http import frames
from edge.http.flow import Sender, Stream
from edge.http.frames import Code
from edge.http.incoming import Http2Error

# What of all requests' content a connection may hold before it is handed on.
CONNECTION_WINDOW = 1024 * 1024


class ReceiveWindow:
    """The connection's window. Both windows open again when content is handed on, in steps of half a window."""

    __slots__ = ("_left", "_sender", "_unacknowledged")

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._left = CONNECTION_WINDOW  # bytes that the client may still send
        self._unacknowledged = 0  # bytes that were handed on since the last WINDOW_UPDATE
        sender.control(frames.encode_window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW))

    def take(self, size: int) -> None:
        """Count content that came. Raises Http2Error if it is more than the window."""
        self._left -= size
        if self._left < 0:
            raise Http2Error(
                Code.FLOW_CONTROL_ERROR, "more content than the connection's window (RFC 9113 section 6.9)"
            )

    def take_of(self, stream: Stream, size: int) -> None:
        """Count content that came on a stream. Raises Http2Error if it is more than the stream's window."""
        stream.window_in -= size
        if stream.window_in < 0:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, "more content than the stream's window (RFC 9113 section 6.9)")

    def hand_on(self, stream: Stream | None, size: int) -> None:
        """Let the client send `size` bytes more, on this stream too unless it ended, or enough of it was dropped."""
        if stream is not None and (stream.is_refused or stream.ending):
            stream.spare -= size
        if stream is not None and not stream.ended_in and stream.spare > 0:
            stream.unacknowledged += size
            if stream.unacknowledged >= frames.DEFAULT_WINDOW // 2:
                stream.window_in += stream.unacknowledged
                self._sender.control(frames.encode_window_update(stream.id, stream.unacknowledged))
                stream.unacknowledged = 0
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            self._left += self._unacknowledged
            self._sender.control(frames.encode_window_update(0, self._unacknowledged))
            self._unacknowledged = 0
