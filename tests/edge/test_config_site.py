"""The options of a site: how names are spelled, and what makes sense together."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import build_settings
from edge.config_site import MAX_PAGE, SiteSettings, is_named
from edge.errors import ConfigError

APP: dict[str, object] = {"app": "shop:app"}


def site(**values: object) -> SiteSettings:
    return build_settings({**APP, **values}).site


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("Shop.Example.", ("shop.example",)),
        ("shop.example, *.Shop.example,,shop.example", ("shop.example", "*.shop.example")),
        (["a.example", "b_c.example"], ("a.example", "b_c.example")),
        ("*", ("*",)),
        ("192.0.2.1", ("192.0.2.1",)),
        ("[2001:DB8::0:a]", ("2001:db8::a",)),
        ("::1", ("::1",)),
    ],
)
def test_names_have_one_spelling(given: object, names: tuple[str, ...]) -> None:
    assert site(server_name=given).server_names == names


def test_names_may_come_from_a_variable() -> None:
    assert build_settings(APP, {"EDGE_SERVER_NAME": "a.example *.b.example"}).site.server_names == (
        "a.example",
        "*.b.example",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"server_name": "https://shop.example"},
            "server_name='https://shop.example': not a host name; use one such as example.com, without scheme, port "
            "and path",
        ),
        (
            {"server_name": "shop.example:443"},
            "server_name='shop.example:443': not a host name; use one such as example.com, without scheme, port "
            "and path",
        ),
        (
            {"server_name": "*.*.example"},
            "server_name='*.example': not a host name; use one such as example.com, without scheme, port and path",
        ),
        (
            {"canonical_host": "bücher.example"},
            "canonical_host='bücher.example': not in ASCII; use its A-label, which begins with xn--",
        ),
        (
            {"canonical_host": "a.example", "server_name": "b.example"},
            "canonical_host: 'a.example' is no --server-name; add --server-name a.example",
        ),
        (
            {"client_auth": "require"},
            "client_auth: there is nothing to verify certificates by; add --client-ca",
        ),
        (
            {"client_crl": "crl.pem"},
            "client_crl: there is nothing to verify certificates by; add --client-ca",
        ),
        ({"client_ca": "ca.pem"}, "client_ca: nothing is served over TLS here; add --cert or --acme"),
        ({"rate_burst": 5}, "rate_burst: without --rate it is for nothing; add --rate 10/s"),
        ({"rate_key": "client"}, "rate_key: without --rate it is for nothing; add --rate 10/s"),
        ({"rate": "10"}, "rate='10': not a rate; use one such as 10/s, 300/m or 1000/h"),
        ({"rate": "0/s"}, "rate='0/s': not a rate; use one such as 10/s, 300/m or 1000/h"),
        ({"rate": "5/d"}, "rate='5/d': not a rate; use one such as 10/s, 300/m or 1000/h"),
        (
            {"rate": "5/s", "rate_key": "path"},
            "rate_key='path': unknown; use client, or header:NAME such as header:authorization",
        ),
        (
            {"rate": "5/s", "rate_key": "header:"},
            "rate_key='header:': unknown; use client, or header:NAME such as header:authorization",
        ),
        ({"hsts_subdomains": True}, "hsts_subdomains: without --hsts it is for nothing; add --hsts"),
        ({"hsts": True}, "hsts: nothing is served over TLS here; add --cert or --acme"),
        (
            {"hsts": True, "dev": True},
            "hsts: browsers would keep it for all servers on localhost; leave it out with --dev",
        ),
        (
            {"hsts": True, "hsts_preload": True, "acme": "a.example"},
            "hsts_preload: browsers take a host with all names below it and for a year or more; "
            "add --hsts-subdomains, with --hsts-max-age of at least 31536000",
        ),
        (
            {
                "hsts": True,
                "hsts_preload": True,
                "hsts_subdomains": True,
                "hsts_max_age": 31_535_999,
                "acme": "a.example",
            },
            "hsts_preload: browsers take a host with all names below it and for a year or more; "
            "add --hsts-subdomains, with --hsts-max-age of at least 31536000",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        site(**values)
    assert str(caught.value) == message


def test_hsts_is_off_by_default_and_two_years_when_it_is_on() -> None:
    assert site().hsts_value == b""
    assert site(hsts=True, acme="a.example").hsts_value == b"max-age=63072000"


def test_hsts_says_all_that_was_asked_for() -> None:
    settings = site(hsts=True, hsts_subdomains=True, hsts_preload=True, hsts_max_age=31_536_000, acme="a.example")
    assert settings.hsts_value == b"max-age=31536000; includeSubDomains; preload"


def test_hsts_can_be_taken_back() -> None:
    assert site(hsts=True, hsts_max_age=0, acme="a.example").hsts_value == b"max-age=0"


@pytest.mark.parametrize("served", [("*",), ("a.example",), ("*.example",)])
def test_canonical_host_is_one_that_is_served(served: tuple[str, ...]) -> None:
    assert is_named("a.example", served)
    assert site(canonical_host="A.example", server_name=list(served)).canonical_host == "a.example"


@pytest.mark.parametrize(("key", "field"), [("client", ""), ("header:X-API-Key", "x-api-key")])
def test_key_of_a_rate_is_an_address_or_a_field(key: str, field: str) -> None:
    settings = site(rate="10/s", rate_key=key)
    assert (settings.rate, settings.rate_field) == ((10, 1.0), field)


def test_pages_are_read_with_the_settings(tmp_path: Path) -> None:
    for name in ("404.html", "5xx.html", "error.html", "index.html", "600.html"):
        (tmp_path / name).write_text(f"page {name}")
    settings = site(error_pages=str(tmp_path))
    assert settings.error_pages[0] == str(tmp_path)
    assert settings.pages == {name: f"page {name}" for name in ("404.html", "5xx.html", "error.html")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.html", b"", "no page in it; name them 404.html, 4xx.html, 5xx.html or error.html"),
        ("404.html", b"\xff", "404.html': not UTF-8; save it as UTF-8"),
        ("404.html", b"x" * (MAX_PAGE + 1), "404.html': more than 256KiB, which is allowed; use a smaller page"),
        ("404.html", None, "404.html': cannot be read: is a directory"),
    ],
)
def test_pages_that_cannot_be_used_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        site(error_pages=str(tmp_path))
    assert str(caught.value).startswith("error_pages=")
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("values", "guard"),
    [
        ({}, ""),
        ({"client_ca": "ca.pem", "client_auth": "off"}, ""),
        ({"client_ca": "ca.pem"}, "require ca.pem "),
        ({"client_ca": "ca.pem", "client_auth": "optional", "client_crl": "a.crl"}, "optional ca.pem a.crl"),
    ],
)
def test_guard_is_named_by_all_that_makes_it(values: dict[str, object], guard: str) -> None:
    assert site(acme="a.example", **values).guard == guard
