"""The policies in their order: what a worker gets of a request, and what never gets to one."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.client_cert import Identity
from edge.http.events import RequestHead
from edge.http.head import HeadLimits, HeadParser
from edge.policy.chain import HEALTH, READY, Answered, Policy, Redirect
from edge.policy.forwarded import TrustedProxies
from edge.policy.sites import EVERY_HOST, Site, Sites
from edge_backend import wire

LIMITS = HeadLimits(max_request_line=8192, max_header_size=32 * 1024, max_headers=100)
STRANGER = ("203.0.113.7", 40000)
PROXY = ("192.0.2.1", 50000)
NOBODY = TrustedProxies()
TRUSTED = TrustedProxies([ipaddress.ip_network("192.0.2.0/24")], unix=True)


def parse(*lines: bytes, start: bytes = b"GET /a?b HTTP/1.1", host: bytes = b"Host: shop.example") -> RequestHead:
    return HeadParser(LIMITS).parse(b"\r\n".join([start, *filter(None, [host]), *lines, b"", b""]), 1)


def policy(
    *,
    trust: TrustedProxies = NOBODY,
    redirect: Redirect | None = None,
    scheme: bytes = b"https",
    sites: Sites = EVERY_HOST,
) -> Policy:
    return Policy(scheme=scheme, port=8443, address=b"198.51.100.1:8443", trust=trust, redirect=redirect, sites=sites)


class Sent:
    """What a worker gets, taken apart as the worker does it."""

    def __init__(
        self, head: RequestHead, peer: tuple[str, int] | None, rules: Policy, identity: Identity | None = None
    ) -> None:
        request, self.request_id, self.client_address = rules.apply(head, rules.connect(peer, identity), b"id-1")
        parts = wire.split_request(request)
        self.method, self.target, self.version, self.scheme = parts[:4]
        self.client, self.server = tuple(parts[4:6]), tuple(parts[6:8])
        self.fields = list(zip(parts[8::2], parts[9::2], strict=True))

    def values(self, name: bytes) -> Sequence[bytes]:
        return [value for found, value in self.fields if found == name]


def test_worker_gets_the_request_with_what_the_edge_knows() -> None:
    sent = Sent(parse(b"Accept: */*"), STRANGER, policy())
    assert (sent.method, sent.target, sent.version, sent.scheme) == (b"GET", b"/a?b", b"1.1", b"https")
    assert sent.client == (b"203.0.113.7", b"40000")
    assert sent.server == (b"shop.example", b"443")
    assert sent.fields == [
        (b"host", b"shop.example"),
        (b"accept", b"*/*"),
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-port", b"8443"),
        (b"x-forwarded-host", b"shop.example"),
        (b"x-request-id", b"id-1"),
    ]
    assert sent.request_id == b"id-1"
    assert sent.client_address == b"203.0.113.7"


FORGED = [
    b"X-Forwarded-For: 198.51.100.9",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Port: 1",
    b"X-Forwarded-Prefix: /evil",
    b"Forwarded: for=198.51.100.9",
    b"X-Real-IP: 198.51.100.9",
    b"X-Request-ID: forged",
    b"Client-Cert: :aGk=:",
    b"X-SSL-Client-Verify: SUCCESS",
    b"X-Original-URL: /admin",
    b"X_Forwarded_For: 198.51.100.9",
]


@pytest.mark.parametrize("forged", FORGED)
def test_word_of_a_stranger_about_itself_does_not_reach_the_worker(forged: bytes) -> None:
    name = forged.partition(b":")[0].lower()
    honest = Sent(parse(b"Accept: */*"), STRANGER, policy())
    assert Sent(parse(b"Accept: */*", forged), STRANGER, policy()).fields == honest.fields
    named = parse(b"Accept: */*", forged, b"Connection: " + name)
    assert Sent(named, STRANGER, policy()).fields == honest.fields


def test_what_the_edge_sets_cannot_be_deleted_by_connection() -> None:
    names = b"x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-request-id, host"
    sent = Sent(parse(b"Connection: " + names), STRANGER, policy())
    assert sent.values(b"x-forwarded-for") == [b"203.0.113.7"]
    assert sent.values(b"host") == [b"shop.example"]
    assert sent.values(b"x-request-id") == [b"id-1"]


def test_trusted_proxy_says_who_the_client_is() -> None:
    head = parse(b"X-Forwarded-For: 198.51.100.9", b"X-Forwarded-Proto: http", b"X-Request-ID: theirs", b"Accept: */*")
    sent = Sent(head, PROXY, policy(trust=TRUSTED))
    assert sent.client[0] == b"198.51.100.9"
    assert sent.client_address == b"198.51.100.9"
    assert sent.scheme == b"http"
    assert sent.request_id == b"theirs"
    assert sent.values(b"x-request-id") == [b"theirs"]
    assert sent.values(b"accept") == [b"*/*"]
    assert len(sent.values(b"x-forwarded-for")) == 1


def test_trusted_proxy_that_says_nothing_is_the_client() -> None:
    sent = Sent(parse(), PROXY, policy(trust=TRUSTED))
    assert sent.client_address == b"192.0.2.1"
    assert sent.request_id == b"id-1"


def test_client_of_a_unix_socket_has_no_address() -> None:
    sent = Sent(parse(), None, policy(scheme=b"http"))
    assert sent.client == (b"", b"0")
    assert sent.client_address == b"unix"


@pytest.mark.parametrize(
    ("host", "scheme", "server"),
    [
        (b"shop.example", b"https", (b"shop.example", b"443")),
        (b"shop.example", b"http", (b"shop.example", b"80")),
        (b"shop.example:8443", b"https", (b"shop.example", b"8443")),
        (b"[2001:db8::1]", b"https", (b"2001:db8::1", b"443")),
        (b"[2001:db8::1]:8443", b"https", (b"2001:db8::1", b"8443")),
    ],
)
def test_server_is_the_host_that_was_asked(host: bytes, scheme: bytes, server: tuple[bytes, bytes]) -> None:
    assert Sent(parse(host=b"Host: " + host), STRANGER, policy(scheme=scheme)).server == server


@pytest.mark.parametrize("trust", [NOBODY, TRUSTED])
def test_server_is_the_listener_when_nobody_named_a_host(trust: TrustedProxies) -> None:
    sent = Sent(parse(start=b"GET / HTTP/1.0", host=b""), PROXY, policy(trust=trust))
    assert sent.server == (b"198.51.100.1", b"8443")
    assert sent.values(b"host") == []


@given(st.lists(st.sampled_from([b"Accept: */*", b"Cookie: a=b", b"X-Any: thing", *FORGED]), max_size=20))
def test_number_of_parts_is_right_for_any_fields(lines: list[bytes]) -> None:
    for rules in (policy(), policy(trust=TRUSTED)):
        for peer in (STRANGER, PROXY, None):
            assert Sent(parse(*lines), peer, rules).values(b"host") == [b"shop.example"]  # split_request checks it


# The redirect.


def answered(head: RequestHead, redirect: Redirect) -> Answered:
    rules = policy(redirect=redirect, scheme=b"http", sites=Sites([Site(("shop.example",))]))
    with pytest.raises(Answered) as caught:
        rules.apply(head, rules.connect(STRANGER), b"id-1")
    return caught.value


def test_plain_request_for_a_known_host_is_sent_to_https() -> None:
    answer = answered(parse(), Redirect(443))
    assert (answer.status, answer.fields) == (308, ((b"location", b"https://shop.example/a?b"),))
    assert answer.reason == ""


def test_plain_request_for_an_unknown_host_is_sent_nowhere() -> None:
    answer = answered(parse(host=b"Host: evil.example"), Redirect(443))
    assert (answer.status, answer.fields) == (400, ())
    assert answer.reason == "host b'evil.example' is not served here; only hosts that are get sent to HTTPS"


CHALLENGE = b"GET /.well-known/acme-challenge/%b HTTP/1.1"
ANSWERS = Redirect(443, {"token-1": b"token-1.thumbprint"}.get)


@pytest.mark.parametrize("host", [b"Host: shop.example", b"Host: elsewhere.example", b"Host: 192.0.2.1:80"])
def test_authority_gets_the_answer_to_its_challenge_in_plain(host: bytes) -> None:
    answer = answered(parse(start=CHALLENGE % b"token-1", host=host), ANSWERS)
    assert (answer.status, answer.content, answer.reason) == (200, b"token-1.thumbprint", "")


@pytest.mark.parametrize("start", [CHALLENGE % b"token-2", CHALLENGE % b""])
def test_challenge_that_is_not_under_way_is_a_request_like_any_other(start: bytes) -> None:
    assert answered(parse(start=start), ANSWERS).status in (308, 400)


def test_challenge_is_redirected_where_no_certificate_is_ordered() -> None:
    answer = answered(parse(start=CHALLENGE % b"token-1"), Redirect(443))
    assert answer.status == 308


def probe(path: bytes, *, method: bytes = b"GET", is_well: bool = True, redirect: Redirect | None = None) -> Answered:
    """Return the answer to a probe by an address, of a listener that may redirect."""
    rules = Policy(
        scheme=b"http",
        port=80,
        address=b"198.51.100.1:80",
        trust=TRUSTED,
        redirect=redirect,
        probes={HEALTH: lambda: True, READY: lambda: is_well},
    )
    head = parse(start=b"%b %b HTTP/1.1" % (method, path), host=b"Host: 198.51.100.1")
    for peer in (STRANGER, PROXY, None):
        with pytest.raises(Answered) as answered:
            rules.apply(head, rules.connect(peer), b"id-1")
    return answered.value


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("path", [HEALTH, READY])
def test_probe_is_answered_before_the_redirect_and_whoever_asks(path: bytes, method: bytes) -> None:
    answer = probe(path, method=method, redirect=Redirect(443))
    assert (answer.status, answer.content, answer.reason) == (200, b"ok\n", "")


def test_probe_of_what_is_not_ready_gets_503() -> None:
    assert (probe(READY, is_well=False).status, probe(HEALTH, is_well=False).status) == (503, 200)
    assert probe(READY, is_well=False).content == b"not ready\n"


def test_probe_by_another_method_is_refused() -> None:
    answer = probe(HEALTH, method=b"POST")
    assert (answer.status, answer.fields) == (405, ((b"allow", b"GET, HEAD"),))


@pytest.mark.parametrize("target", [b"/.edge", b"/.edge/", b"/.edge/healthy", b"/.edge/health?x", b"/a/.edge/health"])
def test_other_paths_are_the_applications(target: bytes) -> None:
    rules = Policy(scheme=b"http", port=80, address=b"", trust=NOBODY, redirect=None, probes={HEALTH: lambda: True})
    assert Sent(parse(start=b"GET %b HTTP/1.1" % target), STRANGER, rules).target == target
