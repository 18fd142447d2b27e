from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_certs.acme import (
    MAX_NONCE_RETRIES,
    AcmeProblem,
    Answer,
    Call,
    Reply,
    Request,
    Resource,
    Session,
    parse_directory,
    parse_problem,
    parse_retry_after,
)
from edge_certs.errors import CertificateError
from edge_certs.jws import AccountKey, parse_base64url

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
KEY = AccountKey.generate()
DIRECTORY = {
    "newNonce": "https://ca.test/nonce",
    "newAccount": "https://ca.test/account",
    "newOrder": "https://ca.test/order",
    "renewalInfo": "https://ca.test/ari",
    "meta": {
        "termsOfService": "https://ca.test/terms",
        "profiles": {"classic": "..."},
        "externalAccountRequired": True,
    },
}
ORDER = Call(Resource.NEW_ORDER, {"a": 1})


def reply(status: int = 200, content: object = None, **fields: str) -> Reply:
    body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return Reply(status, [(name.replace("_", "-"), value) for name, value in fields.items()], body)


def problem(kind: str, status: int = 400, detail: str = "because", **fields: str) -> Reply:
    return reply(status, {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}, **fields)


def session(account: str | None = "https://ca.test/account/1") -> Session:
    """A session that has read its directory and has the nonce n1."""
    begun = Session("https://ca.test/dir", KEY, account)
    begun.encode(ORDER)
    assert begun.receive(reply(content=DIRECTORY, replay_nonce="n1"), NOW) is None
    return begun


def header_of(request: Request) -> dict[str, Any]:
    header = json.loads(parse_base64url(json.loads(request.content)["protected"]))
    assert isinstance(header, dict)
    return header


def test_directory_comes_first_then_a_nonce_then_the_call() -> None:
    begun = Session("https://ca.test/dir", KEY, "https://ca.test/account/1")
    assert begun.encode(ORDER) == Request("GET", "https://ca.test/dir", (("accept", "application/json"),))
    assert begun.receive(reply(content=DIRECTORY), NOW) is None
    assert begun.encode(ORDER) == Request("HEAD", "https://ca.test/nonce", ())
    assert begun.receive(reply(replay_nonce="n1"), NOW) is None
    request = begun.encode(ORDER)
    assert (request.method, request.url) == ("POST", "https://ca.test/order")
    assert ("content-type", "application/jose+json") in request.fields
    header = header_of(request)
    assert (header["nonce"], header["kid"]) == ("n1", "https://ca.test/account/1")
    assert json.loads(parse_base64url(json.loads(request.content)["payload"])) == {"a": 1}
    answer = begun.receive(reply(201, {"status": "pending"}, location="/order/1", retry_after="7"), NOW)
    assert answer == Answer(201, b'{"status": "pending"}', "https://ca.test/order/1", (), timedelta(seconds=7))


def test_nonce_of_an_answer_is_used_once() -> None:
    begun = session()
    assert header_of(begun.encode(ORDER))["nonce"] == "n1"
    begun.receive(reply(replay_nonce="n2"), NOW)
    assert header_of(begun.encode(ORDER))["nonce"] == "n2"
    begun.receive(reply(), NOW)
    assert begun.encode(ORDER).method == "HEAD"


def test_post_as_get_has_an_empty_payload() -> None:
    request = session().encode(Call("https://ca.test/order/1", accept="text/x"))
    assert json.loads(request.content)["payload"] == ""
    assert ("accept", "text/x") in request.fields


def test_call_with_a_key_shows_it_instead_of_the_account() -> None:
    other = AccountKey.generate()
    header = header_of(session().encode(Call(Resource.NEW_ACCOUNT, {}, key=other)))
    assert header["jwk"] == other.jwk
    assert "kid" not in header


def test_call_that_is_not_signed_needs_no_nonce() -> None:
    begun = session()
    call = Call(Resource.RENEWAL_INFO, path="id.1", signed=False)
    assert begun.encode(call) == Request("GET", "https://ca.test/ari/id.1", (("accept", "application/json"),))
    assert begun.receive(reply(content={"a": 1}), NOW) is not None


def test_nonce_that_is_refused_is_replaced_by_the_one_in_the_refusal() -> None:
    begun = session()
    begun.encode(ORDER)
    assert begun.receive(problem("badNonce", replay_nonce="n2"), NOW) is None
    assert header_of(begun.encode(ORDER))["nonce"] == "n2"
    assert begun.receive(reply(201), NOW) is not None


