"""Runs the conversation with an ACME authority over HTTPS: accounts, orders, revocation, renewal information.

Everything that is decided is decided in `acme`, `acme_order` and `ari`; here are the network, the clock and the order
in which things reach the disk. `HttpsClient` is all that knows which HTTP library there is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, assert_never
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.acme import (
    CHECK_DIRECTORY,
    MAX_SHOWN,
    AcmeProblem,
    Answer,
    Call,
    Directory,
    Reply,
    Request,
    Resource,
    Session,
)
from edge_certs.acme_order import Issued, Order, Present, State, Wait
from edge_certs.ari import Window, ask_again, encode_certificate_id, parse_window
from edge_certs.challenges import DNS_01, DNS_PERSIST_01, HTTP_01, TLS_ALPN_01, Challenge, ChallengeStore
from edge_certs.errors import CertificateError, place
from edge_certs.jws import AccountKey, Binding, encode_base64url, encode_binding, encode_key_change

# For a connection, a handshake, and each wait for more octets: an authority may sign within a request.
STEP_TIMEOUT = 20.0

# For all of it: one that sends an octet now and then must not hold us. Longer than connection and handshake together,
# because httpx 0.28 leaves a connection open whose handshake is cancelled from outside.
REQUEST_TIMEOUT = 60.0

# A chain has some ten KiB and an order of a hundred names fewer.
MAX_CONTENT_SIZE = 1024 * 1024

# RFC 8555 section 6.1 wants a User-Agent: it lets an authority say which software floods it.
USER_AGENT = "edge-serve"


class Transport(Protocol):
    """What sends a request and gives the reply."""

    async def send(self, request: Request) -> Reply:
        """Return the reply to `request`. Raises CertificateError: there is none."""
        ...


class DnsPublisher(Protocol):
    """What puts TXT records where the authority's resolver finds them, and takes them away."""

    async def publish(self, name: str, text: str) -> None:
        """Return when the record `name` with `text` can be seen. Raises CertificateError: it cannot be made."""
        ...

    async def withdraw(self, name: str, text: str) -> None:
        """Remove the record. Raises CertificateError: it cannot be removed."""
        ...


