"""One request and its answer, between a client connection and whoever serves it: a worker, or one in its place.

Theory of operation
-------------------
An exchange is made when a head has been read and allowed. The dispatcher gives it a worker, at once or when one has
room; until then its content waits here (the client connection stops reading, so that is at most one read), or is held
until it is whole (intake.py). Then content flows to the worker within the worker's credit, and the answer to the client
within ours: credit goes back to the worker only as the client takes the bytes. It ends when the answer is whole, the
client leaves, or the worker fails; `client.finished()` is called exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.dispatch.promise import FilePromise, find_promise
from edge.dispatch.resets import refusal_of
from edge.http.events import ProtocolError, RequestHead
from edge.http.fields import RESPONSE_HOP, allowed_trailers, without_hop
from edge_backend import wire

if TYPE_CHECKING:
    from edge.dispatch.intake import HeldContent
    from edge.dispatch.sides import Client, Link
    from edge.dispatch.target import Target

# RFC 9110 section 9.2.2: doing these twice is as good as doing them once.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
# A request is given to another worker once: what kills two workers is the request.
_MAX_ATTEMPTS = 2
# Content that has gone to a worker is kept up to this size, so that another worker can still get the request.
MAX_KEPT = 64 * 1024

# What a worker may answer; 101 is checked where the handshake is known.
_STATUS = {b"%d" % status: status for status in (101, *range(200, 600))}


class Exchange:
    """One request under way. The client connection makes it; the dispatcher and a worker link move it on."""

    __slots__ = (
        "_attempts",
        "_client",
        "_credit",
        "_ended",
        "_kept",
        "_owed",
        "_pending",
        "_pending_complete",
        "_promise",
        "_sent",
        "_whole_at",
        "_window",
        "affinity",
        "answered",
        "client_address",
        "content",
        "content_read",
        "fields",
        "finished_at",
        "head",
        "is_held",
        "link",
        "ready_at",
        "reason",
        "request_id",
        "sent_at",
        "started_at",
        "status",
        "stream",
        "target",
        "worker",
        "written",
    )

    def __init__(self, client: Client, head: RequestHead, request_id: bytes, address: bytes, started_at: float) -> None:
        self.client_address = address  # for the log: what the policies take for the client
        self.head = head
        self.request_id = request_id
        self.started_at = started_at
        self.ready_at = started_at  # when all was here that had to be before anybody got it
        self.sent_at = 0.0  # when a worker got it; 0 while it waits
        self.finished_at = 0.0
        self.target: Target | None = None  # who was asked to serve it
        self.link: Link | None = None
        self.stream = 0
        self.worker = -1
        self.status = 0
        self.reason = ""
        self.written = 0  # bytes of content sent to the client
        self.content_read = len(head.body)
        self.answered = False
        self.is_held = False  # nobody waits for it any more, and the worker has not done with it yet
        self.content: HeldContent | None = None  # its content, if that is held until it is whole
        self._client = client
        self._attempts = 0
        self._kept = b""  # the whole request, while another worker may still get it
        self._credit = 0
        self._owed = 0
        self._window: int  # what the worker may send before it gets credit
        self._pending = b""
        self._pending_complete = False
        self._promise: FilePromise | None = None
        # Of a request whose content comes after its head: what a worker has got of it, and whether that was all.
        self._sent: bytes
        self._ended: bool
        self._whole_at: float
        self.affinity: bytes  # by which a worker is chosen, where that is so: see edge/dispatch/affinity.py
        self.fields: list[bytes]  # of its answer, where somebody keeps them: see edge/dispatch/kept_fields.py

    def interpose(self, make: Callable[[Client], Client]) -> None:
        """Put something between it and its client, before it is served."""
        self._client = make(self._client)

    # Towards the worker.

    def begin(self, link: Link, stream: int, request: bytes) -> bytes:
        """A worker gets it: return the frame to send; `pour` is next unless the head is complete.

        `request` is the encoded head, `sent_at` has been set.
        """
        head = self.head
        self.stream = stream
        flags = 0
        if head.complete:
            flags = wire.END
        elif head.expect:
            flags = wire.EXPECT
        if head.upgrade:
            flags = wire.UPGRADE
        if self._client.answer_window < wire.INITIAL_WINDOW:
            flags |= wire.NARROW
            self._window = wire.NARROW_WINDOW
        else:
            self._window = wire.INITIAL_WINDOW
        self._take_up(link, request)
        body, size = head.body, len(request)
        return wire.HEADER.pack(size + len(body), size, stream, wire.REQUEST, flags) + request + body

    def begin_local(self, link: Link, request: bytes) -> int:
        """One that is no worker gets it, with the head's content: `head.body` is what came with it.

        Return how many bytes of the answer it may send before `open_window`. It answers as a worker does, by the
        `receive_*` methods. `pour` is next unless the head is complete; of a WebSocket, nothing comes before credit.
        """
        self._window = self._client.answer_window
        self._take_up(link, request)
        if self.head.upgrade:
            self._credit = 0  # whoever has not accepted it would take its bytes for another request
        return self._window

    def _take_up(self, link: Link, request: bytes) -> None:
        head = self.head
        self.link = link
        self.worker = link.number
        self._attempts += 1
        self._credit = 0 if head.expect else wire.INITIAL_WINDOW - len(head.body)
        if head.method in _IDEMPOTENT and not head.upgrade:
            self._kept = request
        if not head.complete:
            self._sent, self._ended, self._whole_at = b"", False, 0.0

    def pour(self) -> None:
        """Hand on what has come of the content after the head."""
        if self.link is None:
            return
        if self.content is not None:
            self._drain_whole(self.link, self.content)
        else:
            self._drain_pending(self.link)
            if not self._pending:
                self._client.want_content(self)  # it stopped reading while there was nobody to serve it

    @property
    def kept_request(self) -> bytes:
        """The encoded head of a request that had to be given up, to be given to another worker; empty: none."""
        return self._kept

    def feed(self, body: bytes, complete: bool) -> bool:
        """Take content from the client; False when no more should be read until `client.want_content()`."""
        self.content_read += len(body)
        if self.link is None:
            if self.answered:
                return True
            if self.content is not None:
                return self.content.feed(self, body, complete)
        self._pending += body
        self._pending_complete = complete
        if self.link is None:
            return False
        self._drain_pending(self.link)
        return not self._pending

    def gather(self) -> None:
        """Put what has come of the content behind the head: nobody has got any of it."""
        self.head.body += self._pending
        self.head.complete = self.head.complete or self._pending_complete
        self._pending, self._pending_complete = b"", False

    def read_on(self) -> None:
        """There is somebody now who takes content: have the client send it."""
        self._client.want_content(self)

    def _drain_pending(self, link: Link) -> None:
        """Hand on as much of the waiting content as the link has given credit for."""
        before = self._pending
        while self._pending and self._credit > 0:
            piece = self._pending[: min(self._credit, wire.MAX_DATA)]
            self._pending = self._pending[len(piece) :]
            self._credit -= len(piece)
            end = self._pending_complete and not self._pending
            link.send_content(self, piece, end)
            if end:
                self._pending_complete, self._ended = False, True
        if self._pending_complete and not self._pending:
            self._pending_complete, self._ended = False, True
            link.send_content(self, b"", True)
        if self._kept:
            self._keep(before[: len(before) - len(self._pending)])

    def hold(self, content: HeldContent) -> None:
        """Nobody gets it before its content is whole; a client that waits for 100 Continue is told to send it."""
        self.content = content
        if self.head.expect:
            self.head.expect = False
            self._client.send_continue(self)

    def _drain_whole(self, link: Link, content: HeldContent) -> None:
        """Hand on as much of the content that was held as the link has given credit for."""
        self._credit, self._ended = content.send(self, link, self._credit)
        if self._ended and not self._kept:
            self._let_go()

    def _let_go(self) -> None:
        """Nobody will get the content that was held again."""
        if self.content is not None:
            self.content.close()
            self.content = None

    def _keep(self, sent: bytes) -> None:
        """Remember content that has gone to the worker, as long as it is little."""
        self._sent += sent
        if len(self._sent) > MAX_KEPT:
            self._kept = self._sent = b""

    def withdraw(self) -> None:
        """The client has left: whoever serves it is told, and nothing more comes of it."""
        self.cancel()
        if self.target is not None:
            self.target.withdraw(self)

    def cancel(self) -> None:
        """Whoever serves it is told that nobody waits for it."""
        self._let_go()
        link, self.link = self.link, None
        if link is not None:
            self.is_held = link.cancel(self)

    def released(self) -> None:
        """The worker has done with a request that was cancelled."""
        self._client.released(self)

    # From the worker.

    def receive_credit(self, credit: int) -> None:
        """The worker takes `credit` bytes more of the request."""
        self._credit += credit
        if self.head.expect:
            self.head.expect = False
            if not self.answered:
                self._client.send_continue(self)
        if self.link is not None and self.content is not None:
            self._drain_whole(self.link, self.content)
        elif self.link is not None and (self._pending or self._pending_complete):
            self._drain_pending(self.link)
        if not self._pending:
            self._client.want_content(self)

    def receive_response(self, flags: int, head: bytes, body: bytes) -> None:
        """The worker answers."""
        parts = head.split(b"\n")
        status = _STATUS.get(parts[0])
        # A worker checks all this too; but a worker runs the application, and the application may be anybody's.
        if (
            status is None
            or len(parts) % 2
            or b"\r" in head
            or b"\0" in head
            or not (parts[1].isdigit() or not parts[1])
            or self.answered
            or (status == 101 and not self.head.upgrade)
        ):
            self.refuse(502, "the worker's answer has no valid status, length or field, or is not due")
            return
        fields = parts[2:]
        if b"\nx-" in head or not RESPONSE_HOP.isdisjoint(fields[::2]):
            if self.worker >= 0:  # what another server names is no file here
                self._promise = find_promise(self._client.files, status, fields)
                if self._promise is not None:
                    self._wait_for_end(self._promise, flags, body)
                    return
            fields = without_hop(fields)
        self.respond(status, parts[1], fields, flags, body)

    def respond(self, status: int, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        """Answer: whoever does has made sure that status, length and fields are valid and may leave, and are due."""
        self.answered = True
        self._kept = b""
        self.status = status
        if self.content is not None and (self._ended or flags & wire.END):
            self._let_go()
        try:
            if status == 101:
                self._client.send_upgrade(self, fields)
                return
            self._client.send_response(self, length, fields, flags, body)
        except ProtocolError as error:
            self._break_off(error.reason)
            return
        if flags & wire.END:
            self.link = None
            self._client.finished(self)
        else:
            self.grant(len(body))

    def _before_head(self, flags: int, body: bytes, what: str) -> None:
        """Something came, and no head has been sent: it waits for the end of the application, or is not due."""
        if self._promise is not None:
            self._wait_for_end(self._promise, flags, body)
        else:
            self.refuse(502, f"the worker sent {what} before a head")

    def _wait_for_end(self, promise: FilePromise, flags: int, body: bytes) -> None:
        """Drop content in whose place a file is sent."""
        if flags & wire.END:
            self.link = None
            promise.keep(self)
        elif self.link is not None and body:
            self.link.open_window(self, len(body))

    def receive_data(self, flags: int, body: bytes) -> None:
        """The worker sends content of the answer, or bytes of a WebSocket."""
        if not self.answered:
            self._before_head(flags, body, "content")
            return
        try:
            if body:
                self._client.send_data(self, body)
            if flags & wire.END:
                self._client.send_end(self, [])
        except ProtocolError as error:
            self._break_off(error.reason)
            return
        if flags & wire.END:
            self._end()
        else:
            self.grant(len(body))

    def receive_trailers(self, head: bytes) -> None:
        """The worker ends the answer with trailer fields."""
        if not self.answered:
            self._before_head(wire.END, b"", "trailers")
            return
        parts = head.split(b"\n") if head and self.head.trailers else []
        if len(parts) % 2 or b"\r" in head or b"\0" in head:
            self._break_off("the worker's trailers are malformed")
            return
        try:
            self._client.send_end(self, allowed_trailers(parts))
        except ProtocolError as error:
            self._break_off(error.reason)
            return
        self._end()

    def receive_reset(self, reason: bytes) -> None:
        """The worker gives the stream up."""
        self.refuse(*refusal_of(reason))

    def link_lost(self, reason: str) -> bool:
        """Who serves it is gone; True if another may still serve the request, else it is answered 502."""
        self.link = None
        if not self.answered and self._kept and self._attempts < _MAX_ATTEMPTS:
            self.sent_at = 0.0
            if self.content is not None:
                self.content.rewind()
            elif not self.head.complete:
                self._pending = self._sent + self._pending
                self._pending_complete = self._pending_complete or self._ended
            return True
        self.refuse(502, reason)
        return False

    def is_late(self, now: float, limit: float) -> bool:
        """Tell whether the application has begun no answer `limit` seconds after it had the whole request.

        The sweep asks; that is when the end of content that came after the head is put down.
        """
        if self.answered or self.link is None or not (self.head.complete or self._ended):
            return False
        if self.head.complete:
            return self.sent_at + limit < now
        self._whole_at = self._whole_at or now
        return self._whole_at + limit < now

    def app_timed_out(self, limit: float) -> None:
        """The application takes too long."""
        self.refuse(504, f"no answer of the application within {limit:g} s")

    def queue_timed_out(self) -> None:
        """No worker had room in time."""
        self._let_go()
        self._client.refuse(self, 503, "no worker had room in time", ((b"retry-after", b"1"),))

    def grant(self, size: int) -> None:
        """Give the worker credit for `size` bytes that the client connection has taken."""
        self._owed += size
        if self._owed >= self._window >> 2 and not self._client.is_congested(self):
            self.settle()

    def settle(self) -> None:
        """The client takes bytes: pass the credit on that was held back, up to the client's window for an answer."""
        if self.link is None or not self._owed:
            return
        window = self._client.answer_window
        credit = self._owed + window - self._window
        if credit > 0:
            self.link.open_window(self, credit)
            self._window = window
        else:
            self._window -= self._owed  # the client has opened more requests since: this one's share is smaller now
        self._owed = 0

    def _end(self) -> None:
        self._let_go()
        self.link = None
        self._client.finished(self)

    def refuse(self, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answer with the page of a status, unless an answer has begun: that is broken off. `reason` is for the log."""
        if self.answered and self.status:
            self._break_off(reason)
            return
        self.cancel()
        self._client.refuse(self, status, reason, fields)

    def _break_off(self, reason: str) -> None:
        """The answer has begun and cannot be completed: closing is the only way to say so."""
        self.cancel()
        self._client.abort_exchange(self, reason)
