"""The redirect to HTTPS goes to our own names only, whatever the host and the target try."""

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.policy.hosts import parse_host_name, redirect_target

SITES = frozenset({"shop.example", "www.shop.example", "127.0.0.1", "::1", "2001:db8::a", "foo_bar.example"})


def known(host: str) -> bool:
    return host in SITES


def everything(host: str) -> bool:
    return True


def redirect(host: bytes, target: bytes, https_port: int = 443) -> bytes | None:
    return redirect_target(host, target, https_port=https_port, known=known)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"shop.example", "shop.example"),
        (b"Shop.EXAMPLE.", "shop.example"),
        (b"shop.example:8080", "shop.example"),
        (b"shop.example.:80", "shop.example"),
        (b"127.0.0.1:80", "127.0.0.1"),
        (b"[::1]", "::1"),
        (b"[2001:DB8::A]:8443", "2001:db8::a"),
        (b"foo_bar.example", "foo_bar.example"),
    ],
)
def test_host_name_is_lower_case_without_port_brackets_and_dot(host: bytes, name: str) -> None:
    assert parse_host_name(host) == name


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b".",
        b":80",
        b"shop.example:",
        b"shop.example:99999",
        b"a@shop.example",
        b"shop.example,evil.example",
        b"evil.example%2f.shop.example",
        b"a!b",
        b"a;b=c",
        b"b\xc3\xbccher.example",
        b"[::1",
        b"::1",
        b"a" * 254,
    ],
)
def test_host_that_no_site_can_have_has_no_name(host: bytes) -> None:
    assert parse_host_name(host) is None


@pytest.mark.parametrize(
    ("host", "target", "https_port", "location"),
    [
        (b"shop.example", b"/", 443, b"https://shop.example/"),
        (b"shop.example:80", b"/a?b=c&d", 443, b"https://shop.example/a?b=c&d"),
        (b"shop.example:8080", b"/", 8443, b"https://shop.example:8443/"),
        (b"SHOP.example.", b"/", 443, b"https://shop.example/"),
        (b"127.0.0.1", b"/x", 8443, b"https://127.0.0.1:8443/x"),
        (b"[::1]:80", b"/x", 443, b"https://[::1]/x"),
        (b"[2001:DB8::A]", b"/x", 8443, b"https://[2001:db8::a]:8443/x"),
        # Absolute-form: the authority of the target counts, and Host must say the same.
        (b"shop.example", b"http://shop.example/a?b", 443, b"https://shop.example/a?b"),
        (b"shop.example:8080", b"HTTP://Shop.Example:80/a", 443, b"https://shop.example/a"),
        (b"", b"http://shop.example/a", 443, b"https://shop.example/a"),
        (b"shop.example", b"http://shop.example", 443, b"https://shop.example/"),
        (b"shop.example", b"http://shop.example?a", 443, b"https://shop.example/?a"),
        (b"shop.example", b"http://shop.example//evil.example", 443, b"https://shop.example//evil.example"),
        # Asterisk-form is the URI without a path.
        (b"shop.example", b"*", 443, b"https://shop.example"),
        # Path tricks stay on our host: the authority has ended before them.
        (b"shop.example", b"//evil.example/x", 443, b"https://shop.example//evil.example/x"),
        (b"shop.example", b"/\\evil.example", 443, b"https://shop.example/\\evil.example"),
        (b"shop.example", b"/@evil.example", 443, b"https://shop.example/@evil.example"),
        (b"shop.example", b"/http://evil.example", 443, b"https://shop.example/http://evil.example"),
        (b"shop.example", b"/.evil.example", 443, b"https://shop.example/.evil.example"),
    ],
)
def test_known_host_is_sent_to_https(host: bytes, target: bytes, https_port: int, location: bytes) -> None:
    assert redirect(host, target, https_port) == location


