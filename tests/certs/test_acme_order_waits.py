"""How long an order waits for its authority, and what ends that."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from edge_certs.acme import Answer, Call
from edge_certs.acme_order import POLL_TIMEOUT, Order, Wait
from edge_certs.errors import CertificateError
from tests.certs.forge import NOW
from tests.certs.ordering import (
    CSR,
    KEY,
    ORDER_URL,
    PENDING,
    PROCESSING,
    READY,
    SECOND,
    answer,
    problem,
    tell,
    validated,
    wanted,
)


@pytest.mark.parametrize(
    ("retry", "waited"),
    [(None, SECOND), (0 * SECOND, SECOND / 5), (30 * SECOND, 30 * SECOND), (86400 * SECOND, 60 * SECOND)],
)
def test_poll_waits_as_asked_within_bounds(retry: timedelta | None, waited: timedelta) -> None:
    order = validated(Order(wanted(), KEY))
    tell(order, answer(READY), answer(PROCESSING, retry=retry))
    assert order.next(NOW) == Wait(NOW + waited)


def test_poll_is_asked_for_less_often_the_longer_it_takes() -> None:
    order = validated(Order(wanted(), KEY))
    tell(order, answer(READY), answer(PROCESSING))
    now, waits = NOW, []
    for _ in range(8):
        action = order.next(now)
        assert isinstance(action, Wait)
        waits.append((action.until - now) / SECOND)
        now = action.until
        tell(order, answer(PROCESSING), now=now)
    assert waits == [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0, 10.0]


@pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(days=3650)])
def test_clock_that_is_set_back_ends_the_waiting(jump: timedelta) -> None:
    order = validated(Order(wanted(), KEY))
    tell(order, answer(READY), answer(PROCESSING))
    now = NOW - jump
    assert isinstance(order.next(now), Call)
    order.receive(answer(PROCESSING), now)
    with pytest.raises(CertificateError, match=r"^the authority has not finished within 10 minutes"):
        keep_on(order, answer(PROCESSING), since=now, until=now + POLL_TIMEOUT + 60 * SECOND)


def test_more_proofs_than_names_are_refused() -> None:
    order = Order(wanted(), KEY)
    urls = [f"https://ca.test/authz/{number}" for number in range(2)]
    with pytest.raises(CertificateError, match=r"^the authority wants 2 proofs for 1 names; try again later$"):
        tell(order, answer({**PENDING, "authorizations": urls}, location=ORDER_URL))


@pytest.mark.parametrize("status", ["ready", "processing"])
def test_authority_that_never_finishes_is_given_up(status: str) -> None:
    order = validated(Order(wanted(), KEY))
    tell(order, answer(READY), answer(PROCESSING))
    with pytest.raises(CertificateError, match=r"^the authority has not finished within 10 minutes; try again later$"):
        keep_on(order, answer({**READY, "status": status}), until=NOW + POLL_TIMEOUT + SECOND)


def keep_on(order: Order, told: Answer, *, until: datetime, since: datetime = NOW) -> None:
    """Let the authority answer `told` each time, and refuse to finalize, until the order gives up."""
    now = since
    while now < until:
        action = order.next(now)
        if isinstance(action, Wait):
            now = action.until
        elif isinstance(action, Call) and action.payload == CSR:
            order.refuse(problem("orderNotReady", 403), now)
        else:
            order.receive(told, now)
