"""Real servers, and an upstream that they are behind."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from edge.config_sites import RoutePlan, SitePlan, UpstreamPlan
from edge.dispatch.exchange import Exchange
from edge.options_sites import parse_upstream
from edge.upstream.target import Upstream
from edge.upstream.trust import load_upstream_trust
from edge_backend import wire
from tests.edge.dispatch.ends import MemoryClient, exchange
from tests.ends import in_loop

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Servers:
    """Servers on free ports, each with its handler; `connections` counts what each was asked for."""

    def __init__(self) -> None:
        self.connections: list[int] = []
        self.heads: list[bytes] = []
        self._running: list[asyncio.Server] = []

    async def add(self, handler: Handler, **options: Any) -> str:
        """Return the address of a new one."""
        number = len(self.connections)
        self.connections.append(0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections[number] += 1
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(reader, writer)
            writer.close()

        if "path" in options:
            self._running.append(await asyncio.start_unix_server(serve, **options))
            return f"unix:{options['path']}"
        server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
        self._running.append(server)
        port = server.sockets[0].getsockname()[1]
        return f"https://localhost:{port}" if options.get("ssl") else f"http://127.0.0.1:{port}"

    async def read_head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    def answering(self, answer: bytes, *, times: int = 10**6) -> Handler:
        """Return a handler that gives this answer to each request without content, so many on a connection."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(times):
                await self.read_head(reader)
                writer.write(answer)

        return handle

    def close(self) -> None:
        for server in self._running:
            server.close()


class Case:
    """An upstream of these servers, and what its clients are told."""

    def __init__(
        self,
        *addresses: str,
        queue: int = 10,
        prefix: bytes = b"",
        environ: Mapping[str, str] | None = None,
        **plan: Any,
    ) -> None:
        whole = UpstreamPlan(tuple(parse_upstream(address) for address in addresses), **plan)
        trust = load_upstream_trust([SitePlan((RoutePlan(whole),))], environ or os.environ)
        self.upstream = Upstream("test", whole, prefix, trust.context_for(whole), queue=queue, queue_timeout=5.0)
        self.upstream.start()
        self.client = MemoryClient()

    def submit(self, method: bytes = b"GET", client: MemoryClient | None = None, **of_head: Any) -> Exchange:
        item = exchange(client or self.client, method, at=monotonic(), **of_head)
        pieces = [method, b"/x", b"1.1", b"https", b"192.0.2.1", b"1", b"a.example", b"443", b"host", b"a.example"]
        if item.head.length > 0:
            pieces += [b"content-length", b"%d" % item.head.length]
        item.target = self.upstream
        self.upstream.submit(item, wire.join_request(pieces, len(pieces)))
        return item

    async def wait(self, count: int, client: MemoryClient | None = None) -> list[tuple[Any, ...]]:
        """Wait until a client was told so much, and return it without what asks for more content."""
        calls = (client or self.client).calls
        await until(lambda: sum(call[0] != "want" for call in calls) >= count)
        return [call for call in (client or self.client).take() if call[0] != "want"]

    async def get(self) -> tuple[Any, ...]:
        """Return what a request gets: status and content, or the refusal."""
        client = MemoryClient()
        self.submit(client=client)
        await until(lambda: any(call[0] in ("finished", "refuse") for call in client.calls))
        first = client.calls[0]
        return (first[1], first[5]) if first[0] == "response" else first[:3]

    def row(self, number: int = 0) -> dict[str, Any]:
        row: dict[str, Any] = list(self.upstream.report().values())[number]
        return row


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that other tasks bring about; the deadline is in_loop's."""
    while not condition():  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.001)


def with_servers(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Give a test its servers, a maker of cases and what it is parametrised by, and end servers and cases."""
    own = list(inspect.signature(test).parameters.values())[2:]

    @in_loop
    async def run(*args: Any, **fixtures: Any) -> None:
        servers, cases = Servers(), []

        def case(*addresses: str, **plan: Any) -> Case:
            cases.append(Case(*addresses, **plan))
            return cases[-1]

        try:
            await test(servers, case, **fixtures)
        finally:
            for item in cases:
                await item.upstream.close()
            servers.close()
            await asyncio.sleep(0)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]  # for pytest, which looks for fixtures
    del run.__wrapped__  # type: ignore[attr-defined]  # in_loop's
    return run


MakeCase = Callable[..., Case]