def test_target_is_kept_byte_for_byte() -> None:
    target = b"/%2e%2e/./../%00;a//b\\c|\"<>`{}^'@:?/?%zz"
    assert redirect(b"shop.example", target) == b"https://shop.example" + target


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"shop.example.evil.example",
        b"evil.example:80",
        b"shop.example@evil.example",
        b"evil.example#shop.example",
        b"evil.example/shop.example",
        b"evil.example\\shop.example",
        b"shop.example evil.example",
        b"shop.example:80@evil.example",
        b"shop.example:443:evil",
        b"shop.example,evil.example",
        b"shop.example\r\nLocation: http://evil.example",
        b"\tshop.example",
        b"127.0.0.2",
        b"[::2]",
        b"[::1]evil.example",
        b"//shop.example",
    ],
)
@pytest.mark.parametrize("target", [b"/", b"*", b"http://evil.example/", b"http://shop.example@evil.example/"])
def test_unknown_host_is_sent_nowhere(host: bytes, target: bytes) -> None:
    assert redirect(host, target) is None


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"evil.example",
        b"evil.example:443",
        b"shop.example:443",
        b"@evil.example/",
        b".evil.example/",
        b":80@evil.example/",
        b"\\\\evil.example",
        b"**",
        b"*/",
        b"?x",
        b"https://shop.example/",
        b"https://evil.example/",
        b"ftp://shop.example/",
        b"javascript:alert(1)",
        b"http://evil.example/",
        b"http://shop.example@evil.example/",
        b"http://shop.example:80@evil.example/",
        b"http://evil.example\\@shop.example/",
        b"http://shop.example\\@evil.example/",
        b"http://www.shop.example/",
        b"http:///evil.example",
        b"http://",
        b"http:/\\evil.example",
        b"/#",
        b"/#@evil.example",
        b"/a b",
        b"/\r\nSet-Cookie: a=b",
        b"/\n",
        b"/\r",
        b"/\x00",
        b"/\t",
        b"/\x7f",
        b"/\xe2\x80\xa8",
    ],
)
def test_target_that_could_leave_our_host_or_the_line_is_refused(target: bytes) -> None:
    assert redirect(b"shop.example", target) is None


def test_even_if_every_host_is_known_a_host_with_separators_is_refused() -> None:
    for host in (b"evil.example,shop.example", b"a%2fb", b"a@b", b"a\\b", b"a;b"):
        assert redirect_target(host, b"/", https_port=443, known=everything) is None


HOSTS = st.one_of(
    st.sampled_from(sorted(SITES)).map(str.encode),
    st.text("shop.exampl:80@/\\#?%[]1,\r\n ", max_size=30).map(str.encode),
    st.binary(max_size=30),
)
TARGETS = st.one_of(
    st.text("/\\@:.?#*evil%2f\r\n ", max_size=30).map(str.encode),
    st.text("/\\@:.?evil%2f", max_size=30).map(lambda text: b"/" + text.encode()),
    st.text("/\\@:.?shopexaml", max_size=30).map(lambda text: b"http://shop.example" + text.encode()),
    st.binary(max_size=30),
)


@given(HOSTS, TARGETS, st.sampled_from([443, 8443]))
@example(b"shop.example", b"//evil.example", 443)
@example(b"[::1]", b"/\\evil.example", 8443)
def test_redirect_never_leaves_our_names_and_keeps_the_target(host: bytes, target: bytes, https_port: int) -> None:
    location = redirect(host, target, https_port)
    if location is None:
        return
    assert all(0x21 <= byte <= 0x7E for byte in location)
    # Browsers end the authority at a backslash too.
    url = urlsplit(location.decode("ascii").replace("\\", "/"))
    assert url.scheme == "https"
    assert url.hostname in SITES
    assert url.username is None
    assert url.fragment == ""
    assert (url.port or 443) == https_port
    if target.startswith(b"/"):
        assert location == b"https://" + url.netloc.encode() + target
