"""Which site a host belongs to."""

from __future__ import annotations

import pytest

from edge.policy.sites import EVERY_HOST, Site, Sites, is_address

SHOP = Site(("shop.example", "www.shop.example"), hsts=b"max-age=1")
ANY_SHOP = Site(("*.shop.example", "192.0.2.7", "2001:db8::a"), guard="clients")
CERTIFIED = Site((), {"certified.example"}.__contains__)
SITES = Sites([SHOP, ANY_SHOP, CERTIFIED])


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("shop.example", SHOP),
        ("www.shop.example", SHOP),
        ("api.shop.example", ANY_SHOP),
        ("192.0.2.7", ANY_SHOP),
        ("2001:db8::a", ANY_SHOP),
        ("certified.example", CERTIFIED),
        ("a.b.shop.example", None),
        ("evil%2f.shop.example", None),
        (".shop.example", None),
        ("example", None),
        ("evil.example", None),
        (None, None),
    ],
)
def test_site_is_found_by_name_then_wildcard_then_certificate(name: str | None, site: Site | None) -> None:
    assert SITES.find(name) is site


def test_exact_name_wins_over_a_wildcard_that_comes_first() -> None:
    assert Sites([ANY_SHOP, SHOP]).find("www.shop.example") is SHOP


def test_first_of_two_sites_with_a_name_has_it() -> None:
    later = Site(("shop.example", "*.shop.example", "*"))
    sites = Sites([SHOP, ANY_SHOP, later])
    assert sites.find("shop.example") is SHOP
    assert sites.find("api.shop.example") is ANY_SHOP


def test_site_of_every_host_gets_what_no_other_has() -> None:
    rest = Site(("*",))
    sites = Sites([SHOP, rest, CERTIFIED, Site(("*",))])
    assert sites.find("elsewhere.example") is rest
    assert sites.find("certified.example") is CERTIFIED
    assert sites.find(None) is rest


def test_by_default_there_is_one_site_for_every_host() -> None:
    assert EVERY_HOST.find("anything") is EVERY_HOST.first is EVERY_HOST.find(None)
    assert not EVERY_HOST.have_hsts
    assert SITES.have_hsts
    assert SITES.first is SHOP


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("shop.example", SHOP),
        ("api.shop.example", ANY_SHOP),
        ("certified.example", CERTIFIED),
        ("x", SHOP),
        (None, SHOP),
    ],
)
def test_server_name_of_nobody_is_the_first_sites(name: str | None, site: Site) -> None:
    assert SITES.of_name(name) is site
    assert SITES.guard_of(name) == site.guard
    assert SITES.have_guards
    assert not EVERY_HOST.have_guards


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("2001:db8::a", True),
        ("shop.example", False),
        ("host1", False),
        ("1.2.3.4.5", False),
    ],
)
def test_address_is_told_from_a_name(name: str, expected: bool) -> None:
    assert is_address(name) is expected
