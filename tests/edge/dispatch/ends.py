"""The ends between which an exchange moves: a client that keeps what it is told, and a worker's end of the wire."""

from __future__ import annotations

from typing import Any

from edge.dispatch.choice import LeastBusy, SameForEach
from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.exchange import Exchange
from edge.dispatch.link import WorkerLink
from edge.dispatch.sides import FileSender
from edge.http.events import ProtocolError, RequestHead
from edge_backend import wire
from tests.ends import MemoryTransport, turn

HEAD = b"GET\n/\n2"  # two parts are a head for the wire; what they mean is the worker's


class MemoryClient:
    """A client connection that writes down what an exchange asks of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.congested = False
        self.answer_window = wire.INITIAL_WINDOW
        self.refuses_answers = False
        self.files: FileSender | None = None

    def take(self) -> list[tuple[Any, ...]]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def _check(self) -> None:
        if self.refuses_answers:
            raise ProtocolError(502, "the application's content is longer than its content-length")

    def send_response(self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        self._check()
        self.calls.append(("response", exchange.status, length, fields, flags, body))

    def send_data(self, exchange: Exchange, body: bytes) -> None:
        self._check()
        self.calls.append(("data", body))

    def send_end(self, exchange: Exchange, trailers: list[bytes]) -> None:
        self._check()
        self.calls.append(("end", trailers))

    def send_continue(self, exchange: Exchange) -> None:
        self.calls.append(("continue",))

    def send_upgrade(self, exchange: Exchange, fields: list[bytes]) -> None:
        self.calls.append(("upgrade", fields))

    def refuse(
        self, exchange: Exchange, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.calls.append(("refuse", status, reason, fields))

    def abort_exchange(self, exchange: Exchange, reason: str) -> None:
        self.calls.append(("abort", reason))

    def finished(self, exchange: Exchange) -> None:
        self.calls.append(("finished",))

    def want_content(self, exchange: Exchange) -> None:
        self.calls.append(("want",))

    def is_congested(self, exchange: Exchange) -> bool:
        return self.congested

    def released(self, exchange: Exchange) -> None:
        self.calls.append(("released",))


class WorkerEnd:
    """A link to a worker, and the worker's end of it."""

    def __init__(self, dispatcher: Dispatcher, number: int = 0, slot: int = 0) -> None:
        self.lost: list[WorkerLink] = []
        self.transport = MemoryTransport()
        self.link = WorkerLink(dispatcher, number, self.lost.append, slot)
        self.link.connection_made(self.transport)

    def greet(self) -> None:
        """Say what a worker says first."""
        self.send(wire.encode_hello(1, self.link.number) + wire.encode_frame(wire.READY, 0, 0))

    def send(self, data: bytes) -> None:
        self.link.data_received(data)

    async def take(self) -> list[wire.Frame]:
        """Return the frames that the edge sent since the last time."""
        await turn()
        return self.transport.take()

    def die(self) -> None:
        self.link.connection_lost(None)


def dispatcher(
    *, concurrency: int = 100, queue: int = 10, queue_timeout: float = 10.0, affinity: bool = False
) -> Dispatcher:
    choice = SameForEach(concurrency) if affinity else LeastBusy(concurrency)
    return Dispatcher(choice, queue=queue, queue_timeout=queue_timeout)


def worker(of: Dispatcher, number: int = 0, slot: int = 0) -> WorkerEnd:
    """Return a worker that is ready."""
    end = WorkerEnd(of, number, slot)
    end.greet()
    return end


def exchange(client: MemoryClient, method: bytes = b"GET", *, at: float = 0.0, **of_head: Any) -> Exchange:
    """Return an exchange for a request; `of_head` are attributes of its head."""
    head = RequestHead(1, method, b"/", b"1.1", b"localhost")
    for name, value in of_head.items():
        setattr(head, name, value)
    return Exchange(client, head, b"id", b"192.0.2.1", at)