def test_authority_that_refuses_every_nonce_is_given_up() -> None:
    begun = session()
    for number in range(MAX_NONCE_RETRIES):
        begun.encode(ORDER)
        assert begun.receive(problem("badNonce", replay_nonce=f"n{number}"), NOW) is None
    begun.encode(ORDER)
    with pytest.raises(AcmeProblem, match=r"^the authority answered 400 badNonce: 'because'; try again later$"):
        begun.receive(problem("badNonce", replay_nonce="n"), NOW)


def test_account_is_needed_first() -> None:
    with pytest.raises(CertificateError, match=r"^there is no account yet; make one first$"):
        session(None).encode(ORDER)


def test_what_the_directory_lacks_is_named() -> None:
    with pytest.raises(CertificateError, match=r"^the authority's directory has no 'revokeCert'; do without it$"):
        session().encode(Call(Resource.REVOKE))


def test_answer_without_a_nonce_is_refused() -> None:
    begun = Session("https://ca.test/dir", KEY, "a")
    begun.encode(ORDER)
    begun.receive(reply(content=DIRECTORY), NOW)
    begun.encode(ORDER)
    with pytest.raises(
        CertificateError, match=r"^the authority's answer to newNonce has no nonce in it; check the URL"
    ):
        begun.receive(reply(), NOW)


@pytest.mark.parametrize("url", ["http://ca.test/dir", "ftp://ca.test", "ca.test/dir", ""])
def test_url_that_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(CertificateError, match=rf"^the authority's URL '{url}': not https; check the URL"):
        Session(url, KEY).encode(ORDER)
    with pytest.raises(CertificateError, match="not https"):
        session().encode(Call(url))


@pytest.mark.parametrize(
    "url",
    ["https://", "https:///dir", "https://[::1", "https://ca.test:99999/", "https://ca.test:0/", "https://ca.test:x/",
     "https://ca.test/\0", "https://c\r\na.test/", "https://ä.test/", "https://ca.test/" + "ä" * 100_000],
)  # fmt: skip
def test_url_that_nobody_can_ask_is_refused_in_a_short_line(url: str) -> None:
    with pytest.raises(CertificateError, match=r"^the authority's URL 'https:.*: not one that can be asked;") as caught:
        session().encode(Call(url))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("nonce", ["no nonce", "a=b", "ä", "n" * 1025])
def test_nonce_that_is_none_is_not_used(nonce: str) -> None:
    begun = Session(
        "https://ca.test/dir",
        KEY,
        "https://ca.test/account/1",
        directory=parse_directory(json.dumps(DIRECTORY).encode()),
    )
    begun.encode(ORDER)
    with pytest.raises(CertificateError, match=r"^the authority's answer to newNonce has no nonce in it"):
        begun.receive(Reply(200, [("replay-nonce", nonce)], b""), NOW)


def test_link_that_is_no_url_is_left_to_whoever_asks_there() -> None:
    begun = session()
    begun.encode(ORDER)
    answer = begun.receive(Reply(200, [("replay-nonce", "n2"), ("location", "https://[::1")], b"{}"), NOW)
    assert answer is not None
    assert answer.location == "https://[::1"


def test_alternates_are_found_among_the_links() -> None:
    begun = session()
    begun.encode(ORDER)
    fields = [
        ("link", '<https://ca.test/dir>;rel="index"'),
        ("link", '</chain/1>;rel="alternate", <https://ca.test/chain/2> ; REL=alternate ; title="x"'),
        ("link", "broken;rel=alternate"),
        ("link", '<https://ca.test/chain/3>'),
    ]  # fmt: skip
    answer = begun.receive(Reply(200, fields, b"chain"), NOW)
    assert answer is not None
    assert answer.alternates == ("https://ca.test/chain/1", "https://ca.test/chain/2")


def test_directory_says_what_the_authority_can_do() -> None:
    directory = parse_directory(json.dumps(DIRECTORY).encode())
    assert directory.profiles == ("classic",)
    assert directory.needs_binding
    assert directory.terms == "https://ca.test/terms"
    assert set(directory.urls) == {
        Resource.NEW_NONCE,
        Resource.NEW_ACCOUNT,
        Resource.NEW_ORDER,
        Resource.RENEWAL_INFO,
    }


