from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge_certs.acme import AcmeProblem, Answer, Call, Resource
from edge_certs.acme_order import MAX_ALTERNATES, Action, Issued, Order, Present, State, Wait
from edge_certs.challenges import DNS_01, DNS_PERSIST_01, HTTP_01, TLS_ALPN_01, Challenge
from edge_certs.errors import CertificateError
from tests.certs.forge import NOW
from tests.certs.ordering import (
    CHAIN,
    CREATED,
    CSR,
    KEY,
    ORDER_URL,
    PENDING,
    PROCESSING,
    READY,
    SECOND,
    VALID,
    answer,
    authorization,
    problem,
    tell,
    validated,
    wanted,
)


def test_order_goes_its_whole_way() -> None:
    order = Order(wanted(), KEY)
    now = NOW
    create = Call(Resource.NEW_ORDER, {"identifiers": [{"type": "dns", "value": "shop.example"}]})
    assert order.next(now) == create
    order.receive(CREATED, now)
    assert order.next(now) == Call("https://ca.test/authz/1")
    order.receive(answer(authorization()), now)
    assert order.next(now) == Present((Challenge(HTTP_01, "shop.example", "t-http-01", f"t-http-01.{KEY.thumbprint}"),))
    order.presented()
    assert order.next(now) == Call("https://ca.test/http-01", {})
    order.receive(answer({"status": "processing"}, retry=2 * SECOND), now)
    assert order.next(now) == Wait(now + 2 * SECOND)
    now += 2 * SECOND
    assert order.next(now) == Call("https://ca.test/authz/1")
    order.receive(answer(authorization()), now)
    assert order.next(now) == Wait(now + SECOND)
    now += SECOND
    order.receive(answer(authorization("valid")), now)
    assert order.next(now) == Call(ORDER_URL)
    order.receive(answer(READY), now)
    assert order.next(now) == Call("https://ca.test/finalize/1", CSR)
    order.receive(answer(PROCESSING, retry=3 * SECOND), now)
    assert order.next(now) == Wait(now + 3 * SECOND)
    now += 3 * SECOND
    assert order.next(now) == Call(ORDER_URL)
    order.receive(answer(VALID), now)
    assert order.next(now) == Call("https://ca.test/chain/1", accept="application/pem-certificate-chain")
    order.receive(answer(CHAIN), now)
    assert order.next(now) == Issued(CHAIN)
    assert order.state is State.DONE


def test_new_order_says_all_that_is_wanted() -> None:
    order = Order(wanted("shop.example", "192.0.2.1", profile="shortlived", replaces="a.b"), KEY)
    identifiers = [{"type": "dns", "value": "shop.example"}, {"type": "ip", "value": "192.0.2.1"}]
    expected = {"identifiers": identifiers, "profile": "shortlived", "replaces": "a.b"}
    assert order.next(NOW) == Call(Resource.NEW_ORDER, expected)


def test_name_that_is_proven_already_shows_nothing() -> None:
    order = validated(Order(wanted(), KEY))
    assert order.next(NOW) == Call(ORDER_URL)


