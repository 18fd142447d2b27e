"""One validator for both versions: what HTTP/1.1 refuses, HTTP/2 refuses alike, and both hand on the same lines.

A worker cannot tell the versions apart, so a request that is good in one and refused in the other would be a way round
a check (downgrade smuggling: H2.CL, H2.TE, injected lines).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.events import ProtocolError, RequestHead
from edge.http.field import Field
from edge.http.head import HeadLimits, HeadParser
from edge.http.head2 import build_head

LIMITS = HeadLimits(max_request_line=8192, max_header_size=32 * 1024, max_headers=100)
Verdict = tuple[int, bytes, bytes, bytes, list[bytes], int, bool, bool]
Fields = list[tuple[bytes, bytes]]


def verdict(head: RequestHead) -> Verdict:
    """Return what a worker and the dispatcher see of a request."""
    lines = sorted(head.lines)
    return 200, head.method, head.target, head.host, lines, head.length, head.expect, head.trailers


def refused(error: ProtocolError) -> Verdict:
    """Return the verdict of a refusal."""
    return error.status, b"", b"", b"", [], 0, False, False


def by_http1(method: bytes, target: bytes, host: bytes | None, fields: Fields) -> Verdict:
    """Send it through HTTP/1.1's parser."""
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    if host is not None:
        lines.append(b"Host: " + host)
    lines += [b"%b: %b" % field for field in fields]
    try:
        return verdict(HeadParser(LIMITS).parse(b"\r\n".join([*lines, b"", b""]), 1))
    except ProtocolError as error:
        return refused(error)


def by_http2(method: bytes, target: bytes, host: bytes | None, fields: Fields, *, as_host: bool = False) -> Verdict:
    """Send it through HTTP/2's."""
    head = [(b":method", method), (b":scheme", b"https"), (b":path", target)]
    if host is not None:
        head.append((b"host" if as_host else b":authority", host))
    ended = not any(name == b"content-length" and value.strip(b"0") for name, value in fields)
    try:
        found = [Field(*field) for field in (*head, *fields)]
        return verdict(build_head(1, found, ended=ended, max_target=LIMITS.max_request_line))
    except ProtocolError as error:
        return refused(error)


METHODS = [
    *(b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY", b"PROPFIND", b"CONNECT", b"TRACE"),
    *(b"BREW", b"get", b"G@T", b"GET\t", b"DESCRIBE", b"X" * 100),
]
TARGETS = [
    *(b"/", b"/cart?a=b", b"/%2e%2e/", b"/a//b", b"//evil.example/", b"/a;b", b"*", b"/*", b"/\xc3\xa4", b"/a#b"),
    *(b"/a\\b", b"admin", b"?a", b"#", b"ftp://shop.example/", b"/a\tb", b"/a\x7f", b'/"', b"/<>", b"/" + b"x" * 8000),
]
HOSTS = [
    *(b"shop.example", b"SHOP.example", b"shop.example:443", b"[::1]", b"[::1]:8443", b"127.0.0.1", None, b""),
    *(b"shop.example:", b"shop.example:99999", b"me@shop.example", b"shop example", b"shop.example/", b"[::1", b"[x]"),
    *(b"a,b", b"x" * 253, b"x" * 300, b"\xc3\xa4.example", b"shop.example#", b"%41.example", b"%zz"),
]
FIELDS = [
    *((b"accept", b"*/*"), (b"a", b""), (b"a", b"b\tc"), (b"a", b"\xc3\xa4"), (b"x_y", b"1"), (b"x.y", b"1")),
    *((b"a", b"b\0c"), (b"a", b"b\x01c"), (b"a", b"b\x7fc"), (b"a b", b"c"), (b"a\x00", b"c"), (b"", b"c")),
    *((b"a(b", b"c"), (b"\xc3\xa4", b"c"), (b"a\tb", b"c"), (b"a", b"b\rc"), (b"a", b"b\nc"), (b"a\nb", b"c")),
    *((b"content-length", b"5"), (b"content-length", b"0"), (b"content-length", b"+5"), (b"content-length", b"5,5")),
    *((b"content-length", b"-1"), (b"content-length", b"0x5"), (b"content-length", b""), (b"content-length", b"5 5")),
    *((b"content-length", b"9" * 19), (b"content-length", b"9" * 20), (b"content-length", b"\xb2")),
    *((b"expect", b"100-continue"), (b"expect", b"tea"), (b"te", b"trailers"), (b"trailer", b"a")),
    *((b"x-forwarded-for", b"192.0.2.1"), (b"cookie", b"a=1; b=2"), (b"proxy-authorization", b"x")),
    *((b"host", b"shop.example"), (b"http2-settings", b"x"), (b"x" * 300, b"y" * 3000)),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [b"/", b"*"])
def test_methods(method: bytes, target: bytes) -> None:
    assert by_http2(method, target, b"a", []) == by_http1(method, target, b"a", [])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target)[:30])
