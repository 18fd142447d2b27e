from __future__ import annotations

import ssl

import pytest

from edge.tls import making
from edge.tls.contexts import MemoryCertificate, TlsServer
from edge.tls.guards import Guard
from edge.tls.making import REMAKE_AFTER, MadeSites
from edge_certs.errors import CertificateError
from tests.edge.tls.pair import Client, TestAuthority


class Shop:
    """Makes certificates for names below `shop.test`, and counts them."""

    def __init__(self, authority: TestAuthority) -> None:
        self.authority = authority
        self.made: list[str] = []
        self.is_closed = False
        self.now = 0.0

    def choose(self, server_name: str | None) -> str:
        return server_name if server_name is not None and server_name.endswith(".shop.test") else ""

    def make(self, name: str) -> MemoryCertificate:
        if self.is_closed:
            raise CertificateError("the authority has expired", "make another")
        self.made.append(name)
        return self.authority.issue(name or "shop.test")

    def is_known(self, host: str) -> bool:
        return host == "shop.test" or self.choose(host) != ""

    def clock(self) -> float:
        return self.now


@pytest.fixture
def shop(authority: TestAuthority) -> Shop:
    return Shop(authority)


@pytest.fixture
def sites(shop: Shop) -> MadeSites:
    return MadeSites(shop, clock=shop.clock)


def names(sites: MadeSites, authority: TestAuthority, name: str | None) -> list[str]:
    context = authority.client_context()
    context.check_hostname = False
    return Client(TlsServer.serving(sites), context, name).connect().names()


def test_client_gets_a_certificate_for_the_very_name(sites: MadeSites, authority: TestAuthority) -> None:
    assert names(sites, authority, "a.shop.test") == ["a.shop.test"]
    assert names(sites, authority, "b.shop.test") == ["b.shop.test"]


@pytest.mark.parametrize("name", [None, "elsewhere.test"])
def test_client_without_a_name_of_ours_gets_the_first(
    sites: MadeSites, authority: TestAuthority, name: str | None
) -> None:
    assert names(sites, authority, name) == ["shop.test"]


def test_certificate_is_made_once(sites: MadeSites, shop: Shop) -> None:
    contexts = {sites.context_for("a.shop.test") for _ in range(3)}
    assert len(contexts) == 1
    assert shop.made == ["", "a.shop.test"]


@pytest.mark.parametrize("name", ["", "a.shop.test"])
def test_certificate_is_made_anew_long_before_it_expires(sites: MadeSites, shop: Shop, name: str) -> None:
    before = sites.context_for(name)
    shop.now = REMAKE_AFTER - 1
    assert sites.context_for(name) is before
    shop.now = REMAKE_AFTER
    assert sites.context_for(name) is not before
    assert shop.made.count(name) == 2


def test_certificate_is_made_anew_when_the_clock_was_set_back(shop: Shop) -> None:
    shop.now = 1000.0
    sites = MadeSites(shop, clock=shop.clock)
    before = sites.context_for("a.shop.test")
    shop.now = 999.0
    assert sites.context_for("a.shop.test") is not before


def test_what_cannot_be_made_leaves_what_there_is(
    sites: MadeSites, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    first, kept = sites.context_for(None), sites.context_for("a.shop.test")
    shop.is_closed = True
    shop.now = REMAKE_AFTER
    assert sites.context_for("a.shop.test") is kept
    assert sites.context_for("new.shop.test") is first
    assert sites.context_for(None) is first
    assert caplog.messages == [
        f"certificate for {name} not made: the authority has expired; make another"
        for name in ("a.shop.test", "new.shop.test", "localhost")
    ]


def test_without_a_first_certificate_there_is_nothing_to_serve(shop: Shop) -> None:
    shop.is_closed = True
    with pytest.raises(CertificateError, match="has expired"):
        MadeSites(shop)


def test_number_of_certificates_is_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "MAX_MADE", 3)
    sites = MadeSites(shop, clock=shop.clock)
    for number in (1, 2, 3, 4, 1):
        sites.context_for(f"{number}.shop.test")
        sites.context_for(None)
    # Each time the oldest made room, the first one never does.
    assert shop.made == ["", "1.shop.test", "2.shop.test", "3.shop.test", "4.shop.test", "1.shop.test"]


def test_hosts_that_are_known_are_the_makers(sites: MadeSites) -> None:
    assert sites.is_known("x.shop.test")
    assert not sites.is_known("elsewhere.test")
    assert sites.only_context is None


def test_client_is_asked_for_its_certificate_whatever_name_it_gives(sites: MadeSites, authority: TestAuthority) -> None:
    guard = Guard(authority.root_pem, "", True)
    context = sites.guarded_context("a.shop.test", guard)
    assert context is sites.guarded_context("a.shop.test", guard)
    assert context is not sites.guarded_context("b.shop.test", guard)
    assert context.verify_mode == ssl.CERT_REQUIRED