def test_each_name_is_proven_and_triggered_once() -> None:
    order = Order(wanted("a.example", "b.example", "c.example"), KEY)
    urls = [f"https://ca.test/authz/{number}" for number in range(3)]
    created = answer({**PENDING, "authorizations": urls}, location=ORDER_URL)
    proofs = [authorization(name="a.example"), authorization("valid", "b.example"), authorization(name="c.example")]
    tell(order, created, *map(answer, proofs))
    shown = order.next(NOW)
    assert isinstance(shown, Present)
    assert [challenge.name for challenge in shown.challenges] == ["a.example", "c.example"]
    order.presented()
    for _ in range(2):
        assert order.next(NOW) == Call("https://ca.test/http-01", {})
        order.receive(answer({}), NOW)
    later = NOW + SECOND
    asked: list[Action] = []
    for _ in range(2):
        asked.append(order.next(later))
        order.receive(answer(authorization("valid")), later)
    assert asked == [Call(urls[0]), Call(urls[2])]
    assert order.next(later) == Call(ORDER_URL)


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "other.example", "*.shop.example", "shop.example\n", ""])
def test_proof_for_a_name_that_was_not_asked_for_is_refused(name: str) -> None:
    # The name becomes a file's: an authority must not choose where we write.
    order = Order(wanted("shop.example", "*.a.example"), KEY)
    with pytest.raises(CertificateError) as caught:
        tell(order, CREATED, answer(authorization(name=name)))
    expected = f"the authority wants a proof for {name!r}, which was not asked for; try again later"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("kinds", "name", "wildcard", "chosen"),
    [
        ((TLS_ALPN_01, HTTP_01), "shop.example", False, TLS_ALPN_01),
        ((HTTP_01, TLS_ALPN_01), "shop.example", False, HTTP_01),
        ((DNS_01, HTTP_01), "shop.example", False, DNS_01),
        ((HTTP_01, TLS_ALPN_01, DNS_01), "shop.example", True, DNS_01),
        ((DNS_01, TLS_ALPN_01), "192.0.2.1", False, TLS_ALPN_01),
        (("dns-unheard-01", HTTP_01), "shop.example", False, HTTP_01),
    ],
)
def test_first_kind_that_can_prove_the_name_is_chosen(
    kinds: tuple[str, ...], name: str, wildcard: bool, chosen: str
) -> None:
    order = Order(wanted(name, kinds=kinds), KEY)
    tell(order, CREATED, answer(authorization(name=name, wildcard=wildcard)))
    shown = order.next(NOW)
    assert isinstance(shown, Present)
    assert [challenge.kind for challenge in shown.challenges] == [chosen]


@pytest.mark.parametrize(
    ("kinds", "name", "message"),
    [
        (
            (DNS_01,),
            "192.0.2.1",
            "192.0.2.1: the authority offers 'http-01' and 'tls-alpn-01', this server is set up for 'dns-01'; "
            "set up http-01",
        ),
        (
            (),
            "shop.example",
            "shop.example: the authority offers 'http-01' and 'tls-alpn-01' and 'dns-01', "
            "this server is set up for nothing that fits the name; set up http-01",
        ),
    ],
)
def test_name_that_cannot_be_proven_is_refused(kinds: tuple[str, ...], name: str, message: str) -> None:
    order = Order(wanted(name, kinds=kinds), KEY)
    with pytest.raises(CertificateError) as caught:
        tell(order, CREATED, answer(authorization(name=name)))
    assert str(caught.value) == message


def test_authority_that_offers_nothing_usable_is_said() -> None:
    order = Order(wanted(), KEY)
    offered = {**authorization(), "challenges": ["nonsense", {"type": "other-01"}]}
    with pytest.raises(CertificateError, match=r"offers nothing that fits the name, this .*; set up dns-01$"):
        tell(order, CREATED, answer(offered))


def test_challenge_that_runs_already_is_not_triggered_again() -> None:
    order = Order(wanted(), KEY)
    running = authorization()
    running["challenges"][0]["status"] = "processing"
    tell(order, CREATED, answer(running))
    assert isinstance(order.next(NOW), Present)
    order.presented()
    assert order.next(NOW) == Call("https://ca.test/authz/1")


def test_order_that_is_not_ready_at_finalize_is_waited_for() -> None:
    order = validated(Order(wanted(), KEY))
    tell(order, answer(READY))
    order.refuse(problem("orderNotReady", 403), NOW)
    assert order.next(NOW) == Wait(NOW + SECOND)
    assert order.next(NOW + SECOND) == Call(ORDER_URL)


def test_failed_proof_says_the_reason_of_the_authority() -> None:
    order = Order(wanted(), KEY)
    failed = authorization("invalid")
    failed["challenges"][0]["error"] = {"type": "urn:ietf:params:acme:error:connection", "detail": "refused"}
    tell(order, CREATED, answer(authorization()), answer({}))
    with pytest.raises(CertificateError) as caught:
        order.receive(answer(failed), NOW + SECOND)
    assert str(caught.value) == (
        "shop.example: http-01: the authority reports connection: 'refused'; "
        "let the authority reach this server on port 80 for http-01, on port 443 for tls-alpn-01"
    )


