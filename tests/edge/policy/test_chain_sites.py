"""The site's policies: which hosts are served, under which name, and that browsers come back over HTTPS only."""

from __future__ import annotations

import ipaddress

import pytest

from edge.http.client_cert import Identity
from edge.policy.chain import HEALTH, Answered, Origin, Policy
from edge.policy.forwarded import TrustedProxies
from edge.policy.pages import ErrorPages
from edge.policy.rate import Meter, RateLimit
from edge.policy.sites import EVERY_HOST, Site, Sites
from tests.edge.policy.test_chain import PROXY, STRANGER, TRUSTED, Sent, parse, policy

SHOP = Sites([Site(("shop.example", "*.shop.example", "192.0.2.9", "::1"))])
PEERS = [STRANGER, PROXY, None]


def refused(rules: Policy, origin: Origin, *, host: bytes, start: bytes = b"GET /a?b HTTP/1.1") -> Answered:
    with pytest.raises(Answered) as caught:
        rules.apply(parse(start=start, host=host and b"Host: " + host), origin, b"id-1")
    return caught.value


@pytest.mark.parametrize(
    "host",
    [
        b"shop.example",
        b"SHOP.example",
        b"shop.example.",
        b"shop.example:8443",
        b"api.shop.example",
        b"192.0.2.9:443",
        b"[::1]",
        b"[0:0::1]:8443",
    ],
)
@pytest.mark.parametrize("peer", PEERS)
def test_host_of_the_site_is_served_as_it_was_spelled(host: bytes, peer: tuple[str, int] | None) -> None:
    sent = Sent(parse(host=b"Host: " + host), peer, policy(sites=SHOP, trust=TRUSTED))
    assert sent.values(b"host") == [host]


@pytest.mark.parametrize(("scheme", "status"), [(b"https", 421), (b"http", 400)])
@pytest.mark.parametrize("peer", PEERS)
def test_unknown_host_is_misdirected_over_tls_and_bad_in_plain(
    scheme: bytes, status: int, peer: tuple[str, int] | None
) -> None:
    rules = policy(sites=SHOP, scheme=scheme, trust=TRUSTED)
    answer = refused(rules, rules.connect(peer), host=b"evil.example")
    assert (answer.status, answer.fields) == (status, ())
    assert answer.reason == "host b'evil.example' is not served here: name it with --server-name, or * for every host"


@pytest.mark.parametrize("host", [b"a.b.shop.example", b"127.0.0.1", b"[::2]", b"evil%2f.shop.example", b"a!b"])
def test_host_that_only_looks_like_one_of_the_site_is_refused(host: bytes) -> None:
    rules = policy(sites=SHOP)
    assert refused(rules, rules.connect(STRANGER), host=host).status == 421


def test_each_request_of_a_connection_is_asked_for_its_own_host() -> None:
    rules = policy(sites=SHOP)
    origin = rules.connect(STRANGER)
    head = parse()
    for _ in range(2):
        assert b"shop.example" in rules.apply(head, origin, b"id-1")[0]
    assert refused(rules, origin, host=b"evil.example").status == 421
    assert b"api.shop.example" in rules.apply(parse(host=b"Host: api.shop.example"), origin, b"id-2")[0]


def test_http_1_0_without_host_is_the_first_sites() -> None:
    rules = policy(sites=SHOP)
    sent = Sent(parse(start=b"GET / HTTP/1.0", host=b""), STRANGER, rules)
    assert sent.values(b"host") == []


@pytest.mark.parametrize("host", [b"anything", b"10.0.0.5:8000", b"a!b"])
def test_without_names_every_host_is_served(host: bytes) -> None:
    assert Sent(parse(host=b"Host: " + host), STRANGER, policy(sites=EVERY_HOST)).values(b"host") == [host]


def test_probe_is_answered_under_any_host() -> None:
    rules = Policy(
        scheme=b"https",
        port=443,
        address=b"",
        trust=TRUSTED,
        redirect=None,
        sites=SHOP,
        probes={HEALTH: lambda: True},
    )
    start = b"GET %b HTTP/1.1" % HEALTH
    assert refused(rules, rules.connect(STRANGER), host=b"10.0.0.5", start=start).status == 200


CANONICAL = Sites([Site(("shop.example", "www.shop.example", "192.0.2.9"), canonical="shop.example")])


@pytest.mark.parametrize(
    ("host", "target", "location"),
    [
        (b"www.shop.example", b"/a?b", b"https://shop.example/a?b"),
        (b"WWW.shop.example.", b"/", b"https://shop.example/"),
        (b"www.shop.example:8443", b"/a", b"https://shop.example:8443/a"),
        (b"192.0.2.9", b"//evil.example/", b"https://shop.example//evil.example/"),
    ],
)
def test_other_names_are_sent_to_the_canonical_host(host: bytes, target: bytes, location: bytes) -> None:
    rules = policy(sites=CANONICAL)
    answer = refused(rules, rules.connect(STRANGER), host=host, start=b"GET %b HTTP/1.1" % target)
    assert (answer.status, answer.fields, answer.reason) == (308, ((b"location", location),), "")


