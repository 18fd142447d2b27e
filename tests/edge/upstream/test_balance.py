"""Which server of an upstream gets a request."""

from __future__ import annotations

from typing import Any

from edge.config_sites import UpstreamPlan
from edge.options_sites import parse_upstream
from edge.upstream.balance import Balance


def balance(count: int = 3, **plan: Any) -> Balance:
    servers = tuple(parse_upstream(f"http://127.0.0.1:{8000 + number}") for number in range(count))
    return Balance(UpstreamPlan(servers, **plan))


def chosen(of: Balance, count: int, now: float = 0.0) -> list[int | None]:
    """Return who gets so many requests, none of which ends."""
    found = []
    for _ in range(count):
        number = of.choose(now)
        if number is not None:
            of.servers[number].busy += 1
        found.append(number)
    return found


def test_least_busy_gets_the_next_and_equals_take_turns() -> None:
    of = balance()
    assert chosen(of, 6) == [0, 1, 2, 0, 1, 2]
    of.servers[1].busy = 0
    assert chosen(of, 2) == [1, 1]


def test_equals_take_turns_though_none_is_busy() -> None:
    of = balance()
    assert [of.choose(0.0) for _ in range(4)] == [0, 1, 2, 0]


def test_first_is_first_while_it_is_up() -> None:
    of = balance(balance="first", max_fails=1)
    assert chosen(of, 2) == [0, 0]
    of.failed(0, 0.0)
    assert chosen(of, 2) == [1, 1]


def test_server_that_fails_too_often_gets_nothing_for_a_while() -> None:
    of = balance(2, max_fails=3, fail_timeout=10.0)
    assert [of.failed(0, now) for now in (0.0, 1.0, 2.0, 2.5)] == [False, False, True, False]
    assert chosen(of, 2, now=3.0) == [1, 1]
    assert of.choose(13.0) == 0


def test_failures_long_ago_do_not_count() -> None:
    of = balance(2, max_fails=2, fail_timeout=10.0)
    assert [of.failed(0, now) for now in (0.0, 11.0)] == [False, False]


def test_answer_makes_up_for_failures() -> None:
    of = balance(2, max_fails=2)
    of.failed(0, 0.0)
    of.succeeded(0)
    of.succeeded(0)
    assert of.failed(0, 1.0) is False


def test_failures_can_be_left_out_of_account() -> None:
    of = balance(2, max_fails=0)
    assert not any(of.failed(0, float(now)) for now in range(20))


def test_servers_that_are_all_down_get_requests_all_the_same() -> None:
    of = balance(2, max_fails=1)
    of.failed(0, 0.0)
    of.failed(1, 0.0)
    assert of.choose(0.0) == 0


def test_server_that_fails_its_check_gets_nothing_at_all() -> None:
    of = balance(2, max_fails=1)
    assert of.checked(0, is_well=False)
    assert not of.checked(0, is_well=False)
    of.failed(1, 0.0)
    assert chosen(of, 2) == [1, 1]
    assert of.choose(0.0, tried=(1,)) is None
    assert of.checked(0, is_well=True)
    assert of.choose(0.0, tried=(1,)) == 0
