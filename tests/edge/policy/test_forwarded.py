"""Who the client is, by the word of trusted proxies only, and what the application gets to read."""

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.policy.forwarded import (
    MAX_CACHED_NODES,
    MAX_CHAIN_SIZE,
    MAX_HOPS,
    FieldLines,
    Forwarded,
    Network,
    TrustedProxies,
    announcers,
    describe_peer,
    forward,
    without_trust_fields,
)

PROXY = ("10.0.0.1", 40000)
CLIENT = ("203.0.113.7", 50000)


def trust(*networks: str, unix: bool = False, trust_host: bool = False) -> TrustedProxies:
    return TrustedProxies(map(ipaddress.ip_network, networks), unix=unix, trust_host=trust_host)


TEN = trust("10.0.0.0/8", "fd00::/8")
TEN_WITH_HOST = trust("10.0.0.0/8", trust_host=True)


def seen(
    fields: FieldLines,
    peer: tuple[str, int] | None = PROXY,
    trusted: TrustedProxies = TEN,
    host: bytes = b"shop.example",
) -> Forwarded:
    return forward(describe_peer(peer, trusted, scheme=b"http", port=8080), host, fields)


def chain(*lines: bytes) -> FieldLines:
    return [(b"x-forwarded-for", line) for line in lines]


@pytest.mark.parametrize(("hops", "client"), [(0, "1.1.1.1"), (1, "3.3.3.3"), (2, "2.2.2.2"), (3, "1.1.1.1")])
def test_with_everyone_trusted_hops_say_who_the_client_is(hops: int, client: str) -> None:
    everyone = TrustedProxies([ipaddress.ip_network("0.0.0.0/0")], hops=hops)
    assert seen(chain(b"1.1.1.1, 2.2.2.2, 3.3.3.3"), trusted=everyone).client == (client, 0)


# --- trusted proxies


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3", "::FFFF:0A01:0203", "fd00::1", "fdff::1%eth0"]
)
def test_address_in_a_network_is_trusted_in_every_spelling(address: str) -> None:
    assert TEN.trusts(address)


@pytest.mark.parametrize(
    "address", ["11.0.0.1", "9.255.255.255", "::ffff:11.0.0.1", "::10.0.0.1", "fe00::1", "", "localhost", "10.0.0", "ä"]
)
def test_other_addresses_are_not_trusted(address: str) -> None:
    assert not TEN.trusts(address)


def test_nobody_is_trusted_by_default() -> None:
    nobody = TrustedProxies()
    assert not nobody.trusts("127.0.0.1")
    assert not nobody.trusts("::1")
    assert not nobody.unix
    assert not nobody.trust_host