def test_options_of_the_whole_server_are_sent_to_the_canonical_host_without_a_path() -> None:
    rules = policy(sites=CANONICAL)
    answer = refused(rules, rules.connect(STRANGER), host=b"www.shop.example", start=b"OPTIONS * HTTP/1.1")
    assert answer.fields == ((b"location", b"https://shop.example"),)


def test_canonical_host_may_be_an_address() -> None:
    rules = policy(sites=Sites([Site(("*",), canonical="::1")]))
    answer = refused(rules, rules.connect(STRANGER), host=b"[::2]:8443")
    assert answer.fields == ((b"location", b"https://[::1]:8443/a?b"),)


@pytest.mark.parametrize("host", [b"shop.example", b"shop.example:8443", b"SHOP.example"])
def test_canonical_host_itself_is_served(host: bytes) -> None:
    assert Sent(parse(host=b"Host: " + host), STRANGER, policy(sites=CANONICAL)).values(b"host") == [host]


def test_nobody_is_sent_to_the_canonical_host_from_one_that_is_unknown_or_missing() -> None:
    rules = policy(sites=CANONICAL)
    assert refused(rules, rules.connect(STRANGER), host=b"evil.example").status == 421
    assert Sent(parse(start=b"GET / HTTP/1.0", host=b""), STRANGER, rules).target == b"/"


def test_scheme_of_the_canonical_redirect_is_what_the_proxy_said() -> None:
    rules = policy(sites=CANONICAL, scheme=b"http", trust=TRUSTED)
    head = parse(b"X-Forwarded-Proto: https", host=b"Host: www.shop.example")
    with pytest.raises(Answered) as caught:
        rules.apply(head, rules.connect(PROXY), b"id-1")
    assert caught.value.fields == ((b"location", b"https://shop.example/a?b"),)


@pytest.mark.parametrize(
    ("start", "location"),
    [
        (b"GET /a?b HTTP/1.1", b"https://shop.example/shop/a?b"),
        (b"GET / HTTP/1.1", b"https://shop.example/shop/"),
        (b"GET /shopping HTTP/1.1", b"https://shop.example/shop/shopping"),
        (b"GET /shop?b HTTP/1.1", b"https://shop.example/shop?b"),
        (b"GET /shop/a HTTP/1.1", b"https://shop.example/shop/a"),
        (b"OPTIONS * HTTP/1.1", b"https://shop.example"),
    ],
)
def test_canonical_redirect_has_what_a_proxy_took_off_the_path(start: bytes, location: bytes) -> None:
    trust = TrustedProxies([ipaddress.ip_network("192.0.2.0/24")], trust_prefix=True)
    rules = policy(sites=CANONICAL, trust=trust)
    head = parse(b"X-Forwarded-Prefix: /shop", start=start, host=b"Host: www.shop.example")
    with pytest.raises(Answered) as caught:
        rules.apply(head, rules.connect(PROXY), b"id-1")
    assert caught.value.fields == ((b"location", location),)


HSTS = Sites([Site(("shop.example", "192.0.2.9"), hsts=b"max-age=63072000")])
TYPE = [b"content-type", b"text/html"]
ADDED = [b"strict-transport-security", b"max-age=63072000"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"shop.example", [*TYPE, *ADDED]),
        (b"Shop.example:8443", [*TYPE, *ADDED]),
        (b"192.0.2.9", TYPE),
        (b"evil.example", TYPE),
        (b"", TYPE),
    ],
)
def test_hsts_is_for_names_of_the_site(host: bytes, expected: list[bytes]) -> None:
    rules = policy(sites=HSTS)
    assert rules.has_hsts
    for _ in range(2):
        assert rules.add_hsts(host, TYPE) == expected


def test_own_hsts_of_the_application_stays() -> None:
    fields = [b"strict-transport-security", b"max-age=0"]
    assert policy(sites=HSTS).add_hsts(b"shop.example", fields) == fields


@pytest.mark.parametrize(("scheme", "sites"), [(b"http", HSTS), (b"https", SHOP)])
def test_there_is_no_hsts_in_plain_or_where_no_site_wants_it(scheme: bytes, sites: Sites) -> None:
    assert not policy(sites=sites, scheme=scheme).has_hsts


def test_hosts_remembered_for_hsts_are_bounded() -> None:
    rules = policy(sites=HSTS)
    for number in range(1025):
        rules.add_hsts(b"%d.example" % number, TYPE)
    assert len(rules._hsts) == 1


# Clients with certificates.

OPEN, CLOSED, SECRET = (Site((f"{name}.example",), guard="" if name == "open" else name) for name in ("open", "a", "b"))
GUARDED = Sites([OPEN, CLOSED, SECRET])
JO = Identity("a.example", 0x0304, 0x1301, (b"leaf", b"middle"), "CN=Jo")


