"""The conversation with an ACME authority (RFC 8555): what is sent, and what an answer means. No I/O, no clock.

Theory of operation. A `Call` is one thing to ask for. `Session.encode` turns it into the request to send now, which is
the directory's or a nonce's as long as one of those is missing; `Session.receive` takes the reply and gives the call's
`Answer`, or None when `encode` is to be asked again. A nonce that the authority does not like costs one more turn;
every other refusal is raised as an `AcmeProblem`. The steps of an order are in `acme_order`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any
from urllib.parse import urljoin, urlsplit

from edge_certs.errors import CertificateError
from edge_certs.jws import CONTENT_TYPE, AccountKey, encode_request
from edge_certs.x509 import show_time

# Pebble refuses 5 % of good nonces: ten in a row are one in 10^13, and an authority that is broken.
MAX_NONCE_RETRIES = 10

# Let's Encrypt's details have 200 characters and its answer for a hundred names lists them all.
MAX_DETAIL = 400
MAX_SUBPROBLEMS = 5

# Of what else an authority sends, in a line of ours; a name has 253 octets at most.
MAX_SHOWN = 253

# More than a year is a mistake, and a date so far away an overflow.
MAX_RETRY_AFTER = timedelta(days=366)

# RFC 8555 section 6.5.1: base64url; the length is ours.
NONCE = re.compile(r"[A-Za-z0-9_-]{1,1024}")

CHECK_DIRECTORY = "check the URL of the authority's directory"

PROBLEM_PREFIX = "urn:ietf:params:acme:error:"


class Resource(Enum):
    """What the directory gives the URL of (RFC 8555 section 7.1.1, RFC 9773 section 4)."""

    NEW_NONCE = "newNonce"
    NEW_ACCOUNT = "newAccount"
    NEW_ORDER = "newOrder"
    REVOKE = "revokeCert"
    KEY_CHANGE = "keyChange"
    RENEWAL_INFO = "renewalInfo"


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to ask for: by POST-as-GET without a `payload`, by plain GET when not `signed`.

    `path` is added to the URL of a `Resource`. With a `key`, that one signs and is shown instead of the account.
    """

    target: Resource | str
    payload: Mapping[str, object] | None = None
    path: str = ""
    signed: bool = True
    key: AccountKey | None = None
    accept: str = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to send as it stands."""

    method: str
    url: str
    fields: tuple[tuple[str, str], ...]
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response: field names in lower case, content complete."""

    status: int
    fields: Sequence[tuple[str, str]]
    content: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of the field lines called `name`, in order."""
        return [value for field_name, value in self.fields if field_name == name]

    def first(self, name: str) -> str:
        """Return the first value of the field `name`, or an empty text."""
        return next(iter(self.values(name)), "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that is a success: `location` is absolute or empty, `retry_after` from when it was received."""

    status: int
    content: bytes
    location: str
    alternates: tuple[str, ...]
    retry_after: timedelta | None

    def parse(self) -> dict[str, Any]:
        """Return the content, which is a JSON object.

        Raises CertificateError: it is something else.
        """
        return _parse_object(self.content, f"answered {self.status}")


@dataclass(frozen=True, slots=True)
class Directory:
    """The URLs of an authority and what it says of itself (RFC 8555 section 7.1.1)."""

    urls: Mapping[Resource, str]
    profiles: tuple[str, ...]
    needs_binding: bool
    terms: str


class AcmeProblem(CertificateError):
    """The authority said no (RFC 7807): `kind` is such as "rateLimited", empty when it did not say.

    `retry_at`, in UTC, is before when it wants no other attempt; None when it did not say.
    """

    def __init__(self, found: str, advice: str, *, kind: str, status: int, retry_at: datetime | None) -> None:
        super().__init__(found, advice)
        self.kind = kind
        self.status = status
        self.retry_at = retry_at

    @property
    def blames_request(self) -> bool:
        """True when another request might be granted: neither a limit nor the authority itself is in the way."""
        return 400 <= self.status < 500 and self.status != 429 and self.kind != "rateLimited"

    def named(self, subject: str) -> AcmeProblem:
        """Return the same problem with `subject` in front."""
        found = f"{subject}: {self.found}"
        return AcmeProblem(found, self.advice, kind=self.kind, status=self.status, retry_at=self.retry_at)


# What an operator can do about it, by the error types of RFC 8555 section 6.7 and of the drafts in use.
ADVICE = {
    "accountDoesNotExist": "remove the account's folder, so that a new account is made",
    "alreadyReplaced": "order without naming the certificate that is replaced",
    "badCSR": "name another key type",
    "badPublicKey": "name another key type",
    "caa": "let the CAA records of the name allow this authority, or remove them",
    "connection": "let the authority reach this server on port 80 for http-01, on port 443 for tls-alpn-01",
    "dns": "let the name's A and AAAA records point to this server",
    "externalAccountRequired": "give the key identifier and the MAC key that the authority gave you",
    "incorrectResponse": "let the name's records and the ports 80 and 443 lead to this server and to no other",
    "invalidContact": "name another e-mail address",
    "invalidProfile": "name one of the authority's profiles, or none",
    "rejectedIdentifier": "ask for other names: this authority does not sign for these",
    "serverInternal": "try again later: the fault is the authority's",
    "tls": "let nothing else answer TLS on port 443 for this name",
    "unauthorized": "let the name's records and the ports 80 and 443 lead to this server and to no other",
    "unsupportedContact": "name an e-mail address as the contact",
    "userActionRequired": "agree to the authority's new terms",
}


