import pytest

from edge.errors import ConfigError
from edge.net.address import TcpAddress, UnixAddress
from edge.options import Kind
from edge.options_sites import (
    UpstreamAddress,
    parse_upstream,
    redirect_status,
    redirect_target,
    request_path,
    route_path,
    upstreams,
)


def refusal(kind: Kind, value: object) -> str:
    with pytest.raises(ConfigError) as caught:
        kind.parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8000", UpstreamAddress("http", TcpAddress("127.0.0.1", 8000))),
        ("http://node:3000", UpstreamAddress("http", TcpAddress("node", 3000))),
        ("https://[::1]:8443", UpstreamAddress("https", TcpAddress("::1", 8443))),
        ("unix:/run/gunicorn.sock", UpstreamAddress("http", UnixAddress("/run/gunicorn.sock"))),
    ],
)
def test_upstream_is_spelled_as_it_is_read(text: str, address: UpstreamAddress) -> None:
    assert parse_upstream(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://web", TcpAddress("web", 80)),
        ("https://web/", TcpAddress("web", 443)),
        ("https://[::1]", TcpAddress("::1", 443)),
    ],
)
def test_port_of_an_upstream_is_that_of_its_scheme(text: str, address: TcpAddress) -> None:
    assert parse_upstream(text).address == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://web:21", "unknown scheme 'ftp'; use http://HOST:PORT, https://HOST:PORT or unix:PATH"),
        ("web:8000", "no scheme; use http://HOST:PORT, https://HOST:PORT or unix:PATH"),
        ("http://web/api", "more than a server; use http://HOST:PORT, https://HOST:PORT or unix:PATH, and strip to"),
        ("http://web?x", "more than a server"),
        ("http://me@web", "a user in it"),
        ("http://:80", "no server to connect to"),
        ("http://web:0", "no server to connect to"),
        ("http://", "no server to connect to"),
    ],
)
def test_what_is_no_upstream_is_refused(text: str, reason: str) -> None:
    assert refusal(upstreams(), text).startswith(f"{text!r}: {reason}")


def test_several_upstreams_are_a_list_without_doubles() -> None:
    assert upstreams().parse(["http://a:1", "http://b:1"]) == (
        parse_upstream("http://a:1"),
        parse_upstream("http://b:1"),
    )
    assert upstreams().parse("unix:/a") == (parse_upstream("unix:/a"),)
    assert refusal(upstreams(), ["http://a", "http://a:80"]) == "'http://a:80': given twice; leave out one"
    assert refusal(upstreams(), []) == "[]: empty; use http://HOST:PORT, https://HOST:PORT or unix:PATH"
    assert refusal(upstreams(), [80]) == "80: not text; use a string"


@pytest.mark.parametrize(("text", "path"), [("/", "/"), ("/api", "/api"), ("/api/", "/api"), ("/a/b.c", "/a/b.c")])
def test_path_of_a_route_has_no_slash_at_its_end(text: str, path: str) -> None:
    assert route_path().parse(text) == path


@pytest.mark.parametrize("text", ["", "api", "/a b", "/a//b", "/a?b", "/a#b", "/%61", "/a\\b", "/\u00e4", "//"])
def test_path_that_cannot_be_compared_is_refused(text: str) -> None:
    assert refusal(route_path(), text).startswith(f"{text!r}: not a path to compare with; use one such as '/api'")


@pytest.mark.parametrize("text", ["/a/../b", "/.", "/a/.."])
def test_path_with_dot_segments_is_refused(text: str) -> None:
    assert refusal(route_path(), text) == f"{text!r}: '.' and '..' never reach a route; use the path without them"


@pytest.mark.parametrize("text", ["https://shop.example/x?y=1", "http://[::1]:80/", "/", "/new"])
def test_redirect_leads_to_a_url_or_a_path(text: str) -> None:
    assert redirect_target().parse(text) == text


@pytest.mark.parametrize("text", ["//evil.example", "/\\evil.example", "shop.example", "ftp://a", "https:///x", "/a b"])
def test_redirect_to_anything_else_is_refused(text: str) -> None:
    assert refusal(redirect_target(), text).startswith(f"{text!r}: neither an http(s) URL nor a path")


def test_redirect_has_a_status_with_a_location() -> None:
    assert redirect_status().parse(301) == 301
    for value in (300, 304, True, "301", 301.0):
        assert refusal(redirect_status(), value) == f"{value!r}: not a redirect; use 301, 302, 303, 307 or 308"


def test_health_is_asked_with_a_path_as_it_stands() -> None:
    assert request_path().parse("/health/?deep=1") == "/health/?deep=1"
    assert refusal(request_path(), "health").startswith("'health': not a path of visible ASCII")
    assert refusal(request_path(), "/a#b").startswith("'/a#b': not a path of visible ASCII")
