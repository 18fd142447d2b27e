"""An ACME authority that means harm: it answers with raw octets, again and again, whatever is asked of it.

Nothing in it is shared with the authority of `authority.py`: what one of them is too kind to send, the other sends.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.issuance import Issuer
from edge_certs.keeper import Keeper
from edge_certs.settings import AuthoritySettings
from edge_certs.state import CertificateState, Issuance
from edge_certs.storage import Storage
from edge_certs.x509 import Certificate
from tests.certs.authority import Clock
from tests.certs.forge import NOW, forge

NAMES = ("shop.example", "www.shop.example")
DAY = timedelta(days=1)
SIGNER = forge(dates=(NOW - 9000 * DAY, NOW + 9000 * DAY), common_name="Hostile Root")


def http(content: object, *fields: str, status: int = 200, nonce: str = "bm9uY2U") -> bytes:
    """Return a response whole: content that is not bytes is sent as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} X", f"replay-nonce: {nonce}", f"content-length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def refusal(kind: str, *fields: str, status: int = 400, **more: object) -> bytes:
    """Return a problem document with this type."""
    return http({"type": f"urn:ietf:params:acme:error:{kind}", "detail": "no", **more}, *fields, status=status)


@dataclass
class Hostile:
    """Answers a path below `/` by `attacks`, each time, and where there is none as an honest authority would."""

    clock: Clock
    attacks: dict[str, Callable[[Hostile], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    base: str = ""
    status: str = "pending"
    chain: bytes = b""
    csr: x509.CertificateSigningRequest | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    replaced: list[object] = field(default_factory=list)

    def answer(self, path: str, content: bytes) -> bytes:
        """Return the octets for a request."""
        self.asked.append(path)
        encoded = json.loads(content)["payload"] if content else ""
        payload = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)) or b"{}")
        self.payload = payload
        if path == "finalize":
            self.csr = x509.load_der_x509_csr(urlsafe_b64decode(payload["csr"] + "=="))
        attack = self.attacks.get(path.partition("/")[0])
        return self.honest(path, payload) if attack is None else attack(self)

    def honest(self, path: str, payload: dict[str, Any]) -> bytes:
        """Return what an authority answers that means well."""
        match path:
            case "dir":
                names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "renewalInfo": "ari"}
                return http({name: f"{self.base}/{path}" for name, path in names.items()}, nonce="")
            case "account":
                return http({}, f"location: {self.base}/me")
            case "order":
                self.status = "pending"
                self.replaced.append(payload.get("replaces"))
            case "prove":
                self.status = "ready"
            case "finalize":
                self.status, self.chain = "valid", self.sign()
            case "chain":
                return http(self.chain)
            case "nonce":
                return http(b"")
            case _ if path.startswith("authz"):
                return http(self.authorization(path.removeprefix("authz-")))
            case _ if path.startswith("ari"):
                return refusal("malformed", status=404)
        return http(self.order(), f"location: {self.base}/order-1")

    def order(self, **more: object) -> dict[str, object]:
        """Return the order as it stands."""
        urls = {"finalize": f"{self.base}/finalize", "certificate": f"{self.base}/chain"}
        return {"status": self.status, "authorizations": [f"{self.base}/authz-{n}" for n in NAMES], **urls, **more}

    def authorization(self, name: str, **more: object) -> dict[str, object]:
        """Return the authorization of a name; when one is proven, so are all."""
        challenge = {"type": "http-01", "url": f"{self.base}/prove", "token": "dG9rZW4", "status": "pending"}
        status = "pending" if self.status == "pending" else "valid"
        return {"status": status, "identifier": {"type": "dns", "value": name}, "challenges": [challenge], **more}

    def sign(self, *names: str, since: timedelta = timedelta(0), key: object = None) -> bytes:
        """Return a certificate for the request, or for something else, that is valid for 90 days `since` now."""
        assert self.csr is not None
        start = self.clock.now() + since
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names or NAMES])
        builder = x509.CertificateBuilder(SIGNER.certificate.subject, x509.Name([]))
        builder = builder.public_key(key or self.csr.public_key())  # type: ignore[arg-type]  # as a test wants it
        builder = builder.serial_number(x509.random_serial_number()).add_extension(san, critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(b"k" * 20, None, None), critical=False)
        signed = builder.not_valid_before(start).not_valid_after(start + 90 * DAY).sign(SIGNER.key, SHA256())
        return signed.public_bytes(Encoding.PEM)


@asynccontextmanager
async def listening(authority: Hostile, folder: Path) -> AsyncIterator[None]:
    """Let `authority` answer at a port that is given; `ca.pem` in `folder` is its root."""
    root = trustme.CA()
    root.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.issue_cert("localhost").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            # What is less than it says to be ends with the connection.
            while not await answer(reader, writer):
                pass
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        size = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        path = head.split()[1][1:]
        said = authority.answer(path, await reader.readexactly(size))
        if path in authority.attacks:
            said = said.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        writer.write(said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head.startswith("head ") else said)
        await writer.drain()
        return path in authority.attacks

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        authority.base = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        yield


@dataclass
class Victim:
    """A certificate that is kept at a hostile authority, by a keeper that knows nothing but what is on the disk."""

    authority: Hostile
    storage: Storage
    settings: AuthoritySettings
    issuance: Issuance

    async def turn(self) -> timedelta:
        """Look at the certificate once; returns what the keeper wants to wait."""
        clock = self.authority.clock
        issuer = Issuer(self.storage, self.settings, {}, clock.now, clock.sleep)
        return await Keeper(self.storage, issuer, clock.now, clock.sleep, lambda: 0.5).turn(self.issuance)

    async def settle(self) -> timedelta:
        """Look at it until there is nothing to do for now."""
        for _ in range(5):
            if wait := await self.turn():
                return wait
        raise AssertionError("there is always something to do")

    def wait(self, days: float = 0.0) -> None:
        """Let the time pass until the next attempt is due, and so many days."""
        clock, due = self.authority.clock, self.state.next_at or NOW
        clock.now_is = max(clock.now_is, due) + timedelta(days=days)

    def wait_until_asked(self) -> None:
        """Let the time pass until the authority is asked for its window again."""
        self.authority.clock.now_is = max(self.now, self.state.ask_at or self.now)

    @property
    def now(self) -> datetime:
        return self.authority.clock.now()

    @property
    def state(self) -> CertificateState:
        state = self.storage.lineage(NAMES[0]).state()
        assert state is not None
        return state

    @property
    def certificate(self) -> Certificate:
        certificate = self.storage.lineage(NAMES[0]).serving(self.authority.clock.now())
        assert certificate is not None
        return certificate


def attacked(folder: Path, act: Callable[[Victim], Coroutine[object, object, None]]) -> None:
    """Run `act` with a hostile authority, which is honest until it is told otherwise."""

    async def run() -> None:
        authority = Hostile(Clock())
        async with asyncio.timeout(180), listening(authority, folder):
            settings = AuthoritySettings(f"{authority.base}/dir", ca_root=str(folder / "ca.pem"))
            issuance = Issuance(NAMES, settings.directory, ("http-01",))
            await act(Victim(authority, Storage(folder / "home"), settings, issuance))

    asyncio.run(run())