def test_request_carries_what_its_client_has_proven() -> None:
    rules = policy(sites=GUARDED)
    head = parse(b"Client-Cert: :Zm9yZ2Vk:", b"Client-Cert-Chain: :Zm9yZ2Vk:", host=b"Host: a.example")
    sent = Sent(head, STRANGER, rules, JO)
    assert sent.values(b"client-cert") == [b":bGVhZg==:"]
    assert sent.values(b"client-cert-chain") == [b":bWlkZGxl:"]
    scheme, _, extension = sent.scheme.partition(b" ")
    assert scheme == b"https"
    assert b'"client_cert_name":"CN=Jo"' in extension


@pytest.mark.parametrize("peer", [PROXY, None])
def test_request_of_a_trusted_proxy_carries_the_proxys_certificate_and_no_other(peer: tuple[str, int] | None) -> None:
    head = parse(b"Client-Cert: :Zm9yZ2Vk:", b"X-Forwarded-Proto: https", host=b"Host: a.example")
    sent = Sent(head, peer, policy(sites=GUARDED, trust=TRUSTED), JO)
    assert sent.values(b"client-cert") == [b":bGVhZg==:"]
    assert sent.scheme.startswith(b"https {")
    assert sent.values(b"x-forwarded-proto") == [b"https"]


def test_forged_certificate_is_dropped_where_none_is_asked_for() -> None:
    sent = Sent(parse(b"Client-Cert: :Zm9yZ2Vk:", host=b"Host: open.example"), STRANGER, policy(sites=GUARDED))
    assert sent.values(b"client-cert") == []
    assert sent.scheme == b"https"


@pytest.mark.parametrize(
    ("server_name", "host", "served"),
    [
        (None, b"open.example", True),
        (None, b"a.example", False),
        ("a.example", b"a.example", True),
        ("a.example", b"open.example", False),
        ("a.example", b"b.example", False),
        ("b.example", b"a.example", False),
    ],
)
def test_host_of_another_site_than_that_of_tls_is_misdirected_if_either_asks_for_certificates(
    server_name: str | None, host: bytes, served: bool
) -> None:
    rules = policy(sites=GUARDED)
    identity = JO._replace(server_name=server_name) if server_name is not None else None
    origin = rules.connect(STRANGER, identity)
    if served:
        assert host in rules.apply(parse(host=b"Host: " + host), origin, b"id-1")[0]
    else:
        answer = refused(rules, origin, host=host)
        assert (answer.status, answer.reason) == (
            421,
            f"host {host!r} is another site than the one that TLS was made for",
        )


def test_request_without_host_does_not_reach_a_site_that_tls_was_not_made_for() -> None:
    rules = policy(sites=Sites([CLOSED, OPEN]))
    start = b"GET / HTTP/1.0"
    assert refused(rules, rules.connect(STRANGER), host=b"", start=start).status == 421
    assert rules.apply(parse(start=start, host=b""), rules.connect(STRANGER, JO), b"id-1")[1] == b"id-1"


# Rates.


@pytest.mark.parametrize("peer", PEERS)
def test_client_that_asks_too_often_is_refused_and_told_when_to_come_back(peer: tuple[str, int] | None) -> None:
    now = 100.0
    sites = Sites([Site(rate=RateLimit(Meter(1.25, 2)))])
    rules = Policy(scheme=b"http", port=80, address=b"", trust=TRUSTED, redirect=None, sites=sites, clock=lambda: now)
    origin = rules.connect(peer)
    for _ in range(2):
        rules.apply(parse(), origin, b"id-1")
    answer = refused(rules, origin, host=b"shop.example")
    assert (answer.status, answer.fields) == (429, ((b"retry-after", b"2"),))
    assert answer.reason == "too many requests of this client"
    now += 1.25
    rules.apply(parse(), origin, b"id-1")


def test_client_of_a_rate_is_whom_the_trusted_proxy_names() -> None:
    rules = policy(trust=TRUSTED, sites=Sites([Site(rate=RateLimit(Meter(60, 1)))]))
    origin = rules.connect(PROXY)
    for client in (b"198.51.100.1", b"198.51.100.2"):
        rules.apply(parse(b"X-Forwarded-For: " + client), origin, b"id-1")
    with pytest.raises(Answered):
        rules.apply(parse(b"X-Forwarded-For: 198.51.100.2"), origin, b"id-1")


def test_later_request_of_a_trusted_proxy_is_asked_no_more_than_that_of_others() -> None:
    rules = policy(sites=SHOP, trust=TRUSTED)
    origin = rules.connect(PROXY)
    for _ in range(2):
        assert b"shop.example" in rules.apply(parse(), origin, b"id-1")[0]
    assert refused(rules, origin, host=b"evil.example").status == 421


# Pages.


@pytest.mark.parametrize(
    ("host", "expected"), [(b"a.example", b"page of a"), (b"b.example:8443", b"page of b"), (b"x", b"page of a")]
)
def test_page_is_that_of_the_site_and_of_the_first_one_for_nobodys_host(host: bytes, expected: bytes) -> None:
    pages = [ErrorPages({"error.html": f"page of {name}"}) for name in "ab"]
    sites = Sites([Site(("a.example",), pages=pages[0]), Site(("b.example",), pages=pages[1])])
    assert policy(sites=sites).page(parse(host=b"Host: " + host), 503, b"id-1")[1] == expected
