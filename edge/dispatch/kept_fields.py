"""A target whose answers' fields are kept until they are logged, for access logs that ask for some of them."""

from __future__ import annotations

from typing import Any, cast

from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import Client
from edge.dispatch.target import Target


class KeptFields:
    """Gives everything to the target behind it; `exchange.fields` has the fields of the answer afterwards."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def submit(self, exchange: Exchange, request: bytes) -> None:
        """Take the exchange. Raises what the target raises."""
        exchange.interpose(lambda client: cast(Client, _Recorder(client)))
        exchange.target = self._target
        self._target.submit(exchange, request)

    def withdraw(self, exchange: Exchange) -> None:
        """The client of an exchange that may be waiting has left."""
        self._target.withdraw(exchange)


class _Recorder:
    """A client connection that takes note of the fields it sends."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send_response(self, exchange: Exchange, length: bytes, fields: list[bytes], flags: int, body: bytes) -> None:
        exchange.fields = [*fields, b"content-length", length] if length else fields
        self._client.send_response(exchange, length, fields, flags, body)
