"""Certificates from Pebble: it refuses 5 % of good nonces, remembers no authorization, validates over the network."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from edge_certs.acme import AcmeProblem, Reply, Request, Session
from edge_certs.acme_client import AcmeClient, HttpsClient, Solver, Transport
from edge_certs.acme_order import Order, State, Wanted
from edge_certs.challenges import DNS_01, HTTP_01, TLS_ALPN_01, ChallengeStore
from edge_certs.csr import check_issued, encode_csr, generate_key
from edge_certs.errors import CertificateError
from edge_certs.jws import AccountKey, Binding, encode_base64url, parse_base64url
from edge_certs.x509 import Certificate, parse_chain
from tests.process.pebble import HurriedClock, Pebble, pebble, solving

MAC_KEY = encode_base64url(b"a key of thirty-two octets, known")
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass
class Site:
    """Pebble, and a server whose answers to challenges are in `store`."""

    authority: Pebble
    store: ChallengeStore
    http: socket.socket
    tls: socket.socket


@dataclass
class Customer:
    """A client with its account and what its solvers were asked."""

    site: Site
    client: AcmeClient
    solver: Solver
    asked: list[str]
    saved: list[str]

    async def issue(self, *names: str, kinds: tuple[str, ...] = (HTTP_01,), root: str | None = None) -> Certificate:
        key = generate_key()
        wanted = Wanted(names, kinds, encode_csr(key, names), root=root)
        order = Order(wanted, self.client.session.key)
        return check_issued(await self.client.issue(order, self.solver, self.saved.append), key, names)


@dataclass
class Counting:
    """Sends by `transport`, and counts the nonces that are refused."""

    transport: Transport
    refused: int = 0

    async def send(self, request: Request) -> Reply:
        reply = await self.transport.send(request)
        self.refused += b"error:badNonce" in reply.content
        return reply


def sites(folder: Path, mac_keys: dict[str, str] | None = None) -> Iterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as tls:
        ports = {"http_port": http.getsockname()[1], "tls_port": tls.getsockname()[1]}
        with pebble(folder, mac_keys=mac_keys, **ports) as authority:
            yield Site(authority, ChallengeStore(folder / "challenges"), http, tls)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from sites(tmp_path_factory.mktemp("pebble"))


@pytest.fixture(autouse=True)
def no_trust_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def stranger(site: Site) -> AsyncIterator[Customer]:
    """Somebody without an account yet."""
    clock = HurriedClock()
    async with (
        HttpsClient(site.authority.ca_file) as transport,
        solving(site.store, site.http.dup(), site.tls.dup()) as asked,
    ):
        session = Session(site.authority.directory, AccountKey.generate())
        client = AcmeClient(transport, session, clock.now, clock.sleep)
        yield Customer(site, client, Solver(site.store, site.authority.dns), asked, [])


def as_customer(site: Site, act: Callable[[Customer], Coroutine[object, object, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), stranger(site) as customer:
            await customer.client.register(["a@example.com"])
            await act(customer)

    asyncio.run(run())


def files_in(store: ChallengeStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


def test_names_are_proven_by_http(site: Site) -> None:
    async def act(customer: Customer) -> None:
        certificate = await customer.issue("www.shop.test", "shop.test")
        assert set(certificate.names) == {"www.shop.test", "shop.test"}
        assert certificate.key_type == "ecdsa"
        assert {line.split("/")[0] for line in customer.asked} == {"http "}
        assert len(set(customer.asked)) == 2
        assert files_in(site.store) == []

    as_customer(site, act)


def test_name_is_proven_by_tls(site: Site) -> None:
    async def act(customer: Customer) -> None:
        certificate = await customer.issue("alpn.test", kinds=(TLS_ALPN_01, HTTP_01))
        assert certificate.names == ("alpn.test",)
        assert set(customer.asked) == {"tls alpn.test"}
        assert files_in(site.store) == []

    as_customer(site, act)


@pytest.mark.parametrize(
    ("kind", "asked"), [(HTTP_01, "http /.well-known/acme-challenge/"), (TLS_ALPN_01, "tls 1.0.0.127.in-addr.arpa")]
)
def test_address_is_proven(site: Site, kind: str, asked: str) -> None:
    async def act(customer: Customer) -> None:
        assert (await customer.issue("127.0.0.1", kinds=(kind,))).names == ("127.0.0.1",)
        assert customer.asked
        assert all(line.startswith(asked) for line in customer.asked)

    as_customer(site, act)


def test_wildcard_is_proven_in_the_dns_with_the_name_itself(site: Site) -> None:
    async def act(customer: Customer) -> None:
        certificate = await customer.issue("*.wild.test", "wild.test", kinds=(HTTP_01, DNS_01))
        assert set(certificate.names) == {"*.wild.test", "wild.test"}
        assert customer.asked
        assert site.authority.dns.published == []

    as_customer(site, act)


def test_wildcard_without_dns_is_refused_before_anything_is_tried(site: Site) -> None:
    async def act(customer: Customer) -> None:
        with pytest.raises(CertificateError) as caught:
            await customer.issue("*.wild.test")
        message = "wild.test: the authority offers 'dns-01', this server is set up for 'http-01'; set up dns-01"
        assert str(caught.value) == message
        assert customer.asked == []

    as_customer(site, act)


def test_name_that_does_not_answer_is_said_with_the_reason_of_the_authority(site: Site) -> None:
    async def act(customer: Customer) -> None:
        elsewhere = Solver(ChallengeStore(site.store.folder / "elsewhere"))
        names = ("lost.test",)
        order = Order(Wanted(names, (HTTP_01,), encode_csr(generate_key(), names)), customer.client.session.key)
        with pytest.raises(CertificateError, match=r"^lost\.test: http-01: the authority reports unauthorized: '.*404"):
            await customer.client.issue(order, elsewhere, customer.saved.append)
        assert files_in(site.store) == []

    as_customer(site, act)


def test_chain_of_the_root_that_is_preferred_is_taken(site: Site) -> None:
    async def act(customer: Customer) -> None:
        roots = [parse_chain(await site.authority.fetch(f"/roots/{number}"))[0] for number in (0, 1)]
        for root in roots:
            name = root.subject.rfc4514_string()
            certificate = await customer.issue("chain.test", root=name)
            assert parse_chain(certificate.chain_pem)[-1].issuer == root.subject
        assert roots[0].subject != roots[1].subject

    as_customer(site, act)


def test_order_goes_on_after_a_crash(site: Site) -> None:
    async def act(customer: Customer) -> None:
        key, names = generate_key(), ("crash.test",)
        wanted = Wanted(names, (HTTP_01,), encode_csr(key, names))
        first = Order(wanted, customer.client.session.key)

        class Crash(Exception):
            pass

        def save(saved: str) -> None:
            customer.saved.append(saved)
            if json.loads(saved)["url"]:
                raise Crash

        with pytest.raises(Crash):
            await customer.client.issue(first, customer.solver, save)
        assert first.state is State.AUTHORIZATIONS
        second = Order(wanted, customer.client.session.key, customer.saved[-1])
        check_issued(await customer.client.issue(second, customer.solver, lambda _: None), key, names)
        assert second.saved() == customer.saved[-1]
        third = Order(wanted, customer.client.session.key, second.saved())
        customer.asked.clear()
        check_issued(await customer.client.issue(third, customer.solver, lambda _: None), key, names)
        assert customer.asked == []

    as_customer(site, act)


@pytest.mark.parametrize("by_account", [True, False])
def test_certificate_is_revoked(site: Site, by_account: bool) -> None:
    async def act(customer: Customer) -> None:
        certificate = await customer.issue("revoked.test")
        leaf = parse_chain(certificate.chain_pem)[0]
        await customer.client.revoke(leaf, 1, None if by_account else AccountKey.parse(certificate.key_pem))
        status = json.loads(await site.authority.fetch(f"/cert-status-by-serial/{leaf.serial_number:x}"))
        assert (status["Status"], status["Reason"]) == ("Revoked", 1)
        with pytest.raises(AcmeProblem, match="alreadyRevoked"):
            await customer.client.revoke(leaf, 1)

    as_customer(site, act)


def test_account_goes_over_to_another_key(site: Site) -> None:
    async def act(customer: Customer) -> None:
        session = customer.client.session
        old, new, kept = session.key, AccountKey.generate(), list[AccountKey]()
        await customer.client.roll_over(new, kept.append)
        assert kept == [new]
        await customer.issue("rollover.test")
        session.key = old
        with pytest.raises(AcmeProblem) as caught:
            await customer.issue("rollover.test")
        assert caught.value.kind in ("malformed", "unauthorized")

    as_customer(site, act)


def test_account_of_a_key_is_found_again(site: Site) -> None:
    async def act(customer: Customer) -> None:
        account = customer.client.session.account
        assert await customer.client.register([]) == account

    as_customer(site, act)


def test_nonces_that_are_refused_are_replaced(site: Site) -> None:
    async def act(customer: Customer) -> None:
        counting = Counting(customer.client.transport)
        client = AcmeClient(counting, customer.client.session)
        # One of twenty is refused: none of five hundred would be a chance of 10^-11.
        for _ in range(500):
            assert await client.register([]) == customer.client.session.account
            if counting.refused >= 1:
                break
        assert counting.refused >= 1

    as_customer(site, act)


def test_account_is_bound_to_the_customer(tmp_path: Path) -> None:
    async def act(site: Site) -> None:
        async with asyncio.timeout(60), stranger(site) as customer:
            with pytest.raises(CertificateError, match=r"^the authority makes accounts for its customers only; give"):
                await customer.client.register([])
            with pytest.raises(AcmeProblem):
                await customer.client.register([], Binding("kid-1", b"another key of thirty-two octets"))
            await customer.client.register([], Binding("kid-1", parse_base64url(MAC_KEY)))
            assert (await customer.issue("bound.test")).names == ("bound.test",)

    for site in sites(tmp_path, {"kid-1": MAC_KEY}):
        asyncio.run(act(site))


def test_authority_that_is_not_trusted_is_said_so(site: Site, tmp_path: Path) -> None:
    async def run() -> None:
        async with HttpsClient(None) as transport:
            client = AcmeClient(transport, Session(site.authority.directory, AccountKey.generate()))
            with pytest.raises(CertificateError, match=r"^localhost:\d+: its certificate is not trusted: .*; name the"):
                await client.register([])

    asyncio.run(run())


def test_authority_without_renewal_information_is_said_so(site: Site) -> None:
    async def act(customer: Customer) -> None:
        certificate = await customer.issue("ari.test")
        with pytest.raises(CertificateError, match=r"^the authority's directory has no 'renewalInfo'; do without it$"):
            await customer.client.ask_renewal(x509.load_pem_x509_certificate(certificate.chain_pem))

    as_customer(site, act)
