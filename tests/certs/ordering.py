"""An order, and what an authority says to it, without either's way to the other."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from edge_certs.acme import AcmeProblem, Answer, Call
from edge_certs.acme_order import Order, Present, Wanted
from edge_certs.challenges import DNS_01, HTTP_01, TLS_ALPN_01
from edge_certs.jws import AccountKey
from tests.certs.forge import NOW, forge

KEY = AccountKey.generate()
SECOND = timedelta(seconds=1)
NAMES = ("shop.example",)
CHAIN = forge("shop.example").pem
ORDER_URL = "https://ca.test/order/1"
PENDING = {"status": "pending", "authorizations": ["https://ca.test/authz/1"], "finalize": "https://ca.test/finalize/1"}
READY = {"status": "ready", "finalize": "https://ca.test/finalize/1"}
PROCESSING = {"status": "processing"}
VALID = {"status": "valid", "certificate": "https://ca.test/chain/1"}
CSR = {"csr": "Y3Ny"}


def wanted(*names: str, kinds: tuple[str, ...] = (HTTP_01,), **more: Any) -> Wanted:
    return Wanted(names or NAMES, kinds, b"csr", **more)


def authorization(status: str = "pending", name: str = "shop.example", **more: Any) -> dict[str, Any]:
    challenges = [
        {"type": kind, "url": f"https://ca.test/{kind}", "token": f"t-{kind}", "status": "pending"}
        for kind in (HTTP_01, TLS_ALPN_01, DNS_01)
    ]
    return {"status": status, "identifier": {"type": "dns", "value": name}, "challenges": challenges, **more}


def answer(
    content: dict[str, Any] | bytes, *, location: str = "", retry: timedelta | None = None, **more: Any
) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer(200, body, location, more.get("alternates", ()), retry)


CREATED = answer(PENDING, location=ORDER_URL)


def tell(order: Order, *answers: Answer, now: datetime = NOW) -> None:
    """Let the authority answer each call that the order makes; challenges are presented at once."""
    for each in answers:
        if isinstance(order.next(now), Present):
            order.presented()
        assert isinstance(order.next(now), Call)
        order.receive(each, now)


def problem(kind: str, status: int = 400) -> AcmeProblem:
    return AcmeProblem("found", "advice", kind=kind, status=status, retry_at=None)


def validated(order: Order) -> Order:
    """The order, with its only name proven and nothing to wait for."""
    tell(order, CREATED, answer(authorization("valid")))
    return order
