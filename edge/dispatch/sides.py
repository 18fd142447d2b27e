"""The two sides of an exchange, as it uses them: the client's connection, and whoever serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge.dispatch.exchange import Exchange


class Client(Protocol):
    """The client connection, as an exchange uses it."""

    def send_response(
        self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes
    ) -> None: ...
    def send_data(self, exchange: Exchange, body: bytes) -> None: ...
    def send_end(self, exchange: Exchange, trailers: list[bytes]) -> None: ...
    def send_continue(self, exchange: Exchange) -> None: ...
    def send_upgrade(self, exchange: Exchange, fields: list[bytes]) -> None: ...
    def refuse(
        self, exchange: Exchange, status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None: ...
    def abort_exchange(self, exchange: Exchange, reason: str) -> None: ...
    def finished(self, exchange: Exchange) -> None: ...
    def want_content(self, exchange: Exchange) -> None: ...
    def is_congested(self, exchange: Exchange) -> bool: ...
    def released(self, exchange: Exchange) -> None: ...

    @property
    def answer_window(self) -> int: ...
    @property
    def files(self) -> FileSender | None: ...


class FileSender(Protocol):
    """Who sends files in the place of what an application answers."""

    def find_named(self, fields: list[bytes]) -> tuple[bytes, bytes] | None:
        """Return the field that names a file, if there is one among names and values in turn."""

    def send(self, exchange: Exchange, status: int, fields: list[bytes], named: tuple[bytes, bytes]) -> None:
        """Answer with the file that the field `named` names; `fields` are the application's others."""


class Link(Protocol):
    """Whoever serves an exchange, as the exchange uses it: the link to a worker, or one that stands in its place.

    None of these may call back before it returns.
    """

    number: int

    def send_content(self, exchange: Exchange, content: bytes, end: bool) -> None:
        """Take content of the request, never more than it has given credit for; `end`: that was all."""

    def open_window(self, exchange: Exchange, credit: int) -> None:
        """The client has taken some of the answer: so many bytes more may be sent."""

    def cancel(self, exchange: Exchange) -> bool:
        """Nobody waits for the answer any more; True if the exchange counts until `released()` is called."""