def test_targets(target: bytes) -> None:
    assert by_http2(b"GET", target, b"a", []) == by_http1(b"GET", target, b"a", [])


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host)[:30])
def test_hosts(host: bytes | None) -> None:
    expected = by_http1(b"GET", b"/", host, [])
    assert by_http2(b"GET", b"/", host, []) == expected
    assert by_http2(b"GET", b"/", host, [], as_host=True) == expected


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: repr(field)[:40])
def test_fields(field: tuple[bytes, bytes]) -> None:
    host = None if field[0] == b"host" else b"shop.example"
    assert by_http2(b"POST", b"/", host, [field]) == by_http1(b"POST", b"/", host, [field])


# Crumbs of a cookie are joined in HTTP/2 only (RFC 9113 section 8.2.3).
@pytest.mark.parametrize("first", [field for field in FIELDS if field[0] != b"cookie"], ids=lambda f: repr(f)[:40])
def test_fields_twice(first: tuple[bytes, bytes]) -> None:
    fields = [first, first]
    assert by_http2(b"POST", b"/", b"shop.example", fields) == by_http1(b"POST", b"/", b"shop.example", fields)


@given(
    st.sampled_from(METHODS),
    st.sampled_from(TARGETS),
    st.sampled_from(HOSTS),
    st.lists(st.sampled_from([field for field in FIELDS if field[0] not in (b"cookie", b"host")]), max_size=5),
)
def test_any_of_them_together(method: bytes, target: bytes, host: bytes | None, fields: Fields) -> None:
    """Which of several faults is named is open; whether there is one is not."""
    one, two = by_http1(method, target, host, fields), by_http2(method, target, host, fields)
    assert (one[0] == 200) == (two[0] == 200)
    if one[0] == 200:
        assert one == two


# What HTTP/1.1 has a meaning for, and HTTP/2 none: refused, or it would come out on a worker's side.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"transfer-encoding", b"chunked"),
        (b"Transfer-Encoding", b"chunked"),
        (b"transfer-encoding ", b"chunked"),
        (b"connection", b"close"),
        (b"connection", b"x-forwarded-for"),
        (b"keep-alive", b"5"),
        (b"proxy-connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"te", b"chunked"),
        (b"te", b"trailers, chunked"),
        (b"foo\r\ntransfer-encoding", b"chunked"),
        (b"foo: bar\r\ntransfer-encoding", b"chunked"),
        (b"foo", b"bar\r\ntransfer-encoding: chunked"),
        (b"foo", b"bar\r\n\r\nGET /admin HTTP/1.1\r\nhost: a"),
        (b"foo", b"bar\n\nGET /admin"),
        (b"foo", b"\0"),
        (b"foo", b" leading"),
        (b"foo", b"trailing\t"),
        (b":path", b"/admin"),
        (b":method", b"POST"),
        (b":authority", b"evil.example"),
        (b":scheme", b"http"),
        (b":status", b"200"),
        (b":foo", b"bar"),
        (b":", b"bar"),
        (b":method GET /admin", b"x"),
        (b"host", b"evil.example"),
        (b"Host", b"shop.example"),
        (b"content-length", b"5"),
    ],
)
def test_downgrade_smuggling_in_fields(name: bytes, value: bytes) -> None:
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"shop.example")]
    fields = [Field(*field) for field in (*head, (name, value))]
    with pytest.raises(ProtocolError) as error:
        build_head(1, fields, ended=True, max_target=8192)
    assert error.value.status == 400
    assert "\n" not in error.value.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":method", b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n"),
        (b":method", b"GET /admin"),
        (b":method", b""),
        (b":path", b"/ HTTP/1.1\r\nfoo: bar"),
        (b":path", b"/ HTTP/1.1"),
        (b":path", b"https://shop.example/"),
        (b":path", b"http://evil.example/"),
        (b":path", b"shop.example/"),
        (b":path", b"/a\nb"),
        (b":path", b"/\0"),
        (b":path", b""),
        (b":authority", b"shop.example\r\nfoo: bar"),
        (b":authority", b"shop.example foo"),
        (b":authority", b"shop.example/path"),
        (b":authority", b"me:pw@shop.example"),
        (b":authority", b""),
        (b":scheme", b"https\r\n"),
        (b":scheme", b"https://evil.example/?"),
        (b":scheme", b""),
    ],
)
def test_downgrade_smuggling_in_pseudo_fields(name: bytes, value: bytes) -> None:
    head = {b":method": b"GET", b":scheme": b"https", b":path": b"/", b":authority": b"shop.example", name: value}
    with pytest.raises(ProtocolError) as error:
        build_head(1, [Field(*field) for field in head.items()], ended=True, max_target=8192)
    assert error.value.status == 400
    assert "\n" not in error.value.reason
