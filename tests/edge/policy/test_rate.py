"""How often a client may ask, on a clock that stands still unless it is told."""

from __future__ import annotations

import pytest

from edge.policy.rate import Meter, RateLimit, network_of
from tests.edge.policy.test_chain import parse

CLIENT = b"203.0.113.7"


def test_burst_is_allowed_at_a_time_and_then_the_rate() -> None:
    meter = Meter(0.1, 3)
    assert [meter.take(CLIENT, 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert meter.take(CLIENT, 100.0) == pytest.approx(0.1)
    assert meter.take(CLIENT, 100.05) == pytest.approx(0.05)
    assert meter.take(CLIENT, 100.1) == 0.0
    assert meter.take(CLIENT, 100.1) == pytest.approx(0.1)


def test_what_is_refused_is_not_counted() -> None:
    meter = Meter(1.0, 1)
    assert meter.take(CLIENT, 0.0) == 0.0
    assert all(meter.take(CLIENT, 0.5) > 0 for _ in range(100))
    assert meter.take(CLIENT, 1.0) == 0.0


def test_who_was_idle_has_the_burst_again_and_no_more() -> None:
    meter = Meter(1.0, 2)
    assert [meter.take(CLIENT, 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert [meter.take(CLIENT, 1000.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_steady_rate_is_allowed_for_ever() -> None:
    meter = Meter(0.125, 1)
    assert all(meter.take(CLIENT, number * 0.125) == 0.0 for number in range(10_000))


def test_clients_do_not_count_for_each_other() -> None:
    meter = Meter(60.0, 1)
    assert meter.take(CLIENT, 0.0) == 0.0
    assert meter.take(b"203.0.113.8", 0.0) == 0.0
    assert meter.take(CLIENT, 0.0) == 60.0


def test_who_was_not_seen_for_longest_is_forgotten_first() -> None:
    meter = Meter(60.0, 1, max_keys=2)
    assert [meter.take(key, 0.0) for key in (1, 2)] == [0.0, 0.0]
    assert meter.take(1, 60.0) == 0.0  # seen again
    assert meter.take(3, 60.0) == 0.0
    assert meter.take(1, 60.0) == 60.0
    assert meter.take(2, 60.0) == 0.0
    assert len(meter._paid_at) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"2001:db8:1:2::1", b"2001:db8:1:2:ffff::", True),
        (b"2001:db8:1:2::1", b"2001:db8:1:3::1", False),
        (b"203.0.113.7", b"203.0.113.7", True),
        (b"203.0.113.7", b"203.0.113.8", False),
        (b"unix", b"unix", True),
    ],
)
def test_customer_of_ipv6_is_one_client(one: bytes, other: bytes, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def test_field_tells_clients_apart_and_who_sends_none_is_told_by_the_address() -> None:
    limit = RateLimit(Meter(60.0, 1), b"x-api-key")
    first, second, none = parse(b"X-API-Key: one"), parse(b"Accept: */*", b"X-API-Key: two"), parse(b"Accept: */*")
    assert [limit.take(head, CLIENT, 0.0) for head in (first, second, none)] == [0.0, 0.0, 0.0]
    assert [limit.take(head, b"198.51.100.1", 0.0) for head in (first, second, none)] == [60.0, 60.0, 0.0]
    assert limit.take(none, CLIENT, 0.0) == 60.0


def test_without_a_field_the_address_tells_clients_apart() -> None:
    limit = RateLimit(Meter(60.0, 1))
    assert [limit.take(parse(b"X-API-Key: one"), client, 0.0) for client in (CLIENT, b"::1", CLIENT)] == [
        0.0,
        0.0,
        60.0,
    ]