@given(st.lists(st.ip_addresses(v=4), max_size=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_trust_agrees_with_a_search_through_the_networks(
    starts: list[ipaddress.IPv4Address], length: int, address: ipaddress.IPv4Address
) -> None:
    networks = [ipaddress.ip_network((start, length), strict=False) for start in starts]
    assert TrustedProxies(networks).trusts(str(address)) is any(address in network for network in networks)


def test_verdicts_survive_more_addresses_than_are_remembered() -> None:
    trusted = trust("10.0.0.0/8")
    for number in range(MAX_CACHED_NODES + 2):
        assert trusted.trusts(str(ipaddress.IPv4Address(number))) is False
    assert trusted.trusts("10.0.0.1")
    assert trusted.trusts("10.0.0.1")


# --- an untrusted peer


FORGED: FieldLines = [
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-port", b"1"),
    (b"x-forwarded-prefix", b"/evil"),
    (b"forwarded", b"for=127.0.0.1"),
    (b"x-real-ip", b"127.0.0.1"),
    (b"x-request-id", b"evil"),
    (b"client-cert", b":AAAA:"),
    (b"x-ssl-client-verify", b"SUCCESS"),
    (b"x-accel-redirect", b"/etc/passwd"),
]
HARMLESS: FieldLines = [(b"host", b"shop.example"), (b"accept", b"*/*"), (b"x-custom", b"1"), (b"accept", b"a/b")]


@pytest.mark.parametrize("peer", [CLIENT, None])
def test_untrusted_peer_is_the_client_whatever_it_says(peer: tuple[str, int] | None) -> None:
    result = seen([*FORGED[:5], *HARMLESS, *FORGED[5:]], peer)
    assert result.client == peer
    assert (result.scheme, result.host, result.port) == (b"http", b"shop.example", 8080)
    assert result.request_id is None
    assert result.fields == HARMLESS
    assert without_trust_fields([*FORGED, *HARMLESS]) == HARMLESS


def test_untrusted_peer_gets_fields_of_its_connection_and_its_host() -> None:
    assert seen([], CLIENT).edge_fields == [
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-port", b"8080"),
        (b"x-forwarded-host", b"shop.example"),
    ]


def test_constants_of_a_connection_are_what_forward_gives() -> None:
    peer = describe_peer(CLIENT, TEN, scheme=b"https", port=443)
    result = forward(peer, b"", FORGED)
    assert peer.trust is None
    assert (result.client, result.scheme, result.port) == (peer.client, peer.scheme, peer.port)
    assert result.edge_fields == list(peer.fields)


def test_unix_peer_has_no_address_to_tell() -> None:
    assert seen([], None, host=b"").edge_fields == [(b"x-forwarded-proto", b"http"), (b"x-forwarded-port", b"8080")]


@pytest.mark.parametrize(("scheme", "port"), [(b"http", 80), (b"https", 443)])
def test_listener_without_a_port_stands_for_that_of_its_scheme(scheme: bytes, port: int) -> None:
    assert describe_peer(None, TEN, scheme=scheme, port=0).port == port


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("::ffff:203.0.113.7", 5), ("203.0.113.7", 5)),
        (("fe80::1%eth0", 5), ("fe80::1", 5)),
        (("2001:DB8::1", 5), ("2001:db8::1", 5)),
        (("testclient", 5), ("testclient", 5)),
    ],
)
def test_address_of_the_peer_has_one_spelling(peer: tuple[str, int], client: tuple[str, int]) -> None:
    assert describe_peer(peer, TEN, scheme=b"http", port=80).client == client


# --- a trusted peer: the chain