@pytest.mark.parametrize("meta", [None, [], {"profiles": ["x"], "externalAccountRequired": "yes"}])
def test_directory_without_more_is_complete(meta: object) -> None:
    directory = parse_directory(json.dumps({**DIRECTORY, "meta": meta}).encode())
    assert (directory.profiles, directory.needs_binding, directory.terms) == ((), False, "")


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>", b"[]", b"\xff"])
def test_page_instead_of_a_directory_is_refused(content: bytes) -> None:
    with pytest.raises(CertificateError) as caught:
        parse_directory(content)
    message = "the authority sent a directory that is not a JSON object; check the URL of the authority's directory"
    assert str(caught.value) == message


@pytest.mark.parametrize("missing", ["newNonce", "newAccount", "newOrder"])
def test_directory_without_what_an_order_needs_is_refused(missing: str) -> None:
    with pytest.raises(CertificateError, match=f"^the authority's directory has no '{missing}'; check the URL"):
        parse_directory(json.dumps({**DIRECTORY, missing: 1}).encode())


def test_answer_that_is_not_json_is_refused() -> None:
    with pytest.raises(CertificateError, match=r"^the authority answered 201 that is not a JSON object"):
        Answer(201, b"<html>", "", (), None).parse()


def test_rate_limit_says_when_to_come_again() -> None:
    refused = parse_problem(problem("rateLimited", 429, "too many orders", retry_after="3600"), NOW)
    expected = "the authority answered 429 rateLimited: 'too many orders'; next try not before 2027-03-01T13:00Z"
    assert str(refused) == expected
    assert (refused.kind, refused.status, refused.retry_at) == ("rateLimited", 429, NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("answered", "message"),
    [
        (
            problem("rateLimited", 429),
            "the authority answered 429 rateLimited: 'because'; try again later, and with fewer orders",
        ),
        (
            problem("dns", detail="NXDOMAIN\nlooking up A"),
            "the authority answered 400 dns: 'NXDOMAIN\\nlooking up A'; "
            "let the name's A and AAAA records point to this server",
        ),
        (reply(400, {"type": "https://a/b"}), "the authority answered 400 'https://a/b': ''; try again later"),
        (
            reply(502, b"<html>", content_type="text/html; charset=utf-8"),
            "the authority answered 502 with 'text/html', not with a problem document; try again later",
        ),
        (
            reply(503, b"[]", retry_after="60"),
            "the authority answered 503 with '', not with a problem document; next try not before 2027-03-01T12:01Z",
        ),
        (
            reply(302, b"", content_type="text/html"),
            "the authority answered 302 with 'text/html', not with a problem document; "
            "check the URL of the authority's directory",
        ),
    ],
)  # fmt: skip
def test_refusal_is_one_line(answered: Reply, message: str) -> None:
    assert str(parse_problem(answered, NOW)) == message


def test_names_at_fault_are_in_the_line() -> None:
    document = {
        "type": "urn:ietf:params:acme:error:rejectedIdentifier",
        "detail": "no",
        "subproblems": [
            {"identifier": {"type": "dns", "value": "a.test"}, "detail": "is not public"},
            {"detail": "and more"},
            "nonsense",
        ],
    }
    line = str(parse_problem(reply(403, document), NOW))
    assert line.startswith(
        "the authority answered 403 rejectedIdentifier: 'no' ('a.test' 'is not public', 'and more'); "
    )


@pytest.mark.parametrize("subproblems", [[], {}, "x", ["x"]])
def test_subproblems_that_make_no_sense_are_left_out(subproblems: object) -> None:
    document = {"type": "urn:ietf:params:acme:error:caa", "detail": "no", "subproblems": subproblems}
    assert "answered 403 caa: 'no'; let the CAA" in str(parse_problem(reply(403, document), NOW))


def test_long_detail_is_cut() -> None:
    line = str(parse_problem(problem("malformed", detail="x" * 10_000), NOW))
    assert len(line) < 500
    assert "xxx...'" in line


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("999999999999", 366 * 86400),
        ("Mon, 01 Mar 2027 12:00:30 GMT", 30),
        ("Mon, 01 Mar 2027 12:00:30 -0000", 30),
        ("Mon, 01 Mar 2027 11:00:00 GMT", 0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 366 * 86400),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        (f"Mon, 01 Mar 2027 12:00:30 +{'9' * 30}", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert parse_retry_after(value, NOW) == expected


def test_session_does_not_show_its_secrets() -> None:
    assert "n1" not in repr(session())
    assert "key" not in repr(session())