def test_failed_order_says_the_reason_of_the_authority() -> None:
    order = validated(Order(wanted(), KEY))
    error = {"type": "urn:ietf:params:acme:error:caa", "detail": "not for us"}
    with pytest.raises(CertificateError, match=r"^the authority reports caa: 'not for us'; let the CAA"):
        tell(order, answer({"status": "invalid", "error": error}))


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([answer(PENDING)], "the authority's answer to newOrder has no Location"),
        ([answer({}, location=ORDER_URL)], "the order is 'None', and the authority does not say why"),
        ([answer(without(PENDING, "finalize"), location=ORDER_URL)], "the authority's answer has no 'finalize'"),
        ([answer({**PENDING, "authorizations": []}, location=ORDER_URL)], "answer has no 'authorizations'"),
        ([answer(b"<html>", location=ORDER_URL)], "the authority answered 200 that is not a JSON object"),
        ([CREATED, answer(without(authorization(), "identifier"))], "the authority wants a proof for '', which"),
        (
            [CREATED, answer(authorization("expired"))],
            "shop.example: the authorization is 'expired', and the authority",
        ),
        ([CREATED, answer({**authorization(), "challenges": 1})], "shop.example: the authority's answer has no 'chal"),
        (
            [CREATED, answer(authorization("valid")), answer(without(VALID, "certificate"))],
            "answer has no 'certificate'",
        ),
    ],
)
def test_answer_that_makes_no_sense_is_refused(answers: list[Answer], message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        tell(Order(wanted(), KEY), *answers)
    assert message in str(caught.value)


def saved_after(*answers: Answer, **more: Any) -> str:
    order = Order(wanted(**more), KEY)
    tell(order, *answers)
    return order.saved()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (PENDING, Call("https://ca.test/authz/1")),
        (READY, Call("https://ca.test/finalize/1", CSR)),
        (PROCESSING, Wait(NOW + SECOND)),
        (VALID, Call("https://ca.test/chain/1", accept="application/pem-certificate-chain")),
        ({"status": "invalid"}, Order(wanted(), KEY).next(NOW)),
    ],
)
def test_order_goes_on_where_the_authority_says_it_is(status: dict[str, Any], expected: Action) -> None:
    order = Order(wanted(), KEY, saved_after(CREATED))
    assert order.next(NOW) == Call(ORDER_URL)
    order.receive(answer(status), NOW)
    assert order.next(NOW) == expected


@pytest.mark.parametrize("status", [403, 404, 410])
def test_order_that_the_authority_has_forgotten_is_made_anew(status: int) -> None:
    order = Order(wanted(), KEY, saved_after(CREATED))
    order.refuse(problem("malformed", status), NOW)
    assert order.next(NOW) == Order(wanted(), KEY).next(NOW)


@pytest.mark.parametrize(
    "saved",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        saved_after(),
        json.dumps({"names": ["other.example"], "profile": None, "url": ORDER_URL}),
        json.dumps({"names": ["shop.example"], "profile": "shortlived", "url": ORDER_URL}),
        json.dumps({"names": ["shop.example"], "profile": None, "url": 7}),
    ],
)
def test_what_was_saved_for_another_order_is_not_taken(saved: str | None) -> None:
    assert Order(wanted(), KEY, saved).next(NOW) == Order(wanted(), KEY).next(NOW)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("alreadyReplaced", 409), ("unauthorized", 403), ("malformed", 404), ("malformed", 400)],
    ids=["replaced already", "of another account", "unknown", "for other names"],
)
def test_certificate_that_cannot_be_replaced_is_ordered_without_saying_so(kind: str, status: int) -> None:
    order = Order(wanted(replaces="a.b"), KEY)
    assert order.is_replacement
    order.refuse(problem(kind, status), NOW)
    assert order.next(NOW) == Order(wanted(), KEY).next(NOW)
    assert not order.is_replacement
    with pytest.raises(AcmeProblem):
        order.refuse(problem(kind, status), NOW)


