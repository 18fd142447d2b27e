"""The client over real TLS, against an authority in this process that misbehaves as Pebble cannot."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edge_certs.acme import AcmeProblem, Request, Session
from edge_certs.acme_client import MAX_CONTENT_SIZE, AcmeClient, HttpsClient, Solver, utc_now
from edge_certs.acme_order import Order, Wanted
from edge_certs.ari import encode_certificate_id
from edge_certs.challenges import DNS_01, HTTP_01, Challenge, ChallengeStore
from edge_certs.csr import check_issued, encode_csr, generate_key
from edge_certs.errors import CertificateError
from edge_certs.jws import AccountKey
from tests.certs.authority import DROP, Clock, Said, answering, payload_of, problem, sign
from tests.certs.forge import NOW

NAMES = ("shop.example",)


@dataclass
class Authority:
    """Signs every order at once, apart from what `instead` says of a path: answers to give first, one a request."""

    port: int
    instead: dict[str, list[Said]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    chain: bytes = b""
    is_proven: bool = True

    def answer(self, path: str, content: bytes) -> Said:
        payload = payload_of(content)
        self.asked.append((path, payload))
        if self.instead.get(path):
            return self.instead[path].pop(0)
        if path == "/finalize":
            self.chain = sign(payload["csr"], NOW, timedelta(days=90), 0x8765_4321)
        parts: dict[str, object] = {
            "/dir": self._directory(),
            "/account": {"status": "valid"},
            "/order": self._order("pending"),
            "/order/1": self._order("valid" if self.chain else "ready" if self.is_proven else "pending"),
            "/authz": self._authorization(),
            "/prove": {"status": "processing"},
            "/finalize": self._order("valid"),
            "/revoke": {},
            "/change": {},
        }
        if path == "/prove":
            self.is_proven = True
        content = self.chain if path == "/chain" else json.dumps(parts.get(path, {})).encode()
        return Said(200, content, (("location", self.url("/account/1" if path == "/account" else "/order/1")),))

    def url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"

    def payloads(self, path: str) -> list[dict[str, Any]]:
        return [payload for asked, payload in self.asked if asked == path]

    def _directory(self) -> dict[str, object]:
        names = {"newNonce": "/nonce", "newAccount": "/account", "newOrder": "/order", "revokeCert": "/revoke"}
        names |= {"keyChange": "/change", "renewalInfo": "/ari"}
        return {name: self.url(path) for name, path in names.items()}

    def _order(self, status: str) -> dict[str, object]:
        urls = {"finalize": self.url("/finalize"), "certificate": self.url("/chain")}
        return {"status": status, "authorizations": [self.url("/authz")], **urls}

    def _authorization(self) -> dict[str, object]:
        kinds = (HTTP_01, DNS_01)
        shown = [{"type": kind, "url": self.url("/prove"), "token": "token-1", "status": "pending"} for kind in kinds]
        status = "valid" if self.is_proven else "pending"
        return {"status": status, "identifier": {"type": "dns", "value": NAMES[0]}, "challenges": shown}


@dataclass
class Customer:
    """A client with an account, and the authority that it has it at."""

    authority: Authority
    client: AcmeClient
    clock: Clock
    store: ChallengeStore
    key: bytes
    saved: list[str] = field(default_factory=list)

    def order(self, **more: Any) -> Order:
        return Order(Wanted(NAMES, (HTTP_01,), encode_csr(self.key, NAMES), **more), self.client.session.key)

    async def issue(self, order: Order | None = None) -> bytes:
        chain = await self.client.issue(order or self.order(), Solver(self.store), self.saved.append)
        check_issued(chain, self.key, NAMES)
        return chain


Act = Callable[[Customer], Coroutine[object, object, None]]


@asynccontextmanager
async def authority_at(folder: Path) -> AsyncIterator[Authority]:
    """Serve an authority over TLS on a free port; its own root is `ca.pem` in `folder`."""
    authority = Authority(0)

    def answer(path: str, content: bytes) -> Said:
        # Looked up at each request: tests put themselves in its place.
        return authority.answer(path, content)

    async with answering(folder, answer) as port:
        authority.port = port
        yield authority


def as_customer(folder: Path, act: Act) -> None:
    async def run() -> None:
        clock = Clock()
        async with asyncio.timeout(30), authority_at(folder) as authority, HttpsClient(folder / "ca.pem") as transport:
            session = Session(authority.url("/dir"), AccountKey.generate())
            client = AcmeClient(transport, session, clock.now, clock.sleep)
            await client.register(["a@example.com"])
            await act(Customer(authority, client, clock, ChallengeStore(folder / "challenges"), generate_key()))

    asyncio.run(run())


def test_account_agrees_to_the_terms_and_gives_its_address(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        agreed = {"termsOfServiceAgreed": True, "contact": ["mailto:a@example.com"]}
        assert customer.authority.payloads("/account") == [agreed]
        assert customer.client.session.account == customer.authority.url("/account/1")

    as_customer(tmp_path, act)


def test_rate_limit_is_said_with_its_end(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/order"] = [problem("rateLimited", 429, ("retry-after", "7200"))]
        with pytest.raises(AcmeProblem) as caught:
            await customer.issue()
        assert str(caught.value).endswith("429 rateLimited: 'because'; next try not before 2027-03-01T14:00Z")
        assert caught.value.retry_at == NOW + timedelta(hours=2)
        assert len(customer.authority.payloads("/order")) == 1

    as_customer(tmp_path, act)


def test_certificate_replaced_already_is_ordered_again_without_saying_so(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/order"] = [problem("alreadyReplaced", 409)]
        await customer.issue(customer.order(replaces="a.b"))
        first, second = customer.authority.payloads("/order")
        assert first["replaces"] == "a.b"
        assert "replaces" not in second

    as_customer(tmp_path, act)


def test_slow_finalize_is_waited_for_as_the_authority_asks(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        slow = Said(200, b'{"status": "processing"}', (("retry-after", "20"),))
        customer.authority.instead["/finalize"] = [slow]
        customer.authority.instead["/order/1"] = [
            Said(200, b'{"status": "ready", "finalize": "%b"}' % customer.authority.url("/finalize").encode()),
            slow,
            Said(200, b'{"status": "ready", "finalize": "%b"}' % customer.authority.url("/finalize").encode()),
        ]
        await customer.issue()
        assert customer.clock.slept == [20.0, 20.0]

    as_customer(tmp_path, act)


def test_profile_that_the_authority_does_not_have_is_said(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/order"] = [problem("invalidProfile", 400)]
        with pytest.raises(
            AcmeProblem, match=r"invalidProfile: 'because'; name one of the authority's profiles, or none$"
        ):
            await customer.issue(customer.order(profile="fast"))
        assert customer.authority.payloads("/order")[0]["profile"] == "fast"

    as_customer(tmp_path, act)


@pytest.mark.parametrize("path", ["/order", "/authz", "/order/1", "/finalize", "/chain"])
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Said(502, b"<html>", (("content-type", "text/html"),)), "answered 502 with 'text/html', not with a problem"),
        (Said(200, DROP), ": server disconnected without sending a response"),
        (Said(302, b"", (("location", "https://elsewhere.example/"),)), "answered 302 with '', not with a problem"),
    ],
)
def test_broken_answer_is_one_line_and_no_traceback(tmp_path: Path, path: str, said: Said, message: str) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead[path] = [said]
        with pytest.raises(CertificateError) as caught:
            await customer.issue()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        # What the next try needs is kept, and it comes to its end.
        await customer.issue(
            Order(
                Wanted(NAMES, (HTTP_01,), encode_csr(customer.key, NAMES)),
                customer.client.session.key,
                customer.saved[-1],
            )
        )

    as_customer(tmp_path, act)


def test_page_instead_of_a_chain_is_refused(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/chain"] = [Said(200, b"<html>")]
        with pytest.raises(CertificateError, match="not PEM"):
            await customer.issue()

    as_customer(tmp_path, act)


def test_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/chain"] = [Said(200, b"x" * (MAX_CONTENT_SIZE + 1))]
        with pytest.raises(CertificateError, match=r"/chain: more than 1048576 bytes; check the URL"):
            await customer.issue()

    as_customer(tmp_path, act)


def test_answer_to_a_challenge_is_there_when_it_is_triggered_and_gone_at_the_end(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        seen: list[bytes | None] = []
        answer = customer.authority.answer

        def watched(path: str, content: bytes) -> Said:
            if path == "/prove":
                seen.append(customer.store.find_http("token-1"))
            return answer(path, content)

        customer.authority.is_proven = False
        customer.authority.answer = watched  # type: ignore[method-assign]  # it looks at the disk as an authority would
        await customer.issue()
        assert seen == [customer.client.session.key.authorize("token-1").encode()]
        assert customer.store.find_http("token-1") is None

    as_customer(tmp_path, act)


def test_answer_to_a_challenge_is_gone_when_the_order_fails(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.is_proven = False
        customer.authority.instead["/prove"] = [problem("serverInternal", 500)]
        with pytest.raises(AcmeProblem, match="500 serverInternal"):
            await customer.issue()
        assert customer.store.find_http("token-1") is None

    as_customer(tmp_path, act)


def test_answer_that_cannot_be_removed_does_not_hide_the_failure(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.is_proven = False
        customer.authority.instead["/prove"] = [problem("serverInternal", 500)]
        # A folder where the file is to be: neither written nor removed.
        (tmp_path / "challenges/http-01/token-1/inside").mkdir(parents=True)
        with pytest.raises(CertificateError, match="cannot write"):
            await customer.issue()

    as_customer(tmp_path, act)


def test_dns_record_without_a_publisher_is_refused(tmp_path: Path) -> None:
    solver = Solver(ChallengeStore(tmp_path))
    challenge = Challenge(DNS_01, "shop.example", "t", "t.k")
    with pytest.raises(CertificateError, match=r"^shop\.example: nothing to publish a DNS record with; choose another"):
        asyncio.run(solver.present(challenge, NOW))
    asyncio.run(solver.withdraw(challenge))


def test_url_of_the_order_is_saved_before_anything_is_proven(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/authz"] = [problem("serverInternal", 500)]
        with pytest.raises(AcmeProblem):
            await customer.issue()
        assert [json.loads(saved)["url"] for saved in customer.saved] == [None, customer.authority.url("/order/1")]

    as_customer(tmp_path, act)


def test_window_of_a_certificate_is_asked_for_by_its_id(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        certificate = x509.load_pem_x509_certificate(await customer.issue())
        window = b'{"suggestedWindow": {"start": "2027-04-01T00:00:00Z", "end": "2027-04-03T00:00:00Z"}}'
        path = f"/ari/{encode_certificate_id(certificate)}"
        customer.authority.instead[path] = [Said(200, window, (("retry-after", "21600"),))]
        info = await customer.client.ask_renewal(certificate)
        assert info.window.end - info.window.start == timedelta(days=2)
        assert info.ask_at == NOW + timedelta(hours=6)

    as_customer(tmp_path, act)


def test_new_key_is_kept_before_the_authority_knows_it(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        old, new, kept = customer.client.session.key, AccountKey.generate(), list[AccountKey]()
        customer.authority.instead["/change"] = [problem("serverInternal", 500)]
        with pytest.raises(AcmeProblem):
            await customer.client.roll_over(new, kept.append)
        assert kept == [new]
        assert customer.client.session.key is old
        await customer.client.roll_over(new, kept.append)
        assert customer.client.session.key is new

    as_customer(tmp_path, act)


def test_key_of_no_account_cannot_be_changed(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        stranger = AcmeClient(customer.client.transport, Session(customer.authority.url("/dir"), AccountKey.generate()))
        with pytest.raises(
            CertificateError, match=r"^no account, or an authority that changes no keys; register first$"
        ):
            await stranger.roll_over(AccountKey.generate(), lambda key: None)

    as_customer(tmp_path, act)


def test_account_without_a_location_is_refused(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/account"] = [Said(200, b"{}")]
        with pytest.raises(CertificateError, match=r"^the authority's answer to newAccount has no Location; try again"):
            await customer.client.register([])

    as_customer(tmp_path, act)


def test_directory_that_refuses_the_nonce_of_nobody_is_refused(tmp_path: Path) -> None:
    async def act(customer: Customer) -> None:
        customer.authority.instead["/dir"] = [problem("badNonce", 400)]
        stranger = AcmeClient(customer.client.transport, Session(customer.authority.url("/dir"), AccountKey.generate()))
        with pytest.raises(CertificateError, match=r"^the authority sent no directory; check the URL"):
            await stranger.register([])

    as_customer(tmp_path, act)


def test_authority_that_is_not_there_is_said_with_its_name(tmp_path: Path) -> None:
    async def run() -> None:
        async with authority_at(tmp_path) as authority:
            url = authority.url("/dir")
        async with HttpsClient(tmp_path / "ca.pem") as transport:
            with pytest.raises(
                CertificateError, match=r"^localhost:\d+: .*connect.*; check the authority's URL and the"
            ):
                await transport.send(Request("GET", url, ()))

    asyncio.run(run())


def test_authority_that_never_answers_is_given_up() -> None:
    async def run() -> None:
        # It listens and does not accept: the handshake waits for ever.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://localhost:{silent.getsockname()[1]}/"
            async with HttpsClient(step_timeout=0.1) as transport:
                with pytest.raises(
                    CertificateError, match=r"^localhost:\d+: no complete answer in time; try again later$"
                ):
                    await transport.send(Request("GET", url, ()))

    asyncio.run(run())


def test_authority_that_drips_is_given_up() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.01)
        writer.close()
        finished.set()

    finished = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        async with server, HttpsClient(step_timeout=10, request_timeout=0.2) as transport:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(CertificateError, match=r"^127\.0\.0\.1:\d+: no complete answer in time"):
                await transport.send(Request("GET", url, ()))
            await finished.wait()

    asyncio.run(run())


@pytest.mark.parametrize("content", [None, b"", b"<html>"])
def test_ca_file_without_certificates_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CertificateError, match=r"^CA file .*ca\.pem: no certificates can be read from it; name a PEM"):
        HttpsClient(path)


def test_clock_of_this_machine_is_in_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)
