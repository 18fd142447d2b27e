"""One order of a certificate (RFC 8555 section 7.4) as a state machine: no I/O, no clock.

Theory of operation. `next` says what to do now: make a `Call` and hand its answer to `receive` (or the refusal to
`refuse`), `Wait` until an instant, `Present` the answers to challenges and then call `presented`, or take the `Issued`
chain. The authority knows the state of an order better than anybody: what must survive a crash is the order's URL
(`saved`) and the key of the certificate. An order that is resumed starts by reading it, and goes on where that leads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeGuard

from edge_certs.acme import MAX_SHOWN, AcmeProblem, Answer, Call, Resource, problem_from
from edge_certs.challenges import (
    DNS_01,
    DNS_PERSIST_01,
    Challenge,
    check_token,
    encode_persistent,
    possible_kinds,
)
from edge_certs.csr import HOST, is_address
from edge_certs.errors import CertificateError, naming
from edge_certs.jws import AccountKey, encode_base64url
from edge_certs.x509 import parse_chain

# Without a Retry-After: Pebble takes milliseconds, Let's Encrypt seconds; what takes longer is asked for less often.
POLL_INTERVAL = timedelta(seconds=1)
POLL_GROWTH = 1.5
LONGEST_POLL_INTERVAL = timedelta(seconds=10)

# Within these whatever the authority says.
MIN_POLL_INTERVAL = timedelta(milliseconds=200)
MAX_POLL_INTERVAL = timedelta(minutes=1)

# An authority that has not finished by then has lost the order; the URL is kept, so the next try still finds it.
POLL_TIMEOUT = timedelta(minutes=10)

# Authorities with alternates have two or three; more would be a way to keep us busy.
MAX_ALTERNATES = 5

CHAIN_TYPE = "application/pem-certificate-chain"
UNSUITABLE = "the authority's answer has no {!r}"


class State(Enum):
    """What an order does next."""

    ORDER = "order"
    AUTHORIZATIONS = "authorizations"
    PRESENT = "present"
    TRIGGER = "trigger"
    VALIDATION = "validation"
    FINALIZE = "finalize"
    ISSUE = "issue"
    DOWNLOAD = "download"
    ALTERNATES = "alternates"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to order: `names` as `csr.parse_name` gives them, `kinds` of challenges with the preferred one first.

    `csr` is DER. `replaces` is the certificate id of RFC 9773. `root` is a part of the name of the authority whose
    chain is preferred, when several are offered. `account` is the account's URL, which dns-persist-01 shows.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    csr: bytes = field(repr=False)
    profile: str | None = None
    replaces: str | None = None
    root: str | None = None
    account: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`, in UTC."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Present:
    """Make these answers visible, then call `presented`."""

    challenges: tuple[Challenge, ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """The chain in PEM, the server's certificate first, unchecked: `csr.check_issued` is next."""

    chain_pem: bytes


Action = Call | Wait | Present | Issued


@dataclass(slots=True)
class _Pending:
    """An authorization that is not valid yet, and the challenge chosen for it."""

    url: str
    trigger_url: str
    challenge: Challenge
    is_triggered: bool


