from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edge_certs.renewal import Failures, Lifetime, Renewal, plan_first, plan_renewal

START = datetime(2027, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NONE = Failures()
NINETY = Lifetime(START, START + 90 * DAY)
SHORT = Lifetime(START, START + 160 * HOUR)


def plan(
    lifetime: Lifetime = NINETY,
    *,
    selected: datetime | None = None,
    failures: Failures = NONE,
    jitter: float = 0.0,
) -> Renewal:
    return plan_renewal(lifetime, selected=selected, failures=failures, jitter=jitter)


@pytest.mark.parametrize(
    ("lifetime", "after", "reason"),
    [
        (NINETY, 60 * DAY, "one third of the lifetime left"),
        (Lifetime(START, START + 45 * DAY), 30 * DAY, "one third of the lifetime left"),
        (Lifetime(START, START + 12 * DAY), 8 * DAY, "one third of the lifetime left"),
        (SHORT, 80 * HOUR, "half of a lifetime under 10 days left"),
    ],
)
def test_dates_decide_where_there_is_no_window(lifetime: Lifetime, after: timedelta, reason: str) -> None:
    assert plan(lifetime) == Renewal(START + after, reason)


@pytest.mark.parametrize(("lifetime", "earlier"), [(NINETY, DAY), (SHORT, 160 * HOUR / 50)])
def test_jitter_only_makes_it_earlier(lifetime: Lifetime, earlier: timedelta) -> None:
    assert plan(lifetime, jitter=1.0).at == plan(lifetime).at - earlier
    assert plan(lifetime, jitter=0.5).at == plan(lifetime).at - earlier / 2


@pytest.mark.parametrize("after", [-DAY, 5 * DAY, 70 * DAY])
def test_window_of_the_authority_comes_first(after: timedelta) -> None:
    assert plan(selected=START + after, jitter=1.0) == Renewal(START + after, "the authority's window")


def test_window_in_the_last_twentieth_is_not_waited_for() -> None:
    renewal = plan(selected=START + 89 * DAY)
    assert renewal.at == START + 85.5 * DAY
    assert renewal.reason == "one twentieth of the lifetime left, and the authority's window is later"


@pytest.mark.parametrize(
    ("count", "delay"), [(1, MINUTE), (2, 10 * MINUTE), (3, 100 * MINUTE), (4, DAY), (5, DAY), (400, DAY)]
)
def test_failures_are_waited_out_ever_longer(count: int, delay: timedelta) -> None:
    failed_at = START + 61 * DAY
    failures = Failures(count, failed_at)
    assert plan(failures=failures).at == failed_at + delay
    assert plan(failures=failures, jitter=1.0).at == failed_at + delay * 1.1
    assert plan_first(failures, now=failed_at, jitter=0.0).at == failed_at + delay


def test_reason_counts_the_failures() -> None:
    failed_at = START + 61 * DAY
    assert plan(failures=Failures(1, failed_at)).reason == "1 attempt failed, the last at 2027-05-01T00:00Z"
    assert plan(failures=Failures(3, failed_at)).reason == "3 attempts failed, the last at 2027-05-01T00:00Z"


def test_failure_of_long_ago_changes_nothing() -> None:
    assert plan(failures=Failures(2, START + DAY)) == plan()


def test_authority_that_wants_a_pause_has_it() -> None:
    until = START + 63 * DAY
    renewal = plan(failures=Failures(1, START + 61 * DAY, until))
    assert renewal == Renewal(until, "the authority wants no attempt before 2027-05-03T00:00Z")
    first = plan_first(Failures(1, START, until), now=START, jitter=0.0)
    assert first == Renewal(until, "the authority wants no attempt before 2027-05-03T00:00Z")


def test_pause_that_is_over_changes_nothing() -> None:
    failures = Failures(2, START + 61 * DAY, START + 61 * DAY + MINUTE)
    assert plan(failures=failures).at == START + 61 * DAY + 10 * MINUTE


def test_certificate_near_its_end_is_tried_for_more_often_than_daily() -> None:
    # The last twentieth of 160 hours is 8 hours: a day's pause would let it expire.
    failed_at = START + 155 * HOUR
    assert plan(SHORT, failures=Failures(7, failed_at)).at == failed_at + 100 * MINUTE


def test_daily_pause_ends_where_the_last_twentieth_begins() -> None:
    assert plan(SHORT, failures=Failures(7, START + 140 * HOUR)).at == START + 152 * HOUR


def test_certificate_that_is_not_there_is_wanted_at_once() -> None:
    assert plan_first(NONE, now=START, jitter=1.0) == Renewal(START, "there is no certificate yet")
