"""A file on its way to a client that takes it as it can: one piece a turn of the loop, within the client's window."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from edge.dispatch.exchange import Exchange
from edge.static.answer import CONDITIONS, Facts, Plan, gather_conditions, plan_answer
from edge.static.forms import Form
from edge.static.ranges import Span
from edge.static.root import SMALL, OpenFile
from edge_backend import wire

# What is read, encrypted and written at a time: less costs more system calls and Python for each byte, more would keep
# the loop from other clients (256 KiB take about 0.1 ms).
PIECE = 256 * 1024


def send_form(exchange: Exchange, form: Form, request: bytes, plan: Plan) -> None:
    """Answer with a file, as planned; `request` is the request as a worker would get it.

    What is in memory goes at once, the rest as the client takes it.
    """
    if plan.status >= 400 and not plan.pieces:
        exchange.refuse(plan.status, "", tuple(zip(plan.fields[::2], plan.fields[1::2], strict=True)))
    elif exchange.head.method == b"HEAD" or not plan.pieces:
        length = b"%d" % plan.length if plan.pieces else b""
        exchange.respond(plan.status, length, plan.fields, wire.END, b"")
    elif form.file is not None:
        data = _read_little(form.file, plan)
        if data is None:
            Transfer(exchange, form.file, plan).start(request)
        else:
            exchange.respond(plan.status, b"%d" % plan.length, plan.fields, wire.END, data)
    else:
        content = form.content or b""
        body = content if plan is form.whole else _join(content, plan.pieces)
        exchange.respond(plan.status, b"%d" % plan.length, plan.fields, wire.END, body)


def send_asked(exchange: Exchange, form: Form, facts: Facts, request: bytes) -> None:
    """Answer with a file as the request's conditions and ranges want it; `facts` is what is said of it."""
    head = exchange.head
    conditions = gather_conditions([line for line in head.lines if line.startswith(CONDITIONS)])
    boundary = secrets.token_hex(12).encode() if b"," in conditions.get(b"range", b"") else b""
    is_get = head.method == b"GET"
    plan = plan_answer(facts, conditions, is_get=is_get, now=int(time.time()), boundary=boundary)
    send_form(exchange, form, request, plan)


def _read_little(file: OpenFile, plan: Plan) -> bytes | None:
    """Return the content of an answer that is one small run of the file; None if that takes more."""
    [span] = plan.pieces if len(plan.pieces) == 1 else [b""]
    if isinstance(span, bytes) or plan.length > SMALL:
        return None
    try:
        data = file.read_now(span.start, plan.length)
    except OSError:
        return None  # which shows again, where it is told
    return data if data is not None and len(data) == plan.length else None


def _join(content: bytes, pieces: list[bytes | Span]) -> bytes:
    return b"".join([piece if isinstance(piece, bytes) else content[piece.start : piece.stop] for piece in pieces])


class Transfer:
    """Sends an answer out of an open file, which it holds until the end. It stands where a worker's link would."""

    __slots__ = (
        "_exchange",
        "_file",
        "_is_due",
        "_is_over",
        "_later",
        "_pieces",
        "_plan",
        "_started",
        "_window",
        "number",
    )

    def __init__(self, exchange: Exchange, file: OpenFile, plan: Plan) -> None:
        self.number = exchange.worker  # who named the file, for the log
        self._exchange = exchange
        self._file = file
        self._plan = plan
        self._pieces = plan.pieces[::-1]  # the next one is the last
        self._window = 0  # what may be sent now, in bytes
        self._started = False
        self._is_due = False  # `_send` will be called, by the loop or by a thread that reads
        self._is_over = False
        self._later: Callable[[Callable[[], None]], object] = asyncio.get_running_loop().call_soon
        file.hold()

    def start(self, request: bytes) -> None:
        """Send the head, and what the client's window allows."""
        self._window = self._exchange.begin_local(self, request)
        self._send()

    # What an exchange asks of a link.

    def send_content(self, exchange: Exchange, content: bytes, end: bool) -> None:
        """Drop content of the request: that of a GET means nothing (RFC 9110 section 9.3.1)."""

    def open_window(self, exchange: Exchange, credit: int) -> None:
        """Send so many bytes more, in the next turn of the loop."""
        self._window += credit
        self._go_on()

    def cancel(self, exchange: Exchange) -> bool:
        """The client has left."""
        self._end()
        return False

    # Below: how.

    def _go_on(self) -> None:
        if not self._is_due and not self._is_over and self._window > 0:
            self._is_due = True
            self._later(self._send)

    def _send(self) -> None:
        self._is_due = False
        if self._is_over:
            return
        piece = self._pieces.pop()
        size = min(self._window, PIECE)
        if isinstance(piece, bytes):
            if len(piece) > size:
                self._pieces.append(piece[size:])
            self._deliver(piece[:size])
            return
        stop = min(piece.stop, piece.start + size)
        if stop < piece.stop:
            self._pieces.append(Span(stop, piece.stop))
        self._read(Span(piece.start, stop))

    def _read(self, span: Span) -> None:
        """Read a run of the file, in a thread if the disk has to be waited for."""
        size = span.stop - span.start
        try:
            data = self._file.read_now(span.start, size)
        except OSError as error:
            self._fail(str(error.strerror).lower())
            return
        if data is not None:
            self._take(data, size)
            return
        self._is_due = True
        self._file.hold()
        reading = asyncio.get_running_loop().run_in_executor(None, self._file.read, span.start, size)
        reading.add_done_callback(lambda done: self._has_read(done, size))

    def _has_read(self, reading: asyncio.Future[bytes], size: int) -> None:
        self._is_due = False
        self._file.release()
        error = reading.exception()
        if self._is_over:
            return
        if error is not None:
            self._fail(str(error).lower())
        else:
            self._take(reading.result(), size)

    def _take(self, data: bytes, size: int) -> None:
        if len(data) < size:
            self._fail(f"the file shrank: {size - len(data)} bytes are missing")
        else:
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        self._window -= len(data)
        flags = 0
        if not self._pieces:
            flags = wire.END
            self._end()
        if self._started:
            self._exchange.receive_data(flags, data)
        else:
            self._started = True
            plan = self._plan
            self._exchange.respond(plan.status, b"%d" % plan.length, plan.fields, flags, data)
        self._go_on()

    def _fail(self, reason: str) -> None:
        self._end()
        self._exchange.refuse(500, reason)

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._file.release()