@dataclass(slots=True)
class Session:
    """The account at one authority: what is known of its directory, its nonces, and how to sign."""

    directory_url: str
    key: AccountKey = field(repr=False)
    account: str | None = None
    directory: Directory | None = None
    _nonces: list[str] = field(default_factory=list, repr=False)
    _sent: Resource | Call | None = field(default=None, repr=False)
    _refused_nonces: int = 0

    def encode(self, call: Call) -> Request:
        """Return the request to send now so that `call` gets its answer.

        Raises CertificateError: the authority does not offer it, or wants it over something else than HTTPS.
        """
        if self.directory is None:
            self._sent = None
            return Request("GET", _secure(self.directory_url), (("accept", "application/json"),))
        url = _secure(self._url(call, self.directory))
        accept = ("accept", call.accept)
        if not call.signed:
            self._sent = call
            return Request("GET", url, (accept,))
        if not self._nonces:
            self._sent = Resource.NEW_NONCE
            return Request("HEAD", _secure(self.directory.urls[Resource.NEW_NONCE]), ())
        self._sent = call
        return Request("POST", url, (accept, ("content-type", CONTENT_TYPE)), self._sign(call, url))

    def receive(self, reply: Reply, now: datetime) -> Answer | None:
        """Return the answer to the call that was encoded last, or None: encode it again. `now` is in UTC.

        Raises AcmeProblem: the authority refused. Raises CertificateError: what it answered makes no sense.
        """
        nonce = reply.first("replay-nonce")
        # RFC 8555 section 6.5.1: one that is not base64url is none.
        if NONCE.fullmatch(nonce):
            # One is enough, and the newest lives longest.
            self._nonces = [nonce]
        sent, self._sent = self._sent, None
        if reply.status >= 300:
            self._refuse(reply, now)
            return None
        if sent is None:
            self.directory = parse_directory(reply.content)
            return None
        if isinstance(sent, Resource):
            if not self._nonces:
                raise CertificateError("the authority's answer to newNonce has no nonce in it", CHECK_DIRECTORY)
            return None
        self._refused_nonces = 0
        return _answer(reply, str(self._url(sent, self.directory)) if self.directory else "", now)

    def _url(self, call: Call, directory: Directory) -> str:
        if isinstance(call.target, str):
            return call.target
        url = directory.urls.get(call.target)
        if url is None:
            raise CertificateError(f"the authority's directory has no {call.target.value!r}", "do without it")
        return f"{url}/{call.path}" if call.path else url

    def _sign(self, call: Call, url: str) -> bytes:
        payload = b"" if call.payload is None else json.dumps(call.payload).encode("utf-8")
        nonce = self._nonces.pop()
        if call.key is not None:
            return encode_request(call.key, payload, url=url, nonce=nonce, account=None)
        if self.account is None:
            raise CertificateError("there is no account yet", "make one first")
        return encode_request(self.key, payload, url=url, nonce=nonce, account=self.account)

    def _refuse(self, reply: Reply, now: datetime) -> None:
        problem = parse_problem(reply, now)
        if problem.kind == "badNonce" and self._refused_nonces < MAX_NONCE_RETRIES:
            self._refused_nonces += 1
            return
        self._refused_nonces = 0
        raise problem


def parse_directory(content: bytes) -> Directory:
    """Return what the content of a directory says; an authority without renewalInfo is a complete one.

    Raises CertificateError: it is not JSON, as behind a login page, or lacks what an order needs.
    """
    found = _parse_object(content, "sent a directory")
    urls = {resource: found[resource.value] for resource in Resource if isinstance(found.get(resource.value), str)}
    needed = (Resource.NEW_NONCE, Resource.NEW_ACCOUNT, Resource.NEW_ORDER)
    if missing := [resource.value for resource in needed if resource not in urls]:
        raise CertificateError(f"the authority's directory has no {missing[0]!r}", CHECK_DIRECTORY)
    meta = found.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    profiles = meta.get("profiles")
    return Directory(
        urls,
        profiles=tuple(map(str, profiles)) if isinstance(profiles, dict) else (),
        needs_binding=meta.get("externalAccountRequired") is True,
        terms=str(meta.get("termsOfService", "")),
    )