@pytest.mark.parametrize(("kind", "status"), [("rateLimited", 429), ("rateLimited", 403), ("serverInternal", 500)])
def test_limit_is_no_word_about_what_is_replaced(kind: str, status: int) -> None:
    order = Order(wanted(replaces="a.b"), KEY)
    with pytest.raises(AcmeProblem):
        order.refuse(problem(kind, status), NOW)
    assert order.is_replacement


@pytest.mark.parametrize(
    "begin",
    [
        lambda order: None,
        lambda order: tell(order, CREATED),
        validated,
        lambda order: tell(validated(order), answer(READY)),
    ],
)
def test_other_refusals_end_the_order(begin: Callable[[Order], object]) -> None:
    order = Order(wanted(), KEY)
    begin(order)
    refused = problem("rateLimited", 429)
    with pytest.raises(AcmeProblem) as caught:
        order.refuse(refused, NOW)
    assert caught.value is refused


def at_download(**more: Any) -> Order:
    order = validated(Order(wanted(**more), KEY))
    tell(order, answer(READY), answer(VALID))
    return order


def alternate(number: int) -> Call:
    return Call(f"https://ca.test/alt/{number}", accept="application/pem-certificate-chain")


ALTERNATES = tuple(f"https://ca.test/alt/{number}" for number in range(9))


def test_first_chain_is_taken_where_no_root_is_preferred() -> None:
    order = at_download()
    tell(order, answer(b"one", alternates=ALTERNATES))
    assert order.next(NOW) == Issued(b"one")


def test_first_chain_is_taken_where_it_has_the_preferred_root_or_no_rival() -> None:
    order = at_download(root="Shop.Example")
    tell(order, answer(CHAIN, alternates=ALTERNATES))
    assert order.next(NOW) == Issued(CHAIN)
    order = at_download(root="Shop.Example")
    tell(order, answer(b"one"))
    assert order.next(NOW) == Issued(b"one")


def test_alternate_with_the_preferred_root_is_taken() -> None:
    order = at_download(root="Shop.Example")
    tell(order, answer(b"one", alternates=ALTERNATES))
    assert order.next(NOW) == alternate(0)
    order.receive(answer(b"two"), NOW)
    assert order.next(NOW) == alternate(1)
    order.refuse(problem("serverInternal", 500), NOW)
    assert order.next(NOW) == alternate(2)
    order.receive(answer(CHAIN), NOW)
    assert order.next(NOW) == Issued(CHAIN)


def test_first_chain_is_taken_when_none_of_some_alternates_has_the_root() -> None:
    order = at_download(root="Nobody")
    tell(order, answer(CHAIN, alternates=ALTERNATES), *[answer(CHAIN)] * MAX_ALTERNATES)
    assert order.next(NOW) == Issued(CHAIN)


def persistent(**more: Any) -> dict[str, Any]:
    challenge = {"type": DNS_PERSIST_01, "url": "https://ca.test/persist", "status": "pending"}
    return {**authorization(), "challenges": [{**challenge, "issuer-domain-names": ["ca.test", "ca.example"], **more}]}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("shop.example",), "ca.test; accounturi=https://ca.test/acct/1"),
        (("shop.example", "*.shop.example"), "ca.test; accounturi=https://ca.test/acct/1; policy=wildcard"),
    ],
)
def test_standing_record_names_the_authority_and_the_account(names: tuple[str, ...], text: str) -> None:
    order = Order(wanted(*names, kinds=(DNS_PERSIST_01,), account="https://ca.test/acct/1"), KEY)
    tell(order, CREATED, answer(persistent()))
    present = order.next(NOW)
    assert isinstance(present, Present)
    [challenge] = present.challenges
    assert challenge.record == ("_validation-persist.shop.example", text)
    order.presented()
    assert order.next(NOW) == Call("https://ca.test/persist", {})


@pytest.mark.parametrize("issuers", [None, [], ["ca.test; x=y"], ["ca test"], ["ca.test\nx"]])
def test_authority_without_a_name_for_the_record_is_refused(issuers: object) -> None:
    order = Order(wanted(kinds=(DNS_PERSIST_01,)), KEY)
    with pytest.raises(CertificateError):
        tell(order, CREATED, answer(persistent(**{"issuer-domain-names": issuers})))
