"""Answers to challenges without a server: who orders by hand listens on the ports himself while the order runs.

Where an `edge serve` has the ports already, it answers from the same folder; that is tried with a nonce, not believed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from edge_certs.challenges import HTTP_01, TLS_ALPN_01, ChallengeStore
from edge_certs.errors import CertificateError, system_reason
from edge_certs.probes import Prober

PREFIX = "/.well-known/acme-challenge/"

# An authority's request has a few hundred octets; whoever sends more, or more slowly, is none.
MAX_HEAD = 8192
HEAD_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where an authority's requests arrive: 80 and 443, unless something in between forwards them."""

    http: int = 80
    tls: int = 443


@asynccontextmanager
async def answering(store: ChallengeStore, kinds: Sequence[str], ports: Ports) -> AsyncIterator[tuple[str, ...]]:
    """Answer challenges of `kinds` from `store`; gives those that can be: the others need a port that cannot be had.

    Raises CertificateError: none of them can be.
    """
    usable: list[str] = []
    problems: list[CertificateError] = []
    async with AsyncExitStack() as running:
        for kind in kinds:
            try:
                if kind == HTTP_01:
                    await _answer_http(running, store, ports.http)
                elif kind == TLS_ALPN_01:
                    await _answer_tls(running, store, ports.tls)
            except CertificateError as error:
                problems.append(error)
            else:
                usable.append(kind)
        if problems and not usable:
            raise problems[0]
        yield tuple(usable)


async def _answer_http(running: AsyncExitStack, store: ChallengeStore, port: int) -> None:
    sockets = _listen(port)
    if not sockets:
        if problem := await Prober(store).http("127.0.0.1", port, "localhost"):
            raise CertificateError(
                f"port {port}: another program has it, and does not answer for this folder: {problem}",
                "let edge serve --acme order the certificate, stop the program, or use --challenge dns-01",
            )
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(store, head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    for sock in sockets:
        server = await asyncio.start_server(serve, sock=sock, limit=MAX_HEAD)
        await running.enter_async_context(server)


async def _answer_tls(running: AsyncExitStack, store: ChallengeStore, port: int) -> None:
    sockets = _listen(port)
    if not sockets:
        if problem := await Prober(store).alpn("127.0.0.1", port, "nonce.edge.invalid"):
            raise CertificateError(
                f"port {port}: another program has it, and does not answer for this folder: {problem}",
                "let edge serve --acme order the certificate, stop the program, or use --challenge dns-01",
            )
        return

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for sock in sockets:
        server = await asyncio.start_server(
            close, sock=sock, ssl=_alpn_context(store), ssl_handshake_timeout=HEAD_TIMEOUT
        )
        await running.enter_async_context(server)


def _response(store: ChallengeStore, head: bytes) -> bytes:
    words = head.split(maxsplit=2)
    target = words[1].decode("latin-1") if len(words) > 1 else ""
    content = store.find_http(target.removeprefix(PREFIX)) if target.startswith(PREFIX) else None
    status = b"404 Not Found" if content is None else b"200 OK"
    body = content or b""
    fields = b"content-type: application/octet-stream\r\nconnection: close"
    return b"HTTP/1.1 %b\r\n%b\r\ncontent-length: %d\r\n\r\n%b" % (status, fields, len(body), body)


def _alpn_context(store: ChallengeStore) -> ssl.SSLContext:
    """A context that has no certificate but those of the names under validation."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["acme-tls/1"])

    def choose(stream: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        path = store.find_alpn(name or "")
        if path is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        found.set_alpn_protocols(["acme-tls/1"])
        found.load_cert_chain(path)
        stream.context = found
        return None

    context.sni_callback = choose
    return context


def _listen(port: int) -> list[socket.socket]:
    """Sockets on all addresses, of both families where there are both; none where another program has the port."""
    sockets: list[socket.socket] = []
    try:
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            sockets.append(socket.create_server((host, port), family=family))
    except OSError as error:
        if sockets and error.errno != errno.EADDRINUSE:
            return sockets  # no IPv6 here
        for sock in sockets:
            sock.close()
        if error.errno == errno.EADDRINUSE:
            return []
        raise CertificateError(
            f"cannot listen on port {port}: {system_reason(error)}",
            "run it as root, grant CAP_NET_BIND_SERVICE, or use --challenge dns-01",
        ) from error
    return sockets