def parse_problem(reply: Reply, now: datetime) -> AcmeProblem:
    """Return what `reply`, which is no success, says in one line; `now` is in UTC."""
    retry_after = parse_retry_after(reply.first("retry-after"), now)
    retry_at = None if retry_after is None else now + retry_after
    document = parse_json(reply.content)
    if isinstance(document, dict):
        return problem_from(document, reply.status, retry_at)
    media = reply.first("content-type").partition(";")[0].strip()
    found = f"the authority answered {reply.status} with {media!r}, not with a problem document"
    advice = _advice("", retry_at) if reply.status >= 500 or reply.status == 429 else CHECK_DIRECTORY
    return AcmeProblem(found, advice, kind="", status=reply.status, retry_at=retry_at)


def problem_from(document: Mapping[str, Any], status: int, retry_at: datetime | None) -> AcmeProblem:
    """Return a problem document as one line; it is also found inside an authorization or an order (status 0)."""
    kind = str(document.get("type", "")).removeprefix(PROBLEM_PREFIX)[:MAX_SHOWN]
    # The type is the authority's text: only its name goes into a line that others read by machine.
    shown = kind if kind.isalnum() and kind.isascii() else repr(kind)
    answered = f"answered {status} {shown}" if status else f"reports {shown}"
    detail = _shorten(document.get("detail", ""))
    found = f"the authority {answered}: {detail}{_subproblems(document.get('subproblems'))}"
    return AcmeProblem(found, _advice(kind, retry_at), kind=kind, status=status, retry_at=retry_at)


def parse_retry_after(value: str, now: datetime) -> timedelta | None:
    """Return what a Retry-After field asks for, never negative; None when it is absent or cannot be read."""
    if value.isascii() and value.isdigit():
        # Nine digits are 31 years: no number that Python would not read, and none that a date cannot hold.
        return min(timedelta(seconds=int(value[:9])), MAX_RETRY_AFTER)
    at = parse_date(value)
    return None if at is None else min(max(at - now, timedelta(0)), MAX_RETRY_AFTER)


def parse_date(value: str) -> datetime | None:
    """Return the instant of a Date or Retry-After field (RFC 9110 section 5.6.7), None when it cannot be read."""
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # "-0000" gives one without a zone; an HTTP date is always in UTC.
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parse_json(content: bytes) -> object:
    """Return what is in JSON `content`, None when it is something else, or nested as deeply as only an attack is."""
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value


def _answer(reply: Reply, url: str, now: datetime) -> Answer:
    location = reply.first("location")
    return Answer(
        status=reply.status,
        content=reply.content,
        location=_absolute(url, location) if location else "",
        alternates=tuple(_absolute(url, link) for link in _links(reply, "alternate")),
        retry_after=parse_retry_after(reply.first("retry-after"), now),
    )


def _links(reply: Reply, relation: str) -> list[str]:
    """The targets of Link fields (RFC 8288) with this relation."""
    found = []
    for link in (link for value in reply.values("link") for link in value.split(",")):
        target, _, parameters = (part.strip() for part in link.partition(";"))
        relations = [part.strip().lower().replace('"', "") for part in parameters.split(";")]
        if target.startswith("<") and target.endswith(">") and f"rel={relation}" in relations:
            found.append(target[1:-1])
    return found


def _absolute(base: str, link: str) -> str:
    try:
        return urljoin(base, link)
    except ValueError:
        return link  # whoever asks there is told what is wrong with it


def _secure(url: str) -> str:
    """A signed request in the clear would let anybody on the way answer in the authority's name."""
    try:
        parts = urlsplit(url)
        is_https, is_whole = parts.scheme == "https", bool(parts.hostname and parts.port != 0)
    except ValueError:
        is_https, is_whole = True, False
    if not is_https:
        raise CertificateError(f"the authority's URL {url[:MAX_SHOWN]!r}: not https", CHECK_DIRECTORY)
    if not is_whole or not url.isascii() or not url.isprintable():
        raise CertificateError(f"the authority's URL {url[:MAX_SHOWN]!r}: not one that can be asked", CHECK_DIRECTORY)
    return url


def _parse_object(content: bytes, what: str) -> dict[str, Any]:
    value = parse_json(content)
    if not isinstance(value, dict):
        raise CertificateError(f"the authority {what} that is not a JSON object", CHECK_DIRECTORY)
    return value


def _subproblems(subproblems: object) -> str:
    """One for each name that is at fault (RFC 8555 section 6.7.1)."""
    if not isinstance(subproblems, list):
        return ""
    parts = []
    for sub in subproblems[:MAX_SUBPROBLEMS]:
        if isinstance(sub, dict):
            identifier = sub.get("identifier")
            name = identifier.get("value") if isinstance(identifier, dict) else None
            detail = _shorten(sub.get("detail", ""))
            parts.append(f"{_shorten(name)} {detail}" if name else detail)
    return f" ({', '.join(parts)})" if parts else ""


def _shorten(detail: object) -> str:
    """The authority's own words as one line: `repr` keeps control characters and line ends out of logs."""
    text = str(detail)
    return repr(text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]}...")


def _advice(kind: str, retry_at: datetime | None) -> str:
    if retry_at is not None:
        return f"next try not before {show_time(retry_at)}"
    if kind == "rateLimited":
        return "try again later, and with fewer orders"
    return ADVICE.get(kind, "try again later")