class Order:
    """An order under way; see the module's theory of operation for what to call when."""

    __slots__ = (
        "_alternates", "_certificate_url", "_chain", "_finalize_url", "_give_up_at", "_key",
        "_pending", "_poll_at", "_poll_interval", "_replaces", "_state", "_unread", "_url", "_wanted",
    )  # fmt: skip

    def __init__(self, wanted: Wanted, key: AccountKey, saved: str | None = None) -> None:
        """Start an order by the account of `key`, or go on with the one that `saved` was given for.

        `saved` of an order for other names, or that cannot be read, is no order: a new one is made.
        """
        self._wanted = wanted
        self._key = key
        self._replaces = wanted.replaces
        self._url = _saved_url(saved, wanted)
        self._restart()

    @property
    def state(self) -> State:
        """Where the order is."""
        return self._state

    @property
    def is_replacement(self) -> bool:
        """False when the authority would not have it that this order replaces a certificate."""
        return self._replaces is not None

    def saved(self) -> str:
        """Return what resumes this order after a crash; write it down before the next call is made."""
        return json.dumps({"names": list(self._wanted.names), "profile": self._wanted.profile, "url": self._url})

    def next(self, now: datetime) -> Action:
        """Return what to do at `now`, in UTC.

        Raises CertificateError: the authority takes longer than `POLL_TIMEOUT`.
        """
        if self._state is State.PRESENT:
            return Present(tuple(pending.challenge for pending in self._pending))
        if self._state is State.DONE:
            return Issued(self._chain)
        # Later than was ever waited for is what a clock that was set back has left.
        if self._poll_at is not None and now < self._poll_at <= now + MAX_POLL_INTERVAL:
            return Wait(self._poll_at)
        return self._call(now)

    def presented(self) -> None:
        """Go on: the answers of `Present` are where the authority looks."""
        # Those of an order that is resumed may have been triggered before the crash: a second time is an error.
        self._state = State.TRIGGER if any(not pending.is_triggered for pending in self._pending) else State.VALIDATION

    def receive(self, answer: Answer, now: datetime) -> None:
        """Take the answer to `next`'s call. Raises CertificateError: the order failed, or the answer makes no sense."""
        match self._state:
            case State.ORDER | State.FINALIZE | State.ISSUE:
                self._receive_order(answer, now)
            case State.AUTHORIZATIONS:
                self._receive_authorization(answer)
            case State.TRIGGER:
                self._receive_trigger(answer, now)
            case State.VALIDATION:
                self._receive_validation(answer, now)
            case _:
                self._receive_chain(answer)

    def refuse(self, problem: AcmeProblem, now: datetime) -> None:
        """Take the refusal of the call that `next` gave, where an order can go on without it.

        Raises AcmeProblem: it cannot.
        """
        if self._state is State.ORDER and self._url is not None and problem.status in (403, 404, 410):
            self._url = None
        elif self._state is State.ORDER and self._replaces is not None and problem.blames_request:
            # RFC 9773 section 5: somebody was faster, or an attempt of ours was lost (alreadyReplaced). Or the old one
            # came from another account, as an imported one did: authorities say that in many ways, Let's Encrypt with
            # 403 unauthorized. The certificate is wanted anyway.
            self._replaces = None
        elif self._state is State.FINALIZE and problem.kind == "orderNotReady":
            self._state = State.ISSUE
            self._poll_later(None, now)
        elif self._state is State.ALTERNATES:
            self._next_alternate()
        else:
            raise problem

    def _restart(self) -> None:
        self._state = State.ORDER
        self._unread: list[str] = []
        self._pending: list[_Pending] = []
        self._finalize_url = self._certificate_url = ""
        self._alternates: list[str] = []
        self._chain = b""
        self._poll_at: datetime | None = None
        self._give_up_at: datetime | None = None
        self._poll_interval = POLL_INTERVAL

    def _call(self, now: datetime) -> Call:
        if self._give_up_at is not None and now >= self._give_up_at:
            raise CertificateError(
                f"the authority has not finished within {POLL_TIMEOUT.seconds // 60} minutes", "try again later"
            )
        match self._state:
            case State.ORDER:
                return Call(Resource.NEW_ORDER, self._new_order()) if self._url is None else Call(self._url)
            case State.AUTHORIZATIONS:
                return Call(self._unread[0])
            case State.TRIGGER:
                return Call(self._untriggered().trigger_url, {})
            case State.VALIDATION:
                return Call(self._pending[0].url)
            case State.FINALIZE:
                return Call(self._finalize_url, {"csr": encode_base64url(self._wanted.csr)})
            case State.ISSUE:
                return Call(self._url or "")
            case State.DOWNLOAD:
                return Call(self._certificate_url, accept=CHAIN_TYPE)
            case _:
                return Call(self._alternates[0], accept=CHAIN_TYPE)

    def _new_order(self) -> dict[str, object]:
        kinds = ("ip" if is_address(name) else "dns" for name in self._wanted.names)
        order: dict[str, object] = {
            "identifiers": [{"type": kind, "value": name} for kind, name in zip(kinds, self._wanted.names, strict=True)]
        }
        if self._wanted.profile is not None:
            order["profile"] = self._wanted.profile
        if self._replaces is not None:
            order["replaces"] = self._replaces
        return order

    def _receive_order(self, answer: Answer, now: datetime) -> None:
        order = answer.parse()
        is_resumed = self._state is State.ORDER and self._url is not None
        self._url = self._url or _located(answer)
        match order.get("status"):
            case "pending" if self._state is State.ORDER:
                self._finalize_url = _text(order, "finalize")
                self._unread = _authorizations(order, len(self._wanted.names))
                self._go_on(State.AUTHORIZATIONS)
            case "ready":
                self._finalize_url = _text(order, "finalize")
                # Not `_go_on`: "ready" and then "not ready" for ever must end, too.
                self._state, self._poll_at = State.FINALIZE, None
            case "pending" | "processing":
                self._state = State.ISSUE
                self._poll_later(answer, now)
            case "valid":
                self._certificate_url = _text(order, "certificate")
                self._go_on(State.DOWNLOAD)
            case "invalid" if is_resumed:
                # It failed before the crash: that failure is in the ledger, this is the next attempt.
                self._url = None
            case status:
                raise _failed(order, f"the order is {str(status)[:MAX_SHOWN]!r}")

    def _receive_authorization(self, answer: Answer) -> None:
        authorization = answer.parse()
        name = self._name(authorization)
        with naming(name):
            match authorization.get("status"):
                case "valid":
                    # The authority remembers an earlier proof (RFC 8555 section 7.1.4): nothing to show.
                    pass
                case "pending":
                    self._pending.append(self._choose(authorization, name))
                case status:
                    raise _failed(authorization, f"the authorization is {str(status)[:MAX_SHOWN]!r}")
        del self._unread[0]
        if not self._unread:
            self._go_on(State.PRESENT if self._pending else State.ISSUE)

    def _name(self, authorization: dict[str, Any]) -> str:
        """Only a name that was asked for: it becomes the name of a file and of a DNS record."""
        identifier = authorization.get("identifier")
        name = _text(identifier, "value") if _is_object(identifier) else ""
        if name not in (wanted.removeprefix("*.") for wanted in self._wanted.names):
            raise CertificateError(
                f"the authority wants a proof for {name[:MAX_SHOWN]!r}, which was not asked for", "try again later"
            )
        return name

    def _choose(self, authorization: dict[str, Any], name: str) -> _Pending:
        offered = {str(found.get("type")): found for found in _items(authorization, "challenges") if _is_object(found)}
        possible = possible_kinds(name, authorization.get("wildcard") is True)
        for kind in self._wanted.kinds:
            if kind in offered and kind in possible:
                found = offered[kind]
                challenge = self._challenge(kind, name, found)
                is_triggered = found.get("status") != "pending"
                return _Pending(self._unread[0], _text(found, "url"), challenge, is_triggered)
        usable = [kind for kind in offered if kind in possible]
        raise CertificateError(
            f"the authority offers {_list(usable)}, this server is set up for {_list(self._wanted.kinds)}",
            f"set up {usable[0] if usable else DNS_01}",
        )

    def _challenge(self, kind: str, name: str, found: dict[str, Any]) -> Challenge:
        if kind == DNS_PERSIST_01:
            # The draft's challenge has no token: the record names the authority and the account, and stays.
            issuer = str(_items(found, "issuer-domain-names")[0])
            if not HOST.fullmatch(issuer):
                raise CertificateError(f"the authority calls itself {issuer[:MAX_SHOWN]!r}", "set up another challenge")
            is_wildcard = f"*.{name}" in self._wanted.names
            text = encode_persistent(issuer, self._wanted.account, is_wildcard=is_wildcard)
            return Challenge(kind, name, "", text)
        token = check_token(found.get("token"))
        return Challenge(kind, name, token, self._key.authorize(token))

    def _untriggered(self) -> _Pending:
        return next(pending for pending in self._pending if not pending.is_triggered)

    def _receive_trigger(self, answer: Answer, now: datetime) -> None:
        self._untriggered().is_triggered = True
        if all(pending.is_triggered for pending in self._pending):
            self._state = State.VALIDATION
            self._poll_later(answer, now)

    def _receive_validation(self, answer: Answer, now: datetime) -> None:
        authorization = answer.parse()
        pending = self._pending[0]
        match authorization.get("status"):
            case "valid":
                del self._pending[0]
                if not self._pending:
                    self._go_on(State.ISSUE)
            case "pending":
                self._poll_later(answer, now)
            case status:
                with naming(f"{pending.challenge.name}: {pending.challenge.kind}"):
                    raise _failed(_tried(authorization), f"the authorization is {str(status)[:MAX_SHOWN]!r}")

    def _receive_chain(self, answer: Answer) -> None:
        if self._state is State.DOWNLOAD:
            self._chain = answer.content
            self._alternates = list(answer.alternates[:MAX_ALTERNATES])
            if self._wanted.root is None or _has_root(self._chain, self._wanted.root) or not self._alternates:
                self._go_on(State.DONE)
            else:
                self._go_on(State.ALTERNATES)
        elif _has_root(answer.content, self._wanted.root or ""):
            self._chain = answer.content
            self._go_on(State.DONE)
        else:
            self._next_alternate()

    def _next_alternate(self) -> None:
        del self._alternates[0]
        if not self._alternates:
            # A preference, not a condition: the authority's own choice serves better than none.
            self._go_on(State.DONE)

    def _go_on(self, state: State) -> None:
        self._state = state
        self._poll_at = self._give_up_at = None
        self._poll_interval = POLL_INTERVAL

    def _poll_later(self, answer: Answer | None, now: datetime) -> None:
        asked = answer.retry_after if answer is not None else None
        if asked is not None:
            self._poll_at = now + min(max(asked, MIN_POLL_INTERVAL), MAX_POLL_INTERVAL)
        else:
            self._poll_at = now + self._poll_interval
            self._poll_interval = min(self._poll_interval * POLL_GROWTH, LONGEST_POLL_INTERVAL)
        if self._give_up_at is None or self._give_up_at > now + POLL_TIMEOUT:
            self._give_up_at = now + POLL_TIMEOUT


