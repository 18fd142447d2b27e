"""An ACME authority in this process, over real TLS, that misbehaves as Pebble cannot; and a clock that tests move."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.jws import parse_base64url
from tests.certs.forge import NOW, forge

ROOT = forge(dates=(NOW - timedelta(days=9000), NOW + timedelta(days=9000)))
DROP = b"drop"


@dataclass(frozen=True)
class Said:
    """A response, or with `DROP` as its content a connection that ends without one."""

    status: int
    content: bytes
    fields: tuple[tuple[str, str], ...] = ()


def problem(kind: str, status: int, *fields: tuple[str, str]) -> Said:
    document = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": "because"}
    return Said(status, json.dumps(document).encode(), fields)


@dataclass
class Clock:
    """Stands still, but for what is slept."""

    now_is: datetime = NOW
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.now_is

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_is += timedelta(seconds=seconds)


@asynccontextmanager
async def answering(folder: Path, answer: Callable[[str, bytes], Said]) -> AsyncIterator[int]:
    """Send what `answer` says for a path and a content, on a port that is given; `ca.pem` in `folder` is its root."""
    root = trustme.CA()
    root.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.issue_cert("localhost").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lower = head.lower()
            size = next((int(line[15:]) for line in lower.split("\r\n") if line.startswith("content-length:")), 0)
            said = answer(head.split()[1], await reader.readexactly(size))
            if said.content != DROP:
                fields = {"replay-nonce": "n", "content-length": str(len(said.content)), "connection": "close"}
                lines = "".join(f"{name}: {value}\r\n" for name, value in (*fields.items(), *said.fields))
                body = b"" if lower.startswith("head") else said.content
                writer.write(f"HTTP/1.1 {said.status} X\r\n{lines}\r\n".encode() + body)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def payload_of(content: bytes) -> dict[str, Any]:
    signed = json.loads(content) if content else {}
    payload = json.loads(parse_base64url(signed.get("payload", "")) or b"{}")
    assert isinstance(payload, dict)
    return payload


def sign(csr: str, not_before: datetime, lifetime: timedelta, serial: int) -> bytes:
    """Return the certificate for a request as `finalize` sends it, as PEM."""
    request = x509.load_der_x509_csr(parse_base64url(csr))
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateBuilder(ROOT.certificate.subject, x509.Name([]), request.public_key(), serial)
    builder = builder.not_valid_before(not_before).not_valid_after(not_before + lifetime)
    identifier = x509.AuthorityKeyIdentifier(b"\x01" * 20, None, None)
    builder = builder.add_extension(names, critical=False).add_extension(identifier, critical=False)
    return builder.sign(ROOT.key, SHA256()).public_bytes(Encoding.PEM)


@dataclass
class _Order:
    names: list[str]
    chain: bytes = b""
    proven: set[str] = field(default_factory=set)


@dataclass
class Environment:
    """One environment of an authority, production or staging, below `base`: its orders, and how it misbehaves.

    `instead` says what to answer to a kind of request first, one a request: "order", "authz", "prove", "finalize" and
    so on. `window` is what renewal information says, `later` what it says of all but the first certificate. With
    `refuses`, every proof fails.
    """

    base: str
    clock: Clock
    lifetime: timedelta = timedelta(days=90)
    kinds: tuple[str, ...] = ("http-01", "tls-alpn-01", "dns-01")
    window: tuple[datetime, datetime] | None = None
    later: tuple[datetime, datetime] | None = None
    known: dict[str, tuple[datetime, datetime] | None] = field(default_factory=dict)
    ask_after: int = 21600
    refuses: bool = False
    needs_binding: bool = False
    instead: dict[str, list[Said]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    orders: list[_Order] = field(default_factory=list)
    on_prove: Callable[[], None] = lambda: None

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        return [payload for asked, payload in self.asked if asked == kind]

    def count(self, kind: str) -> int:
        return len(self.payloads(kind))

    def answer(self, path: str, content: bytes) -> Said:
        kind, *rest = path.removeprefix(self.base + "/").split("/")
        payload = payload_of(content)
        self.asked.append((kind, payload))
        if self.instead.get(kind):
            return self.instead[kind].pop(0)
        handler: Callable[[list[str], dict[str, Any]], Said] = getattr(self, f"_{kind}")
        return handler(rest, payload)

    def _said(self, document: object, location: str = "") -> Said:
        return Said(200, json.dumps(document).encode(), (("location", self._url(location)),) if location else ())

    def _url(self, path: str) -> str:
        return f"{self.root}{self.base}/{path}"

    root: str = ""

    def _dir(self, rest: list[str], payload: dict[str, Any]) -> Said:
        names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "revokeCert": "revoke"}
        if self.window is not None:
            names["renewalInfo"] = "ari"
        found: dict[str, object] = {name: self._url(path) for name, path in names.items()}
        return self._said({**found, "meta": {"externalAccountRequired": self.needs_binding}})

    def _nonce(self, rest: list[str], payload: dict[str, Any]) -> Said:
        return Said(200, b"")

    def _account(self, rest: list[str], payload: dict[str, Any]) -> Said:
        if self.needs_binding and "externalAccountBinding" not in payload:
            return problem("externalAccountRequired", 403)
        return self._said({"status": "valid"}, "account/1")

    def _order(self, rest: list[str], payload: dict[str, Any]) -> Said:
        if not rest:
            if any(name["value"].startswith("bad.") for name in payload["identifiers"]):
                return problem("rejectedIdentifier", 400)
            self.orders.append(_Order([name["value"] for name in payload["identifiers"]]))
        number = int(rest[0]) if rest else len(self.orders) - 1
        return self._said(self._order_document(number), f"order/{number}")

    def _order_document(self, number: int) -> dict[str, object]:
        order = self.orders[number]
        proven = {name.removeprefix("*.") for name in order.names} <= order.proven
        status = "valid" if order.chain else "pending"
        if proven and not order.chain:
            status = "invalid" if self.refuses else "ready"
        bases = dict.fromkeys(order.names)
        return {
            "status": status,
            "authorizations": [self._url(f"authz/{number}/{name}") for name in bases],
            "finalize": self._url(f"finalize/{number}"),
            "certificate": self._url(f"chain/{number}"),
        }

    def _authz(self, rest: list[str], payload: dict[str, Any]) -> Said:
        number, name = int(rest[0]), rest[1]
        base = name.removeprefix("*.")
        refused = self.refuses and base in self.orders[number].proven
        status = "invalid" if refused else "valid" if base in self.orders[number].proven else "pending"
        kinds = [kind for kind in self.kinds if kind.startswith("dns") or name == base]
        challenges = []
        for kind in kinds:
            shown = {"type": kind, "url": self._url(f"prove/{number}/{base}"), "status": "pending"}
            if kind == "dns-persist-01":
                shown["issuer-domain-names"] = ["ca.test"]  # type: ignore[assignment]  # the one list in it
            else:
                shown["token"] = f"token-{number}"
            if refused:
                shown["error"] = {"type": "urn:ietf:params:acme:error:unauthorized", "detail": "404"}  # type: ignore[assignment]
            challenges.append(shown)
        identifier = {"type": "dns", "value": base}
        return self._said(
            {"status": status, "identifier": identifier, "wildcard": name != base, "challenges": challenges}
        )

    def _prove(self, rest: list[str], payload: dict[str, Any]) -> Said:
        self.on_prove()
        self.orders[int(rest[0])].proven.add(rest[1])
        return self._said({"status": "processing"})

    def _finalize(self, rest: list[str], payload: dict[str, Any]) -> Said:
        number = int(rest[0])
        serial = 1000 + number
        self.orders[number].chain = sign(payload["csr"], self.clock.now(), self.lifetime, serial)
        return self._said(self._order_document(number), f"order/{number}")

    def _chain(self, rest: list[str], payload: dict[str, Any]) -> Said:
        return Said(200, self.orders[int(rest[0])].chain)

    def _ari(self, rest: list[str], payload: dict[str, Any]) -> Said:
        self.known.setdefault(rest[0], self.window if not self.known or self.later is None else self.later)
        window = self.window if self.later is None else self.known[rest[0]]
        assert window is not None
        start, end = (instant.isoformat() for instant in window)
        document = {"suggestedWindow": {"start": start, "end": end}, "explanationURL": "https://ca.test/why"}
        return Said(200, json.dumps(document).encode(), (("retry-after", str(self.ask_after)),))


@dataclass
class TwoEnvironments:
    """Production and staging at one port."""

    clock: Clock
    production: Environment = field(init=False)
    staging: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.production = Environment("/production", self.clock)
        self.staging = Environment("/staging", self.clock)

    def answer(self, path: str, content: bytes) -> Said:
        environment = self.staging if path.startswith("/staging/") else self.production
        return environment.answer(path, content)

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[str]:
        """Serve both; gives the URL that their paths are below."""
        async with answering(folder, self.answer) as port:
            root = f"https://localhost:{port}"
            self.production.root = self.staging.root = root
            yield root
