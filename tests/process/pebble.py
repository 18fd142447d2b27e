"""Pebble, Let's Encrypt's authority for tests, on loopback, with its DNS server and solvers that answer from files."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
import trustme

from edge_certs.challenges import ChallengeStore

ENVIRONMENT = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "5", "PEBBLE_AUTHZREUSE": "0"}
START_TIMEOUT = 20.0

# A name that Pebble signs for nobody.
BLOCKED = "blocked.test"


class HurriedClock:
    """The time, plus all that was to be slept: an authority that asks for three seconds costs a test none of them."""

    def __init__(self) -> None:
        self.skipped = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skipped

    async def sleep(self, seconds: float) -> None:
        self.skipped += timedelta(seconds=seconds)
        # Pebble validates meanwhile, and its own clock does not hurry.
        await asyncio.sleep(min(seconds, 0.1))


@dataclass(frozen=True)
class Dns:
    """Publishes TXT records by pebble-challtestsrv, whose name server is `server`."""

    management: str
    server: str = ""
    published: list[str] = field(default_factory=list)

    async def publish(self, name: str, text: str) -> None:
        await self._post("set-txt", {"host": f"{name}.", "value": text})
        self.published.append(name)

    async def withdraw(self, name: str, text: str) -> None:
        await self._post("clear-txt", {"host": f"{name}."})
        self.published.remove(name)

    async def _post(self, path: str, content: dict[str, str]) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(f"{self.management}/{path}", json=content)).raise_for_status()


@dataclass(frozen=True)
class Pebble:
    """A running Pebble: its directory, the file to trust it by, and its management address."""

    directory: str
    ca_file: Path
    management: str
    dns: Dns

    async def fetch(self, path: str) -> bytes:
        """Return what the management interface says at `path`."""
        context = ssl.create_default_context(cafile=self.ca_file)
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            return (await client.get(f"{self.management}{path}")).raise_for_status().content


@contextmanager
def pebble(
    folder: Path,
    *,
    http_port: int,
    tls_port: int,
    mac_keys: Mapping[str, str] | None = None,
    validity: int = 90 * 86400,
) -> Iterator[Pebble]:
    """Run Pebble with its files in `folder`; it validates at the two ports. With `mac_keys` it wants a binding.

    Its certificates are valid for `validity` seconds.
    """
    for tool in ("pebble", "pebble-challtestsrv"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    directory_port, management_port, dns_port, dns_management_port = free_ports(4)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    settings = {
        "listenAddress": f"127.0.0.1:{directory_port}",
        "managementListenAddress": f"127.0.0.1:{management_port}",
        "certificate": str(folder / "cert.pem"),
        "privateKey": str(folder / "key.pem"),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": mac_keys is not None,
        "externalAccountMACKeys": dict(mac_keys or {}),
        "certificateValidityPeriod": validity,
        "domainBlocklist": [BLOCKED],
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    dns = f"127.0.0.1:{dns_port}"
    names = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", dns]
    names += ["-management", f"127.0.0.1:{dns_management_port}", "-http01", "", "-https01", "", "-tlsalpn01", ""]
    signs = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", dns, "-strict=false"]
    with running(folder, names, dns_management_port), running(folder, signs, directory_port):
        yield Pebble(
            f"https://localhost:{directory_port}/dir",
            folder / "ca.pem",
            f"https://127.0.0.1:{management_port}",
            Dns(f"http://127.0.0.1:{dns_management_port}", dns),
        )


@contextmanager
def running(folder: Path, command: list[str], port: int) -> Iterator[None]:
    """Run `command` until the end of the block; it listens on `port` when the block begins."""
    environment = {"PATH": os.environ["PATH"], "PEBBLE_ALTERNATE_ROOTS": "1", **ENVIRONMENT}
    log_path = folder / f"{command[0]}.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_listening(process, port, log_path)
        yield
    finally:
        process.terminate()
        process.wait(START_TIMEOUT)


def wait_listening(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    """Return when something accepts on `port`; fails with the log when the process ends or takes too long."""
    deadline = datetime.now(UTC) + timedelta(seconds=START_TIMEOUT)
    while datetime.now(UTC) < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)
        try:
            connection.connect()
        except ConnectionRefusedError:
            # Waits a moment, and sees at once when the process is gone.
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
        finally:
            connection.close()
    pytest.fail(f"{process.args!r} does not listen on {port}: {log_path.read_text()}")


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago: Pebble cannot be told to choose its own."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@asynccontextmanager
async def solving(store: ChallengeStore, http: socket.socket, tls: socket.socket) -> AsyncIterator[list[str]]:
    """Answer HTTP-01 and TLS-ALPN-01 from `store` on two listening sockets; gives the list of what was asked for."""
    asked: list[str] = []

    async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode("ascii")
        asked.append(f"http {target}")
        content = store.find_http(target.removeprefix("/.well-known/acme-challenge/"))
        status = b"404 Not Found" if content is None else b"200 OK"
        body = content or b""
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    def choose(tls_object: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        asked.append(f"tls {name}")
        path = store.find_alpn(name or "")
        if path is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls_object.context = alpn_context(path)
        return None

    async def answer_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["acme-tls/1"])
    context.sni_callback = choose
    http_server = await asyncio.start_server(answer_http, sock=http)
    tls_server = await asyncio.start_server(answer_tls, sock=tls, ssl=context)
    async with http_server, tls_server:
        yield asked


def alpn_context(path: Path) -> ssl.SSLContext:
    """Return a context that shows the certificate in `path` to who speaks acme-tls/1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["acme-tls/1"])
    context.load_cert_chain(path)
    return context