class HttpsClient:
    """HTTPS by httpx, to servers whose certificates `trusted` accepts: the PEM file of an authority, a context, or the
    system's authorities."""

    __slots__ = ("_client", "_request_timeout")

    def __init__(
        self,
        trusted: Path | ssl.SSLContext | None = None,
        *,
        step_timeout: float = STEP_TIMEOUT,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        """Raises CertificateError: the file cannot be read."""
        self._request_timeout = request_timeout
        # A few KiB that unpack to GiB would pass any limit: nothing is to be packed.
        headers = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
        # Neither proxies nor CA variables of the environment: what is trusted is what the operator named.
        self._client = httpx.AsyncClient(
            verify=_trusting(trusted), timeout=step_timeout, trust_env=False, headers=headers
        )

    async def __aenter__(self) -> HttpsClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(self, request: Request) -> Reply:
        """Return the reply to `request`; redirections are not followed.

        Raises CertificateError: no connection, no trust, no answer in time, or more than `MAX_CONTENT_SIZE` bytes.
        """
        host = urlsplit(request.url).netloc
        try:
            async with asyncio.timeout(self._request_timeout):
                return await self._send(request)
        except (TimeoutError, httpx.TimeoutException):
            raise CertificateError(f"{host}: no complete answer in time", "try again later") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # The last two: what its own libraries say of a TLS record or a host name that cannot be.
            raise CertificateError(f"{host}: {_cause(error)}", _network_advice(error)) from error

    async def _send(self, request: Request) -> Reply:
        async with self._client.stream(
            request.method, request.url, headers=list(request.fields), content=request.content or None
        ) as response:
            if (packed := response.headers.get("content-encoding", "identity")) != "identity":
                raise CertificateError(f"{request.url}: packed as {packed[:MAX_SHOWN]!r}", CHECK_DIRECTORY)
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > MAX_CONTENT_SIZE:
                    raise CertificateError(f"{request.url}: more than {MAX_CONTENT_SIZE} bytes", CHECK_DIRECTORY)
            return Reply(response.status_code, response.headers.multi_items(), bytes(content))


@dataclass(frozen=True, slots=True)
class Solver:
    """Where answers to challenges go: files for the edge, and the DNS when there is a `dns` publisher.

    `announce` is told of a record that has to stand in the DNS already.
    """

    store: ChallengeStore
    dns: DnsPublisher | None = None
    announce: Callable[[Challenge], None] | None = None

    async def present(self, challenge: Challenge, now: datetime) -> None:
        """Make the answer visible; raises CertificateError: it cannot be."""
        if challenge.kind == DNS_PERSIST_01:
            if self.announce is not None:
                self.announce(challenge)
        elif challenge.kind != DNS_01:
            self.store.put(challenge, now)
        elif self.dns is None:
            raise CertificateError(
                f"{challenge.name}: nothing to publish a DNS record with", "choose another challenge"
            )
        else:
            await self.dns.publish(*challenge.record)

    async def withdraw(self, challenge: Challenge) -> None:
        """Take the answer away; raises CertificateError: it cannot be."""
        if challenge.kind in (HTTP_01, TLS_ALPN_01):
            self.store.remove(challenge)
        elif challenge.kind == DNS_01 and self.dns is not None:
            await self.dns.withdraw(*challenge.record)


def utc_now() -> datetime:
    """Return the time of this machine's clock, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """The authority's window for a certificate, and when to ask again, in UTC."""

    window: Window
    ask_at: datetime


@dataclass(slots=True)
class AcmeClient:
    """One account at one authority; calls are made one after the other."""

    transport: Transport
    session: Session
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    async def register(self, contacts: Sequence[str], binding: Binding | None = None) -> str:
        """Return the URL of this key's account, which is made when there is none; agrees to the authority's terms.

        `contacts` are e-mail addresses. Keep the URL: `Session.account` spares this call next time.

        Raises CertificateError: the authority refused, or wants a `binding` that is not there.
        """
        directory = self.session.directory or await self._read_directory()
        if directory.needs_binding and binding is None:
            raise CertificateError(
                "the authority makes accounts for its customers only",
                "give the key identifier and the MAC key that it gave you",
            )
        payload: dict[str, object] = {"termsOfServiceAgreed": True}
        if contacts:
            payload["contact"] = [f"mailto:{contact}" for contact in contacts]
        if binding is not None:
            url = directory.urls[Resource.NEW_ACCOUNT]
            payload["externalAccountBinding"] = encode_binding(self.session.key, binding, url)
        answer = await self.call(Call(Resource.NEW_ACCOUNT, payload, key=self.session.key))
        if not answer.location:
            raise CertificateError("the authority's answer to newAccount has no Location", "try again later")
        self.session.account = answer.location
        return answer.location

    async def issue(
        self,
        order: Order,
        solver: Solver,
        save: Callable[[str], None],
        report: Callable[[State], None] = lambda state: None,
    ) -> bytes:
        """Return the chain in PEM that `order` ends with; `save` is given what resumes it, each time that changes.

        `report` is told what the order does next, for whoever watches.
        Answers to challenges are there before the authority is told to look, and gone when this returns.

        Raises CertificateError: the order failed, or what it needs cannot be written.
        """
        presented: list[Challenge] = []
        try:
            saved, state = "", None
            while True:
                if order.state is not state:
                    report(state := order.state)
                if (current := order.saved()) != saved:
                    save(saved := current)
                match order.next(self.clock()):
                    case Issued(chain_pem=chain_pem):
                        return chain_pem
                    case Wait(until=until):
                        await self.sleep(max(0.0, (until - self.clock()).total_seconds()))
                    case Present(challenges=challenges):
                        for challenge in challenges:
                            presented.append(challenge)
                            await solver.present(challenge, self.clock())
                        order.presented()
                    case Call() as call:
                        await self._step(order, call)
                    case action:
                        assert_never(action)
        finally:
            await _withdraw(solver, presented)

    async def revoke(self, certificate: x509.Certificate, reason: int = 0, key: AccountKey | None = None) -> None:
        """Revoke `certificate` for `reason` (RFC 5280 section 5.3.1), by the account or by the certificate's own `key`.

        Raises CertificateError: the authority refused.
        """
        der = encode_base64url(certificate.public_bytes(Encoding.DER))
        await self.call(Call(Resource.REVOKE, {"certificate": der, "reason": reason}, key=key))

    async def roll_over(self, new: AccountKey, save: Callable[[AccountKey], None]) -> None:
        """Let the account go over to the key `new` (RFC 8555 section 7.3.5).

        `save` is given the key before the authority knows it: were it lost in between, so were the account.

        Raises CertificateError: the authority refused; the old key is still the account's.
        """
        directory = self.session.directory or await self._read_directory()
        url = directory.urls.get(Resource.KEY_CHANGE)
        if url is None or self.session.account is None:
            raise CertificateError("no account, or an authority that changes no keys", "register first")
        save(new)
        inner = encode_key_change(self.session.key, new, account=self.session.account, url=url)
        await self.call(Call(url, inner))
        self.session.key = new

    async def ask_renewal(self, certificate: x509.Certificate) -> RenewalInfo:
        """Return when the authority wants `certificate` renewed (RFC 9773).

        Raises CertificateError: it does not say; the certificate's dates then decide.
        """
        path = encode_certificate_id(certificate)
        answer = await self.call(Call(Resource.RENEWAL_INFO, path=path, signed=False))
        return RenewalInfo(parse_window(answer.content), self.clock() + ask_again(answer.retry_after))

    async def call(self, call: Call) -> Answer:
        """Return the answer to `call`, after however many requests that takes.

        Raises AcmeProblem: the authority refused. Raises CertificateError: there is no usable answer.
        """
        while True:
            reply = await self.transport.send(self.session.encode(call))
            answer = self.session.receive(reply, self.clock())
            if answer is not None:
                return answer

    async def _step(self, order: Order, call: Call) -> None:
        try:
            answer = await self.call(call)
        except AcmeProblem as problem:
            order.refuse(problem, self.clock())
        else:
            order.receive(answer, self.clock())

    async def _read_directory(self) -> Directory:
        reply = await self.transport.send(self.session.encode(Call(Resource.NEW_ORDER)))
        self.session.receive(reply, self.clock())
        if self.session.directory is None:
            raise CertificateError("the authority sent no directory", CHECK_DIRECTORY)
        return self.session.directory


async def _withdraw(solver: Solver, challenges: Sequence[Challenge]) -> None:
    """Take all answers away; what cannot be removed is harmless, and must not hide how the order ended."""
    for challenge in challenges:
        try:
            await solver.withdraw(challenge)
        except CertificateError:
            continue


def _trusting(trusted: Path | ssl.SSLContext | None) -> ssl.SSLContext:
    if isinstance(trusted, ssl.SSLContext):
        return trusted
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(trusted)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"CA file {place(trusted)}: no certificates can be read from it", "name a PEM file"
        ) from error
    return context


def _cause(error: Exception) -> str:
    """The innermost words: what httpx wraps says more than its wrapping."""
    refused = next((each for each in _causes(error) if isinstance(each, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        return f"its certificate is not trusted: {refused.verify_message}"
    words = str(error).strip() or "the connection broke without an answer"
    return words.splitlines()[0][:300].lower()


def _network_advice(error: Exception) -> str:
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in _causes(error)):
        return "name the file with its authority's certificate"
    return "check the authority's URL and the way there, or try again later"


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
