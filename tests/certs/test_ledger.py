"""What earlier attempts forbid: back-off, rehearsals and rate limits, over restarts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from edge_certs.errors import CertificateError
from edge_certs.ledger import (
    KEPT,
    LETS_ENCRYPT_LIMITS,
    MAX_ATTEMPTS,
    PRODUCTION,
    STAGING,
    Attempt,
    Hold,
    Ledger,
    Outcome,
    limits_of,
    staging_of,
)
from edge_certs.renewal import Failures
from tests.certs.forge import NOW

NAMES = ("shop.example", "www.shop.example")
OTHERS = ("other.example",)
MINUTE = timedelta(minutes=1)


def made(*outcomes: tuple[int, Outcome, bool], names: tuple[str, ...] = NAMES) -> Ledger:
    """Attempts so many minutes before now, with their outcomes, in staging or not."""
    ledger = Ledger()
    for minutes, outcome, is_staging in outcomes:
        started = Attempt(NOW - minutes * MINUTE, names, is_staging=is_staging)
        ledger = ledger.start(started)
        if outcome is not Outcome.STARTED:
            ledger = ledger.finish(started, replace(started, outcome=outcome, is_refused=outcome is Outcome.FAILED))
    return ledger


def test_nothing_is_forbidden_where_nothing_was_tried() -> None:
    assert Ledger().failures(NAMES, NOW) == Failures()
    assert Ledger().hold(NAMES, LETS_ENCRYPT_LIMITS, NOW) is None
    assert not Ledger().wants_staging(NAMES)
    assert not Ledger().has_rehearsed(NAMES)
    assert Ledger().unfinished(NAMES) is None


def test_failures_in_a_row_are_counted_in_both_environments() -> None:
    ledger = made(
        (50, Outcome.FAILED, False),
        (40, Outcome.ISSUED, False),
        (30, Outcome.FAILED, False),
        (20, Outcome.ISSUED, True),
        (10, Outcome.FAILED, False),
    )
    assert ledger.failures(NAMES, NOW) == Failures(2, NOW - 10 * MINUTE, None)


def test_failure_keeps_what_the_authority_asked_for() -> None:
    started = Attempt(NOW, NAMES)
    ended = replace(started, outcome=Outcome.FAILED, error="no", retry_at=NOW + timedelta(hours=2))
    ledger = Ledger().start(started).finish(started, ended)
    assert ledger.failures(NAMES, NOW) == Failures(1, NOW, NOW + timedelta(hours=2))
    assert ledger.attempts[0].error == "no"


def test_names_in_another_order_are_the_same_names() -> None:
    assert made((1, Outcome.FAILED, False)).failures(NAMES[::-1], NOW).count == 1


def test_other_names_are_not_held_back() -> None:
    ledger = made((1, Outcome.FAILED, False))
    assert ledger.failures(OTHERS, NOW) == Failures()
    assert not ledger.wants_staging(OTHERS)


def test_attempt_that_never_ended_counts_as_a_failure() -> None:
    ledger = made((5, Outcome.STARTED, False))
    assert ledger.failures(NAMES, NOW) == Failures(1, NOW - 5 * MINUTE, None)
    assert ledger.unfinished(NAMES) == ledger.attempts[0]


def test_attempt_that_was_interrupted_does_not() -> None:
    ledger = made((5, Outcome.INTERRUPTED, False))
    assert ledger.failures(NAMES, NOW) == Failures()
    assert ledger.unfinished(NAMES) == ledger.attempts[0]
    assert not ledger.wants_staging(NAMES)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ISSUED])
def test_attempt_that_ended_is_not_gone_on_with(outcome: Outcome) -> None:
    assert made((5, outcome, False)).unfinished(NAMES) is None


def test_attempts_that_are_still_to_come_hold_nothing_back() -> None:
    ahead = NOW + timedelta(days=400)
    failed = Attempt(ahead, NAMES, Outcome.FAILED, retry_at=ahead + MINUTE)
    assert Ledger((failed,)).failures(NAMES, NOW) == Failures()
    issued = Ledger(tuple(Attempt(ahead, NAMES, Outcome.ISSUED, is_renewal=number > 4) for number in range(9)))
    assert issued.hold(NAMES, LETS_ENCRYPT_LIMITS, NOW) is None
    assert issued.hold_asked(NAMES, NOW) is None
    # From the next one on they count as made then: a clock that is set twice a day is no way round a limit.
    held = issued.start(Attempt(NOW, NAMES)).hold(NAMES, LETS_ENCRYPT_LIMITS, NOW)
    assert held is not None
    assert held.at == NOW + timedelta(days=7)


def test_clocks_of_two_hosts_may_differ_a_little() -> None:
    ahead = NOW + timedelta(minutes=30)
    assert Ledger((Attempt(ahead, NAMES, Outcome.FAILED),)).failures(NAMES, NOW) == Failures(1, ahead, None)


def test_broken_connection_asks_for_no_rehearsal() -> None:
    assert not made((5, Outcome.STARTED, False)).wants_staging(NAMES)
    assert not Ledger((Attempt(NOW, NAMES, Outcome.FAILED),)).wants_staging(NAMES)


def test_rehearsal_follows_a_refusal_and_the_real_one_a_rehearsal() -> None:
    failed = made((30, Outcome.FAILED, False))
    assert failed.wants_staging(NAMES)
    rehearsed = made((30, Outcome.FAILED, False), (10, Outcome.ISSUED, True))
    assert not rehearsed.wants_staging(NAMES)
    assert rehearsed.has_rehearsed(NAMES)
    failed_again = made((30, Outcome.FAILED, False), (10, Outcome.FAILED, True), (5, Outcome.INTERRUPTED, True))
    assert failed_again.wants_staging(NAMES)
    assert not failed_again.has_rehearsed(NAMES)
    done = made((30, Outcome.FAILED, False), (10, Outcome.ISSUED, True), (5, Outcome.ISSUED, False))
    assert not done.wants_staging(NAMES)
    assert not done.has_rehearsed(NAMES)


@pytest.mark.parametrize(("minutes", "until"), [(10, NOW - 14 * MINUTE + timedelta(days=7)), (7 * 1440, None)])
def test_sixth_certificate_for_the_same_names_in_a_week_is_held_back(minutes: int, until: datetime | None) -> None:
    ledger = made(*((minutes + extra, Outcome.ISSUED, False) for extra in (4, 3, 2, 1, 0)))
    hold = ledger.hold(NAMES, LETS_ENCRYPT_LIMITS, NOW)
    assert (hold.at if hold else None) == until
    if hold is not None:
        reason = "5 certificates for exactly these names within 7 days: no more are made"
        assert hold.reason == reason
    assert ledger.hold(OTHERS, LETS_ENCRYPT_LIMITS, NOW) is None


def test_fourth_order_is_held_back_where_three_are_allowed() -> None:
    limits = replace(LETS_ENCRYPT_LIMITS, orders=3)
    ledger = made((30, Outcome.FAILED, False), (20, Outcome.STARTED, False), (10, Outcome.FAILED, False))
    hold = ledger.hold(OTHERS, limits, NOW)
    assert hold is not None
    assert hold.at == NOW - 30 * MINUTE + timedelta(hours=3)
    assert hold.reason == "3 orders of this account within 3 hours: no more are made"


def test_later_of_two_limits_counts() -> None:
    limits = replace(LETS_ENCRYPT_LIMITS, orders=1, same_names=1)
    hold = made((10, Outcome.ISSUED, False)).hold(NAMES, limits, NOW)
    assert hold is not None
    assert hold.at == NOW - 10 * MINUTE + timedelta(days=7)


def test_rehearsals_and_renewals_that_were_asked_for_spend_nothing() -> None:
    limits = replace(LETS_ENCRYPT_LIMITS, orders=1, same_names=1)
    ledger = made((10, Outcome.ISSUED, True))
    asked_for = Attempt(NOW - 5 * MINUTE, NAMES, is_renewal=True)
    ledger = ledger.start(asked_for).finish(asked_for, replace(asked_for, outcome=Outcome.ISSUED))
    assert ledger.hold(NAMES, limits, NOW) is None


@pytest.mark.parametrize(("count", "is_held"), [(2, False), (3, True)])
def test_authority_that_always_asks_is_not_always_obeyed(count: int, is_held: bool) -> None:
    asked = tuple(
        Attempt(NOW - hours * timedelta(hours=1), NAMES, Outcome.ISSUED, is_renewal=True) for hours in (3, 2, 1)
    )
    ledger = Ledger(asked[:count])
    hold = ledger.hold_asked(NAMES, NOW)
    assert (hold is not None) is is_held
    assert hold is None or hold.at == NOW + timedelta(hours=21)
    assert hold is None or hold.reason == "3 renewals that the authority asked for within 24 hours: no more are made"
    assert ledger.hold_asked(NAMES, NOW + timedelta(days=1)) is None


def test_last_real_certificate_is_found() -> None:
    assert Ledger().issued_at(NAMES) is None
    assert made((5, Outcome.ISSUED, True), (3, Outcome.FAILED, False)).issued_at(NAMES) is None
    ledger = made((9, Outcome.ISSUED, False), (7, Outcome.ISSUED, False), (5, Outcome.ISSUED, True))
    assert ledger.issued_at(NAMES) == NOW - 7 * MINUTE


def test_authority_whose_limits_nobody_knows_says_them_itself() -> None:
    assert made((10, Outcome.ISSUED, False)).hold(NAMES, None, NOW) is None
    assert limits_of("https://ca.example/dir") is None
    assert limits_of(PRODUCTION) == LETS_ENCRYPT_LIMITS
    assert limits_of(STAGING) is None


def test_staging_environment_is_known_for_lets_encrypt() -> None:
    assert staging_of(PRODUCTION) == STAGING
    assert staging_of("https://ca.example/dir") is None


def test_old_attempts_are_forgotten_and_the_file_stays_small() -> None:
    ledger = Ledger((Attempt(NOW - KEPT, NAMES), *(Attempt(NOW - MINUTE, OTHERS) for _ in range(MAX_ATTEMPTS))))
    after = ledger.start(Attempt(NOW, NAMES))
    assert len(after.attempts) == MAX_ATTEMPTS
    assert [each.at for each in after.attempts if each.names == NAMES] == [NOW]


def test_end_of_an_attempt_that_is_not_there_changes_nothing() -> None:
    ledger = made((10, Outcome.FAILED, False))
    assert ledger.finish(Attempt(NOW, NAMES), Attempt(NOW, NAMES, Outcome.ISSUED)) == ledger


def test_ledger_comes_back_as_it_was_written() -> None:
    started = Attempt(NOW, NAMES, is_staging=True, is_renewal=True)
    ledger = made((10, Outcome.ISSUED, False)).start(started)
    ledger = ledger.finish(started, replace(started, outcome=Outcome.FAILED, error="no", retry_at=NOW + MINUTE))
    assert Ledger.decode(ledger.encode()) == ledger


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 1}', b'{"version": 1, "attempts": [{}]}', b"\xff"])
def test_damaged_ledger_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(CertificateError, match=r"^damaged; remove the file when no limit can be near: without it,"):
        Ledger.decode(content)


def test_ledger_of_another_version_is_refused() -> None:
    with pytest.raises(CertificateError, match=r"^of version 7, this edge reads 1; use the edge that wrote it$"):
        Ledger.decode(b'{"version": 7, "attempts": []}')


@pytest.mark.parametrize(("refused", "is_held"), [(4, False), (5, True)])
def test_sixth_refusal_in_an_hour_is_not_forced(refused: int, is_held: bool) -> None:
    others = (*OTHERS, *NAMES)
    attempts = [Attempt(NOW - n * MINUTE, others, Outcome.FAILED, is_refused=True) for n in range(59, 59 - refused, -1)]
    broken = [Attempt(NOW - MINUTE, NAMES, Outcome.FAILED), Attempt(NOW, NAMES, Outcome.FAILED, True, is_refused=True)]
    ledger = Ledger((*attempts, *broken))
    hold = ledger.hold_failing(NAMES, LETS_ENCRYPT_LIMITS, NOW)
    assert hold == (
        Hold(NOW + MINUTE, "5 failures of these names within an hour: no more are made") if is_held else None
    )
    assert ledger.hold_failing(("elsewhere.example",), LETS_ENCRYPT_LIMITS, NOW) is None
    assert ledger.hold_failing(NAMES, LETS_ENCRYPT_LIMITS, NOW + 2 * MINUTE) is None
    assert ledger.hold_failing(NAMES, None, NOW) is None