def _saved_url(saved: str | None, wanted: Wanted) -> str | None:
    try:
        found = json.loads(saved or "null")
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("names") != list(wanted.names):
        return None
    url = found.get("url")
    return url if isinstance(url, str) and found.get("profile") == wanted.profile else None


def _authorizations(order: dict[str, Any], names: int) -> list[str]:
    """No more than there are names: each costs a request, and a proof for another name is refused anyway."""
    found = _items(order, "authorizations")
    if len(found) > names:
        raise CertificateError(f"the authority wants {len(found)} proofs for {names} names", "try again later")
    return list(map(str, found))


def _tried(authorization: dict[str, Any]) -> dict[str, Any]:
    """The part of a failed authorization that says why: its challenge with an error."""
    tried = (found for found in authorization.get("challenges", ()) if _is_object(found) and "error" in found)
    return next(tried, authorization)


def _failed(part: dict[str, Any], found: str) -> CertificateError:
    error = part.get("error")
    if _is_object(error):
        return problem_from(error, 0, None)
    return CertificateError(f"{found}, and the authority does not say why", "try again later")


def _located(answer: Answer) -> str:
    if not answer.location:
        raise CertificateError("the authority's answer to newOrder has no Location", "try again later")
    return answer.location


def _text(part: dict[str, Any], name: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise CertificateError(UNSUITABLE.format(name), "try again later")
    return value


def _items(part: dict[str, Any], name: str) -> list[Any]:
    value = part.get(name)
    if not isinstance(value, list) or not value:
        raise CertificateError(UNSUITABLE.format(name), "try again later")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _list(kinds: Sequence[str]) -> str:
    return " and ".join(map(repr, kinds)) or "nothing that fits the name"


def _has_root(chain_pem: bytes, root: str) -> bool:
    """Whether the last certificate was signed by an authority whose name has `root` in it."""
    try:
        return root in parse_chain(chain_pem)[-1].issuer.rfc4514_string()
    except CertificateError:
        return False
