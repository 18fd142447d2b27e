"""What counts of a trusted proxy's word where other fields than usual were asked for: Forwarded, X-Forwarded-Prefix."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.policy.forwarded import (
    MAX_CHAIN_SIZE,
    MAX_HOPS,
    MAX_PREFIX_SIZE,
    FieldLines,
    Forwarded,
    TrustedProxies,
    describe_peer,
    forward,
    parse_prefix,
)

TEN = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
PROXY = ("10.0.0.1", 40000)
STRANGER = ("203.0.113.9", 40000)
BY_ELEMENT = TrustedProxies(TEN, rfc7239=True)
WITH_HOST = TrustedProxies(TEN, rfc7239=True, trust_host=True)
WITH_PREFIX = TrustedProxies(TEN, trust_prefix=True)


def seen(fields: FieldLines, trusted: TrustedProxies, peer: tuple[str, int] | None = PROXY) -> Forwarded:
    return forward(describe_peer(peer, trusted, scheme=b"http", port=8080), b"shop.example", fields)


def elements(*lines: bytes) -> FieldLines:
    return [(b"forwarded", line) for line in lines]


X_FIELDS: FieldLines = [
    (b"x-forwarded-for", b"198.51.100.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-port", b"1"),
    (b"x-forwarded-host", b"x.example"),
    (b"x-forwarded-prefix", b"/x"),
]
ELEMENT = elements(b"for=203.0.113.7;proto=https;host=f.example")


# Forwarded.


@pytest.mark.parametrize(
    ("lines", "client", "sent"),
    [
        ([b"for=203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b'for="203.0.113.7:4711"'], ("203.0.113.7", 4711), b"203.0.113.7, 10.0.0.1"),
        ([b'for="[2001:DB8:0::1]:99"'], ("2001:db8::1", 99), b"2001:db8::1, 10.0.0.1"),
        ([b'for="[::ffff:203.0.113.7]"'], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b'for="203.0.113.7:_hidden"'], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b"for=1.1.1.1, for=203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b"for=1.1.1.1", b"for=203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        (
            [b'for=203.0.113.7, for="10.0.0.3:80"', b'FOR="[fd00::2]"'],
            ("203.0.113.7", 0),
            b"203.0.113.7, 10.0.0.3, fd00::2, 10.0.0.1",
        ),
        # What has no address ends the walk; the last good one, nearer to us, is the client.
        ([b"for=203.0.113.7, for=unknown"], PROXY, b"10.0.0.1"),
        ([b"for=203.0.113.7, for=_secret, for=10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        ([b"for=203.0.113.7, proto=https, for=10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        ([b"for=203.0.113.7, for=999.1.1.1, for=10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        ([b'for=203.0.113.7, for="10.0.0.3:65536", for=10.0.0.2'], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        # What is malformed, too.
        ([b"for=203.0.113.7, for, for=10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        ([b'for=203.0.113.7, for="', b"for=10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        ([b"203.0.113.7"], PROXY, b"10.0.0.1"),
        ([b""], PROXY, b"10.0.0.1"),
        ([], PROXY, b"10.0.0.1"),
    ],
)
def test_client_is_the_nearest_node_that_is_no_trusted_proxy(
    lines: list[bytes], client: tuple[str, int], sent: bytes
) -> None:
    result = seen(elements(*lines), BY_ELEMENT)
    assert result.client == client
    assert result.edge_fields[0] == (b"x-forwarded-for", sent)


NODES = st.sampled_from(
    ["10.0.0.2", "10.0.0.3:99", "[fd00::2]:80", "203.0.113.7", "[2001:db8::1]", "[::ffff:192.0.2.1]:7", "_x", "unknown"]
)


@given(st.lists(NODES, max_size=40), st.integers(0, 40), st.integers(0, 3))
def test_walk_is_that_of_the_other_set(nodes: list[str], cut: int, hops: int) -> None:
    parts = [part for part in (nodes[:cut], nodes[cut:]) if part]
    by_element = elements(*(", ".join(f'for="{node}";by=10.0.0.9' for node in part).encode() for part in parts))
    by_entry = [(b"x-forwarded-for", ", ".join(part).encode()) for part in parts]
    one = seen(by_element, TrustedProxies(TEN, rfc7239=True, hops=hops))
    other = seen(by_entry, TrustedProxies(TEN, hops=hops))
    assert (one.client, one.edge_fields) == (other.client, other.edge_fields)


@pytest.mark.parametrize(("hops", "client"), [(0, "1.1.1.1"), (1, "3.3.3.3"), (2, "2.2.2.2"), (3, "1.1.1.1")])
def test_with_everyone_trusted_hops_say_who_the_client_is(hops: int, client: str) -> None:
    everyone = TrustedProxies([ipaddress.ip_network("0.0.0.0/0")], rfc7239=True, hops=hops)
    assert seen(elements(b"for=1.1.1.1, for=2.2.2.2", b"for=3.3.3.3"), everyone).client == (client, 0)


def test_walk_ends_after_the_greatest_number_of_hops_and_where_the_chain_is_too_long() -> None:
    hops = b", ".join([b"for=10.0.1.%d" % number for number in range(MAX_HOPS)])
    assert seen(elements(b"for=203.0.113.7, " + hops), BY_ELEMENT).client == ("10.0.1.0", 0)
    assert seen(elements(b"for=203.0.113.7", hops.partition(b", ")[2]), BY_ELEMENT).client == ("203.0.113.7", 0)
    long = b';ext="' + b"a" * MAX_CHAIN_SIZE + b'"'
    assert seen(elements(b"for=203.0.113.7", b"for=10.0.0.3" + long, b"for=10.0.0.2"), BY_ELEMENT).client == (
        "10.0.0.2",
        0,
    )


@pytest.mark.parametrize(
    ("line", "scheme", "port"),
    [
        (b"for=203.0.113.7;proto=https", b"https", 443),
        (b"proto=HTTPS", b"https", 443),
        (b'proto="http";for=_x', b"http", 80),
        (b"proto=http;for=10.0.0.2, proto=https;for=203.0.113.7", b"https", 443),
        (b"proto=https;for=10.0.0.2, for=203.0.113.7", b"http", 8080),
        (b"proto=wss", b"https", 443),
        (b"proto=ftp", b"http", 8080),
        (b'proto="https, http"', b"http", 8080),
        (b"proto=https;for=1;for=2", b"http", 8080),
        (b"proto=https, for", b"http", 8080),
    ],
)
def test_scheme_is_that_of_the_neighbours_element(line: bytes, scheme: bytes, port: int) -> None:
    result = seen(elements(line), BY_ELEMENT)
    assert (result.scheme, result.port) == (scheme, port)
    assert (b"x-forwarded-proto", scheme) in result.edge_fields
    assert (b"x-forwarded-port", b"%d" % port) in result.edge_fields


@pytest.mark.parametrize(
    ("line", "host", "port"),
    [
        (b"host=public.example", b"public.example", 8080),
        (b'host="public.example:8443";proto=https', b"public.example:8443", 8443),
        (b"host=a.example, host=b.example", b"b.example", 8080),
        (b"host=a.example, for=203.0.113.7", b"shop.example", 8080),
        (b'host="a b"', b"shop.example", 8080),
        (b'host=""', b"shop.example", 8080),
        (b'host="user@public.example"', b"shop.example", 8080),
        (b"host=public.example:8443", b"shop.example", 8080),  # a colon has to be quoted
    ],
)
def test_host_of_the_element_is_taken_when_asked_for_and_only_if_it_is_one(line: bytes, host: bytes, port: int) -> None:
    result = seen(elements(line), WITH_HOST)
    assert (result.host, result.port) == (host, port)
    assert (b"x-forwarded-host", host) in result.edge_fields
    assert seen(elements(line), BY_ELEMENT).host == b"shop.example"


@pytest.mark.parametrize("trust_host", [False, True])
def test_only_one_of_the_two_sets_counts(trust_host: bool) -> None:
    by_entry = TrustedProxies(TEN, trust_host=trust_host)
    by_element = TrustedProxies(TEN, rfc7239=True, trust_host=trust_host, trust_prefix=True)
    for trusted, own, other in ((by_entry, X_FIELDS, ELEMENT), (by_element, ELEMENT, X_FIELDS)):
        alone = seen(own, trusted)
        for both in ([*own, *other], [*other, *own]):
            result = seen(both, trusted)
            assert result.edge_fields == alone.edge_fields
            assert (result.client, result.scheme, result.host, result.port) == (
                alone.client,
                alone.scheme,
                alone.host,
                alone.port,
            )
        assert seen(other, trusted).edge_fields == seen([], trusted).edge_fields
        assert alone.client != seen(other, trusted).client
        assert alone.fields == []


@pytest.mark.parametrize("trusted", [BY_ELEMENT, WITH_HOST, WITH_PREFIX])
def test_word_of_a_stranger_never_counts(trusted: TrustedProxies) -> None:
    result = seen([*X_FIELDS, *ELEMENT, (b"x-request-id", b"a")], trusted, STRANGER)
    assert (result.client, result.scheme, result.prefix, result.request_id) == (STRANGER, b"http", b"", None)
    assert result.edge_fields == seen([], trusted, STRANGER).edge_fields
    assert result.fields == []


@pytest.mark.parametrize(("values", "kept"), [([b"a-1"], b"a-1"), ([b"a", b"b"], None), ([b"a b"], None), ([], None)])
def test_request_id_belongs_to_neither_set(values: list[bytes], kept: bytes | None) -> None:
    assert seen([*ELEMENT, *((b"x-request-id", value) for value in values)], BY_ELEMENT).request_id == kept


# X-Forwarded-Prefix.


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        (b"/api", b"/api"),
        (b"/api/", b"/api"),
        (b"/a/b-c_d.e~f", b"/a/b-c_d.e~f"),
        (b"/a!$&'()*+;=:@", b"/a!$&'()*+;=:@"),
        (b"/...", b"/..."),
        (b"/.well-known/..x", b"/.well-known/..x"),
        (b"/%C3%A4", b"/%C3%A4"),
        (b"/a%20b", b"/a%20b"),
        (b"/" + b"a" * (MAX_PREFIX_SIZE - 1), b"/" + b"a" * (MAX_PREFIX_SIZE - 1)),
        (b"", b""),
        (b"/", b""),
        (b"//", b""),
        (b"api", b""),
        (b"//evil.example", b""),
        (b"/a//b", b""),
        (b"/a//", b""),
        (b"/.", b""),
        (b"/..", b""),
        (b"/../x", b""),
        (b"/a/./b", b""),
        (b"/a/../b", b""),
        (b"/a/..", b""),
        (b"/a/../", b""),
        (b"/a?b", b""),
        (b"/a#b", b""),
        (b"/a b", b""),
        (b"/a,b", b""),
        (b"/a\\b", b""),
        (b"/<a>", b""),
        (b'/"a"', b""),
        (b"/a\x00", b""),
        (b"/\xc3\xa4", b""),
        (b"/a\n", b""),
        (b"/%", b""),
        (b"/%4", b""),
        (b"/%4g", b""),
        (b"/%2e%2E/x", b""),
        (b"/a%2Fb", b""),
        (b"/a%2fb", b""),
        (b"/a%5cb", b""),
        (b"/a%5Cb", b""),
        (b"/a%00", b""),
        (b"/a%0d%0a", b""),
        (b"/a%1F", b""),
        (b"/a%7f", b""),
        (b"/a%7F", b""),
        (b"/%ff", b""),
        (b"/%C3", b""),
        (b"http://shop.example/a", b""),
        (b"/" + b"a" * MAX_PREFIX_SIZE, b""),
        (b"/" + b"a" * (MAX_PREFIX_SIZE - 1) + b"/", b""),
    ],
)
def test_prefix_is_a_plain_path_or_does_not_count(value: bytes, prefix: bytes) -> None:
    assert parse_prefix(value) == prefix


@given(st.text("/.%2eEfFa~\\,", max_size=12).map(str.encode))
def test_prefix_that_counts_reads_as_it_stands(value: bytes) -> None:
    prefix = parse_prefix(value)
    if prefix:
        assert value.removesuffix(b"/") == prefix
        segments = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes((int(found[1], 16),)), prefix).split(b"/")
        assert len(segments) == prefix.count(b"/") + 1
        assert segments[0] == b""
        assert not {b"", b".", b".."} & set(segments[1:])


@pytest.mark.parametrize(
    ("values", "prefix"),
    [
        ([b"/api"], b"/api"),
        ([b"/evil, /api/"], b"/api"),
        ([b"/evil", b"/api"], b"/api"),
        # What the neighbour wrote does not count, and what others wrote does not take its place.
        ([b"/evil, /.."], b""),
        ([b"/evil", b"//"], b""),
        ([], b""),
    ],
)
def test_last_prefix_of_a_trusted_peer_counts_when_asked_for(values: list[bytes], prefix: bytes) -> None:
    fields = [(b"x-forwarded-prefix", value) for value in values]
    result = seen(fields, WITH_PREFIX)
    assert result.prefix == prefix
    assert result.edge_fields[4:] == ([(b"x-forwarded-prefix", prefix)] if prefix else [])
    assert seen(fields, TrustedProxies(TEN)).prefix == b""
    assert result.edge_fields[:4] == seen(fields, TrustedProxies(TEN)).edge_fields
