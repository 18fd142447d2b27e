from __future__ import annotations

import base64

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.target import Target, choose_proxy, parse_target


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("https://shop.example", "shop.example", 443, "https://shop.example"),
        ("https://shop.example:8443/a?b=c", "shop.example", 8443, "https://shop.example:8443/a?b=c"),
        ("shop.example", "shop.example", 443, "https://shop.example/"),
        ("shop.example:8443", "shop.example", 8443, "https://shop.example:8443/"),
        ("127.0.0.1:1", "127.0.0.1", 1, "https://127.0.0.1:1/"),
        ("::1", "::1", 443, "https://[::1]/"),
        ("[::1]:8443", "::1", 8443, "https://[::1]:8443/"),
        ("HTTPS://Shop.Example/", "shop.example", 443, "HTTPS://Shop.Example/"),
    ],
)
def test_target_is_a_url_or_a_host_with_or_without_a_port(text: str, host: str, port: int, url: str) -> None:
    assert parse_target(text) == Target(host, port, url)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://shop.example/", "scheme 'http', and only https has a certificate"),
        ("shop.example:http", "neither a URL nor a host with a port"),
        ("shop.example:65536", "neither a URL nor a host with a port"),
        ("[::1", "neither a URL nor a host with a port"),
        ("https:///path", "no host in it, or a character that no URL has"),
        ("", "no host in it, or a character that no URL has"),
        ("shop.example/\r\nx", "no host in it, or a character that no URL has"),
        ("a b", "no host in it, or a character that no URL has"),
    ],
)
def test_target_that_is_none_is_refused(text: str, found: str) -> None:
    with pytest.raises(CertificateError) as caught:
        parse_target(text)
    assert caught.value.found == f"target {text!r}: {found}"
    assert caught.value.advice == "use https://HOST[:PORT]/PATH, HOST or HOST:PORT"


@pytest.mark.parametrize(("text", "shown"), [("shop.example", "shop.example:443"), ("[::1]:8443", "[::1]:8443")])
def test_target_is_shown_as_host_and_port(text: str, shown: str) -> None:
    assert str(parse_target(text)) == shown


@pytest.mark.parametrize("host", ["www.shop.example", "pypi.org", "pypi.org.", "8.8.8.8", "corp.example", "mytest.org"])
def test_public_authority_could_have_signed_for(host: str) -> None:
    assert parse_target(host).is_public


@pytest.mark.parametrize(
    "host",
    ["localhost", "intranet", "wiki.corp", "a.localhost", "x.internal", "nas.home.arpa", "X.LAN.", "10.1.2.3", "::1"],
)
def test_no_public_authority_signs_for(host: str) -> None:
    assert not parse_target(host).is_public


TARGET = parse_target("www.shop.example:8443")


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "http://lower:1"),
        ({"https_proxy": "", "ALL_PROXY": "http://all:1"}, "http://all:1"),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy"}, "http://proxy:80"),
        ({"HTTPS_PROXY": "https://proxy"}, "https://proxy:443"),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "http://[::1]:3128"),
        ({"HTTPS_PROXY": "http://me:secret@proxy:1"}, "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "other.example, ,shop.example.com"}, "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "op.example"}, "http://proxy:1"),
    ],
)
def test_proxy_is_the_one_that_variables_name_shown_without_its_password(environ: dict[str, str], shown: str) -> None:
    proxy = choose_proxy(TARGET, environ)
    assert str(proxy) == shown
    assert "secret" not in repr(proxy)


@pytest.mark.parametrize(
    "excepted", ["*", "www.shop.example", "shop.example", ".Shop.Example", "a, example", "www.shop.example:8443"]
)
def test_excepted_target_is_reached_without_the_proxy(excepted: str) -> None:
    assert choose_proxy(TARGET, {"HTTPS_PROXY": "http://proxy:1", "no_proxy": excepted}) is None


def test_without_variables_there_is_no_proxy() -> None:
    assert choose_proxy(TARGET, {"HTTP_PROXY": "http://proxy:1"}) is None


@pytest.mark.parametrize(
    ("credentials", "decoded"), [("me:s%40cret", b"me:s@cret"), ("me", b"me:"), ("", None), (":pw", b":pw")]
)
def test_user_and_password_of_the_proxy_are_sent_as_basic(credentials: str, decoded: bytes | None) -> None:
    at = f"{credentials}@" if credentials else ""
    proxy = choose_proxy(TARGET, {"HTTPS_PROXY": f"http://{at}proxy:1"})
    assert proxy is not None
    expected = "Basic " + base64.b64encode(decoded).decode() if decoded is not None else ""
    assert proxy.authorization == expected


@pytest.mark.parametrize("value", ["socks5://proxy:1080", "http://me:secret@proxy:port", "http://", "http://[::1"])
def test_variable_without_the_url_of_a_proxy_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(CertificateError) as caught:
        choose_proxy(TARGET, {"HTTPS_PROXY": value})
    assert str(caught.value) == "HTTPS_PROXY: not the URL of an HTTP proxy; use http://[USER:PASSWORD@]HOST:PORT"
