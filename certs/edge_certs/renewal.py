"""When to renew a certificate, and why then (pure).

The authority's window comes first; without one, the certificate's own dates decide, so that a shorter lifetime needs no
setting. Whoever fails waits longer each time, and what the authority asks for is obeyed to the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from edge_certs.x509 import show_time

# Let's Encrypt's integration guide: renew with a third of the lifetime left, with half of one that is under ten days.
SHORT_LIFETIME = timedelta(days=10)
FRACTION_LEFT = 1 / 3
SHORT_FRACTION_LEFT = 1 / 2

# A window far in the future must not let the certificate expire: with this much left, nobody waits for it (CertMagic).
EMERGENCY_FRACTION_LEFT = 1 / 20

# Everybody who got a certificate in the same minute would come back in the same minute: up to this much earlier.
MAX_JITTER = timedelta(days=1)
JITTER_FRACTION = 1 / 50

# Let's Encrypt's integration guide, after the first, second and third failure; then daily.
BACK_OFF = (timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=100))
LAST_BACK_OFF = timedelta(days=1)
BACK_OFF_JITTER = 1 / 10


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The dates of a certificate, in UTC."""

    not_before: datetime
    not_after: datetime

    def left(self, fraction: float) -> datetime:
        """Return the instant at which `fraction` of the lifetime is left."""
        return self.not_after - (self.not_after - self.not_before) * fraction


@dataclass(frozen=True, slots=True)
class Failures:
    """The attempts in a row that failed: how many, when the last did, and before when the authority wants no other."""

    count: int = 0
    last_at: datetime | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """When to renew, in UTC, and the reason in words that an operator reads."""

    at: datetime
    reason: str


def plan_renewal(lifetime: Lifetime, *, selected: datetime | None, failures: Failures, jitter: float) -> Renewal:
    """Return when the certificate with this `lifetime` is to be renewed; an instant that is past means at once.

    `selected` is the instant chosen in the authority's window, None without one. `jitter` is a random number from 0 to
    1, drawn once for a certificate and kept.
    """
    wanted = _wanted(lifetime, selected, jitter)
    if failures.last_at is None:
        return wanted
    return _later(wanted, _after_failures(lifetime, failures, failures.last_at, jitter), failures)


def plan_first(failures: Failures, *, now: datetime, jitter: float) -> Renewal:
    """Return when to try to get a certificate that is not there at all."""
    wanted = Renewal(now, "there is no certificate yet")
    if failures.last_at is None:
        return wanted
    return _later(wanted, failures.last_at + _delay(failures.count, jitter), failures)


def _wanted(lifetime: Lifetime, selected: datetime | None, jitter: float) -> Renewal:
    emergency = lifetime.left(EMERGENCY_FRACTION_LEFT)
    if selected is None:
        return _by_dates(lifetime, jitter)
    if selected > emergency:
        return Renewal(emergency, "one twentieth of the lifetime left, and the authority's window is later")
    return Renewal(selected, "the authority's window")


def _by_dates(lifetime: Lifetime, jitter: float) -> Renewal:
    length = lifetime.not_after - lifetime.not_before
    early = min(MAX_JITTER, length * JITTER_FRACTION) * jitter
    if length < SHORT_LIFETIME:
        return Renewal(lifetime.left(SHORT_FRACTION_LEFT) - early, "half of a lifetime under 10 days left")
    return Renewal(lifetime.left(FRACTION_LEFT) - early, "one third of the lifetime left")


def _after_failures(lifetime: Lifetime, failures: Failures, last_at: datetime, jitter: float) -> datetime:
    at = last_at + _delay(failures.count, jitter)
    if at <= lifetime.left(EMERGENCY_FRACTION_LEFT):
        return at
    # A day is more than the last twentieth of a short lifetime: keep trying while it still serves.
    return min(at, max(lifetime.left(EMERGENCY_FRACTION_LEFT), last_at + BACK_OFF[-1]))


def _delay(count: int, jitter: float) -> timedelta:
    delay = BACK_OFF[count - 1] if count <= len(BACK_OFF) else LAST_BACK_OFF
    return delay * (1 + BACK_OFF_JITTER * jitter)


def _later(wanted: Renewal, back_off: datetime, failures: Failures) -> Renewal:
    times = "1 attempt" if failures.count == 1 else f"{failures.count} attempts"
    if failures.not_before is not None and failures.not_before > max(back_off, wanted.at):
        return Renewal(failures.not_before, f"the authority wants no attempt before {show_time(failures.not_before)}")
    if back_off > wanted.at:
        return Renewal(back_off, f"{times} failed, the last at {show_time(failures.last_at or back_off)}")
    return wanted
