"""The attempts to get certificates from one authority, and what they forbid: back-off and rate limits (pure).

An attempt is put down before it is made, so that a program that crashes and starts again cannot spend what an authority
gives out once a week. Whoever asks too early is told until when to wait, and why.

After a refusal the next attempt goes to the authority's staging environment, if it has one: what fails there costs
nothing. When that one succeeds, the real one is next, at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from edge_certs.errors import CertificateError
from edge_certs.renewal import Failures
from edge_certs.state import decode_instant, encode_instant, need_instant

VERSION = 1

# No limit that is published looks further back than a week; a day more is for clocks that differ.
KEPT = timedelta(days=8)

# A file that is read on each attempt has to stay small; Let's Encrypt gives out 300 orders in three hours.
MAX_ATTEMPTS = 1000

# Hosts that share a folder have clocks that differ; what is later still was made while a clock was wrong.
CLOCK_SKEW = timedelta(hours=1)

# A mass revocation renews once; twice more is for what goes wrong then.
MAX_ASKED = 3
ASKED_PERIOD = timedelta(days=1)

PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


class Outcome(Enum):
    """How an attempt ended; `STARTED` is one that goes on, or that a crash ended."""

    STARTED = "started"
    ISSUED = "issued"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One order, or the wish for one; `at` is in UTC.

    `is_renewal` is one that the authority asked for (RFC 9773) and does not count. `is_refused` is a failure that
    another attempt would meet again, unlike a broken connection. `retry_at` is before when it wants no other attempt.
    """

    at: datetime
    names: tuple[str, ...]
    outcome: Outcome = Outcome.STARTED
    is_staging: bool = False
    is_renewal: bool = False
    is_refused: bool = False
    error: str = ""
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an authority allows: new orders of an account, certificates for exactly the same names, failed proofs of a
    name."""

    orders: int
    orders_period: timedelta
    same_names: int
    same_names_period: timedelta
    failures: int
    failures_period: timedelta


# letsencrypt.org/docs/rate-limits, 2026-08.
LETS_ENCRYPT_LIMITS = Limits(300, timedelta(hours=3), 5, timedelta(days=7), 5, timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Hold:
    """No attempt before `at`, in UTC, for this `reason`."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """The attempts at one authority, the oldest first."""

    attempts: tuple[Attempt, ...] = ()

    def start(self, attempt: Attempt) -> Ledger:
        """Return the ledger with `attempt` in it, and without those that nothing depends on any more.

        One that is still to come was made while the clock was ahead: it counts as made now.
        """
        past = [replace(each, at=min(each.at, attempt.at)) for each in self.attempts]
        kept = [each for each in past if attempt.at - each.at < KEPT]
        return Ledger((*kept, attempt)[-MAX_ATTEMPTS:])

    def finish(self, started: Attempt, ended: Attempt) -> Ledger:
        """Return the ledger with `ended` in the place of `started`; unchanged if that is not there."""
        return Ledger(tuple(ended if each == started else each for each in self.attempts))

    def unfinished(self, names: tuple[str, ...]) -> Attempt | None:
        """Return the last attempt for `names` when it neither failed nor succeeded: it may be gone on with."""
        last = next(reversed(self._of(names)), None)
        return last if last is not None and last.outcome in (Outcome.STARTED, Outcome.INTERRUPTED) else None

    def failures(self, names: tuple[str, ...], now: datetime) -> Failures:
        """Return the attempts in a row for `names` that failed, in either environment, as the back-off counts them.

        One that was interrupted is no failure; one that never ended is: whatever ended it may do so again.
        """
        failed: list[Attempt] = []
        for attempt in reversed(self._of(names)):
            if attempt.at > now + CLOCK_SKEW:
                continue
            if _is_real_success(attempt):
                break
            if attempt.outcome in (Outcome.FAILED, Outcome.STARTED):
                failed.append(attempt)
        if not failed:
            return Failures()
        return Failures(len(failed), failed[0].at, failed[0].retry_at)

    def wants_staging(self, names: tuple[str, ...]) -> bool:
        """Return whether the next attempt for `names` is to be a rehearsal, where there is a place for one."""
        last = next((each for each in reversed(self._of(names)) if each.outcome is not Outcome.INTERRUPTED), None)
        return last is not None and last.outcome is Outcome.FAILED and last.is_refused

    def has_rehearsed(self, names: tuple[str, ...]) -> bool:
        """Return whether the last attempt for `names` was a rehearsal that succeeded: the real one is next, at once."""
        last = next(reversed(self._of(names)), None)
        return last is not None and last.is_staging and last.outcome is Outcome.ISSUED

    def issued_at(self, names: tuple[str, ...]) -> datetime | None:
        """Return when the last real certificate for exactly `names` came, None: none has."""
        return max((each.at for each in self._of(names) if _is_real_success(each)), default=None)

    def hold(self, names: tuple[str, ...], limits: Limits | None, now: datetime) -> Hold | None:
        """Return until when `limits` forbid a real attempt for `names` at `now`; None: they do not."""
        if limits is None:
            return None
        past = [each for each in self.attempts if each.at <= now + CLOCK_SKEW]
        counted = [each for each in past if not each.is_staging and not each.is_renewal]
        issued = [each for each in counted if _same(each.names, names) and each.outcome is Outcome.ISSUED]
        holds = [
            _window(counted, limits.orders, limits.orders_period, "orders of this account"),
            _window(issued, limits.same_names, limits.same_names_period, "certificates for exactly these names"),
        ]
        return max((hold for hold in holds if hold is not None and hold.at > now), key=_at, default=None)

    def hold_failing(self, names: tuple[str, ...], limits: Limits | None, now: datetime) -> Hold | None:
        """Return until when failures of `names` forbid even an attempt that does not wait for the back-off.

        The back-off keeps this limit by itself: who orders by force, again and again, would not.
        """
        if limits is None:
            return None
        refused = [each for each in self.attempts if each.is_refused and not each.is_staging]
        past = [each for each in refused if each.at <= now + CLOCK_SKEW]
        failed = [each for each in past if not set(each.names).isdisjoint(names)]
        hold = _window(failed, limits.failures, limits.failures_period, "failures of these names")
        return hold if hold is not None and hold.at > now else None

    def hold_asked(self, names: tuple[str, ...], now: datetime) -> Hold | None:
        """Return until when even the authority's own wish is not followed; None: it is.

        Its renewals count against no limit of its own: one whose window is always past would have them without end.
        """
        past = [each for each in self._of(names) if each.at <= now + CLOCK_SKEW]
        asked = [each for each in past if each.is_renewal and each.outcome is Outcome.ISSUED]
        hold = _window(asked, MAX_ASKED, ASKED_PERIOD, "renewals that the authority asked for")
        return hold if hold is not None and hold.at > now else None

    def encode(self) -> bytes:
        """Return the content of the file."""
        attempts = [_encode(attempt) for attempt in self.attempts]
        return json.dumps({"version": VERSION, "attempts": attempts}, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> Ledger:
        """Return what `encode` wrote.

        Raises CertificateError: it is something else, or of another version.
        """
        try:
            value = json.loads(content)
            if (version := value["version"]) == VERSION:
                return cls(tuple(_decode(each) for each in value["attempts"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            advice = "remove the file when no limit can be near: without it, nothing is known of earlier attempts"
            raise CertificateError("damaged", advice) from None
        raise CertificateError(f"of version {version!r}, this edge reads {VERSION}", "use the edge that wrote it")

    def _of(self, names: tuple[str, ...]) -> list[Attempt]:
        return [each for each in self.attempts if _same(each.names, names)]


def limits_of(directory: str) -> Limits | None:
    """Return what the authority with this directory URL is known to allow; None: only it can tell."""
    return LETS_ENCRYPT_LIMITS if _host(directory) == _host(PRODUCTION) else None


def staging_of(directory: str) -> str | None:
    """Return the directory URL of the staging environment of the authority with this one; None: none is known."""
    return STAGING if directory == PRODUCTION else None


def _window(attempts: Iterable[Attempt], count: int, period: timedelta, what: str) -> Hold | None:
    """When the oldest of the last `count` is older than `period`, there is room for another one."""
    last = sorted(attempt.at for attempt in attempts)[-count:]
    if len(last) < count:
        return None
    return Hold(last[0] + period, f"{count} {what} within {_show_period(period)}: no more are made")


def _show_period(period: timedelta) -> str:
    if period.days > 1:
        return f"{period.days} days"
    hours = period // timedelta(hours=1)
    return f"{hours} hours" if hours > 1 else "an hour"


def _is_real_success(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.ISSUED and not attempt.is_staging


def _same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return set(one) == set(other)


def _at(hold: Hold) -> datetime:
    return hold.at


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _encode(attempt: Attempt) -> dict[str, object]:
    return {
        "at": encode_instant(attempt.at),
        "names": attempt.names,
        "outcome": attempt.outcome.value,
        "staging": attempt.is_staging,
        "renewal": attempt.is_renewal,
        "refused": attempt.is_refused,
        "error": attempt.error,
        "retry_at": encode_instant(attempt.retry_at),
    }


def _decode(value: Mapping[str, Any]) -> Attempt:
    return Attempt(
        at=need_instant(value["at"]),
        names=tuple(map(str, value["names"])),
        outcome=Outcome(value["outcome"]),
        is_staging=value["staging"] is True,
        is_renewal=value["renewal"] is True,
        is_refused=value["refused"] is True,
        error=str(value["error"]),
        retry_at=decode_instant(value["retry_at"]),
    )