@pytest.mark.parametrize(
    ("lines", "client", "sent"),
    [
        ([b"203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b" 203.0.113.7\t"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b"1.1.1.1, 203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b"1.1.1.1", b"203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b"203.0.113.7, 10.0.0.3", b"10.0.0.2"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.3, 10.0.0.2, 10.0.0.1"),
        # All of them trusted: the farthest.
        ([b"10.0.0.3,10.0.0.2"], ("10.0.0.3", 0), b"10.0.0.3, 10.0.0.2, 10.0.0.1"),
        # Nothing there: the peer.
        ([], PROXY, b"10.0.0.1"),
        ([b""], PROXY, b"10.0.0.1"),
        ([b" , ,"], PROXY, b"10.0.0.1"),
        # Empty elements are no entries (RFC 9110 section 5.6.1.2).
        ([b"203.0.113.7,, ", b""], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        # What is no address ends the walk; the last good one, nearer to us, is the client.
        ([b"203.0.113.7, unknown"], PROXY, b"10.0.0.1"),
        ([b"203.0.113.7, _hidden, 10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        ([b"203.0.113.7, junk, 10.0.0.2"], ("10.0.0.2", 0), b"10.0.0.2, 10.0.0.1"),
        # Ports, brackets, zones, mapped addresses.
        ([b"203.0.113.7:4711"], ("203.0.113.7", 4711), b"203.0.113.7, 10.0.0.1"),
        ([b"2001:DB8:0::1"], ("2001:db8::1", 0), b"2001:db8::1, 10.0.0.1"),
        ([b"[2001:db8::1]"], ("2001:db8::1", 0), b"2001:db8::1, 10.0.0.1"),
        ([b"[2001:db8::1]:65535"], ("2001:db8::1", 65535), b"2001:db8::1, 10.0.0.1"),
        ([b"fe80::1%eth0"], ("fe80::1", 0), b"fe80::1, 10.0.0.1"),
        ([b"[fe80::1%eth0]:80"], ("fe80::1", 80), b"fe80::1, 10.0.0.1"),
        ([b"::ffff:203.0.113.7"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.1"),
        ([b"203.0.113.7, ::ffff:10.0.0.2"], ("203.0.113.7", 0), b"203.0.113.7, 10.0.0.2, 10.0.0.1"),
        ([b"203.0.113.7, [fd00::1]:8443"], ("203.0.113.7", 0), b"203.0.113.7, fd00::1, 10.0.0.1"),
    ],
)
def test_client_is_the_nearest_address_that_is_no_trusted_proxy(
    lines: list[bytes], client: tuple[str, int], sent: bytes
) -> None:
    result = seen(chain(*lines))
    assert result.client == client
    assert result.edge_fields[0] == (b"x-forwarded-for", sent)


@pytest.mark.parametrize(
    "entry",
    [
        b"203.0.113",
        b"203.0.113.256",
        b"203.0.113.07",
        b"203.0.113.7:",
        b"203.0.113.7:65536",
        b"203.0.113.7:http",
        b"203.0.113.7:_x",
        b"203.0.113.7 10.0.0.2",
        b"203.0.113.7%eth0",
        b"[203.0.113.7]",
        b'"203.0.113.7"',
        b"[2001:db8::1",
        b"2001:db8::1]",
        b"[2001:db8::1]x",
        b"[2001:db8::1]:",
        b"2001:db8:::1",
        b"fe80::1%",
        b"fe80::1%" + b"e" * 17,
        b"client.example",
        b"for=203.0.113.7",
        b"203.0.113.7;proto=https",
        b"203.0.113.7\x00",
        b"\xd9\xa1.1.1.1",
        b"1" * 100,
    ],
)
def test_entry_that_is_no_address_ends_the_walk(entry: bytes) -> None:
    result = seen(chain(b"198.51.100.1, " + entry + b", 10.0.0.2"))
    assert result.client == ("10.0.0.2", 0)
    assert result.edge_fields[0][1] == b"10.0.0.2, 10.0.0.1"


def test_walk_ends_after_the_greatest_number_of_hops() -> None:
    hops = b", ".join([b"10.0.1.%d" % number for number in range(MAX_HOPS)])
    assert seen(chain(b"203.0.113.7, 10.0.2.1, " + hops)).client == ("10.0.1.0", 0)
    assert seen(chain(b"203.0.113.7, " + hops.partition(b", ")[2])).client == ("203.0.113.7", 0)


def test_walk_ends_where_the_chain_is_too_long() -> None:
    padding = b" " * (MAX_CHAIN_SIZE - len(b"10.0.0.3,10.0.0.2"))
    assert seen(chain(b"10.0.0.3," + padding + b"10.0.0.2")).client == ("10.0.0.3", 0)
    assert seen(chain(b"1.1.110.0.0.3," + padding + b"10.0.0.2")).client == ("10.0.0.2", 0)
    assert seen(chain(b"1" * MAX_CHAIN_SIZE + b"1.1.1.1")).client == PROXY


ENTRIES = st.one_of(
    st.sampled_from(["10.0.0.2", "10.9.9.9", "::ffff:10.0.0.5", "[fd00::2]:80", "10.0.0.3:1234"]),
    st.sampled_from(["203.0.113.7", "198.51.100.1:80", "2001:db8::1", "[2001:db8::2]:443", "::ffff:192.0.2.1"]),
    st.sampled_from(["unknown", "_obf", "", "junk", "999.1.1.1", "10.0.0.1:99999"]),
)


def oracle(entries: Iterable[str], peer: str) -> str:
    """Ten lines that say the rule: right to left, stop at the first untrusted or unparsable entry."""
    client = peer
    for entry in [text for text in list(entries)[::-1][:MAX_HOPS] if text]:
        host, _, port = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return client
        if port and int(port) > 65535:
            return client
        client = str(getattr(address, "ipv4_mapped", None) or address)
        if not client.startswith(("10.", "fd00:")):
            return client
    return client


@given(st.lists(ENTRIES, max_size=40), st.integers(0, 40), st.sampled_from([", ", ",", " ,\t"]))
@example(["203.0.113.7"] + ["10.0.0.2"] * 31, 5, ",")
@example(["203.0.113.7"] + ["10.0.0.2"] * 32, 5, ",")
def test_client_of_a_random_chain_agrees_with_the_oracle(entries: list[str], cut: int, comma: str) -> None:
    lines = [comma.join(part).encode() for part in (entries[:cut], entries[cut:]) if part]
    result = seen(chain(*lines))
    assert result.client is not None
    assert result.client[0] == oracle(entries, PROXY[0])
    assert result.edge_fields[0][1].startswith(result.client[0].encode())
    assert result.edge_fields[0][1].endswith(b"10.0.0.1")
    assert seen(chain(*lines), CLIENT).client == CLIENT


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from([PROXY, None]))
def test_random_bytes_in_the_chain_give_an_address_or_the_peer(
    lines: list[bytes], peer: tuple[str, int] | None
) -> None:
    client = seen(chain(*lines), peer, trust("10.0.0.0/8", unix=True)).client
    if client != peer:
        assert client is not None
        ipaddress.ip_address(client[0])


def test_trusted_unix_peer_is_no_part_of_the_chain() -> None:
    unix = trust("10.0.0.0/8", unix=True)
    result = seen(chain(b"203.0.113.7, 10.0.0.2"), None, unix)
    assert result.client == ("203.0.113.7", 0)
    assert result.edge_fields[0] == (b"x-forwarded-for", b"203.0.113.7, 10.0.0.2")
    assert seen([], None, unix).client is None
    assert b"x-forwarded-for" not in dict(seen([], None, unix).edge_fields)


# --- a trusted peer: scheme, port, host, request id


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        ([b"https"], b"https"),
        ([b"HTTPS "], b"https"),
        ([b"http"], b"http"),
        ([b"https, http"], b"http"),
        ([b"http, https"], b"https"),
        ([b"http", b"https"], b"https"),
        ([b"wss"], b"https"),
        ([b"ws"], b"http"),
    ],
)
def test_last_scheme_of_a_trusted_peer_counts_with_its_port(values: list[bytes], scheme: bytes) -> None:
    result = seen([(b"x-forwarded-proto", value) for value in values])
    assert result.scheme == scheme
    assert result.port == {b"http": 80, b"https": 443}[scheme]
    assert (b"x-forwarded-proto", scheme) in result.edge_fields


@pytest.mark.parametrize("value", [b"", b"ftp", b"https, ftp", b"https;", b"on", b"https http", b"httpss"])
def test_scheme_that_is_neither_http_nor_https_is_that_of_the_listener(value: bytes) -> None:
    result = seen([(b"x-forwarded-proto", value)])
    assert (result.scheme, result.port) == (b"http", 8080)


@pytest.mark.parametrize(
    ("fields", "host", "port"),
    [
        ([(b"x-forwarded-port", b"8443")], b"shop.example", 8443),
        ([(b"x-forwarded-port", b"1, 8443")], b"shop.example:9000", 8443),
        ([(b"x-forwarded-port", b"65535")], b"", 65535),
        ([(b"x-forwarded-port", b"0")], b"shop.example", 8080),
        ([(b"x-forwarded-port", b"65536")], b"shop.example", 8080),
        ([(b"x-forwarded-port", b"+80")], b"shop.example", 8080),
        ([(b"x-forwarded-port", b"8443x")], b"shop.example:9000", 9000),
        ([(b"x-forwarded-proto", b"https")], b"shop.example:9000", 9000),
        ([(b"x-forwarded-proto", b"https")], b"[2001:db8::1]", 443),
        ([(b"x-forwarded-proto", b"https")], b"[2001:db8::1]:9000", 9000),
    ],
)
def test_port_is_that_of_the_public_side(fields: FieldLines, host: bytes, port: int) -> None:
    result = seen(fields, host=host)
    assert result.port == port
    assert (b"x-forwarded-port", b"%d" % port) in result.edge_fields


def test_forwarded_host_is_not_taken_by_default() -> None:
    result = seen([(b"x-forwarded-host", b"public.example")])
    assert result.host == b"shop.example"
    assert (b"x-forwarded-host", b"shop.example") in result.edge_fields


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"public.example", b"public.example"),
        (b"public.example:8443", b"public.example:8443"),
        (b"a.example, b.example", b"b.example"),
        (b"", b"shop.example"),
        (b"a b", b"shop.example"),
        (b"user@public.example", b"shop.example"),
        (b"a.example, /", b"shop.example"),
    ],
)
def test_forwarded_host_is_taken_when_asked_for_and_only_if_it_is_one(value: bytes, host: bytes) -> None:
    result = seen([(b"x-forwarded-host", value)], trusted=TEN_WITH_HOST)
    assert result.host == host
    assert (b"x-forwarded-host", host) in result.edge_fields
    assert seen([(b"x-forwarded-host", value)], CLIENT, TEN_WITH_HOST).host == b"shop.example"


def test_port_of_the_forwarded_host_is_the_public_one() -> None:
    fields = [(b"x-forwarded-host", b"public.example:8443"), (b"x-forwarded-proto", b"https")]
    assert seen(fields, trusted=TEN_WITH_HOST).port == 8443


def test_request_without_host_gets_no_forwarded_host() -> None:
    assert b"x-forwarded-host" not in dict(seen([], host=b"").edge_fields)


@pytest.mark.parametrize("value", [b"a", b"A-z.0_9", b"x" * 128])
def test_request_id_of_a_trusted_peer_is_kept(value: bytes) -> None:
    assert seen([(b"x-request-id", value)]).request_id == value
    assert seen([(b"x-request-id", value)], CLIENT).request_id is None


@pytest.mark.parametrize("value", [b"", b"x" * 129, b"a b", b"a,b", b"a\n", b"a/b", b"\xe4"])
def test_request_id_with_other_bytes_or_too_long_is_not_kept(value: bytes) -> None:
    assert seen([(b"x-request-id", value)]).request_id is None


def test_two_request_ids_are_none() -> None:
    assert seen([(b"x-request-id", b"a"), (b"x-request-id", b"b")]).request_id is None


def test_fields_of_a_trusted_peer_are_replaced_not_passed_on() -> None:
    result = seen([*FORGED, *HARMLESS])
    assert result.fields == HARMLESS
    assert result.edge_fields == [
        (b"x-forwarded-for", b"127.0.0.1, 10.0.0.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-port", b"1"),
        (b"x-forwarded-host", b"shop.example"),
    ]


@pytest.mark.parametrize(
    ("peers", "announced", "others"),
    [
        (
            [ipaddress.ip_network("192.0.2.0/24")],
            [("192.0.2.1", 1), ("::ffff:192.0.2.1", 1)],
            [("198.51.100.1", 1), None],
        ),
        ([None], [None], [("192.0.2.1", 1)]),
    ],
)
def test_peers_that_send_a_proxy_header_are_those_that_were_named(
    peers: list[Network | None], announced: list[tuple[str, int] | None], others: list[tuple[str, int] | None]
) -> None:
    announces = announcers(peers)
    assert announces is not None
    assert [announces(peer) for peer in (*announced, *others)] == [True] * len(announced) + [False] * len(others)


def test_nobody_sends_a_proxy_header_by_default() -> None:
    assert announcers(()) is None
