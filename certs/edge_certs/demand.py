"""A certificate on demand: what a command asks for once, by the rules of whoever keeps certificates all the time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path

from edge_certs.challenges import HTTP_01, TLS_ALPN_01
from edge_certs.csr import is_covered
from edge_certs.errors import CertificateError
from edge_certs.files import LockHeld
from edge_certs.imports import adopt
from edge_certs.keeper import BUSY_SLEEP, Keeper
from edge_certs.listing import plan_next
from edge_certs.renewal import Renewal
from edge_certs.standalone import Ports, answering
from edge_certs.state import CertificateState, Issuance, Status
from edge_certs.storage import Lineage
from edge_certs.x509 import Certificate, show_time

# Another process that orders the same takes seconds to minutes; then it is there, or it is our turn.
MAX_BUSY_TURNS = 24

# A rehearsal after a refusal, and then the real thing.
MAX_TURNS = 3


class Outcome(Enum):
    """What became of a demand."""

    ISSUED = "issued"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Answer:
    """What serves now, whether it is new, the file with its chain, and when it will be renewed and why."""

    outcome: Outcome
    certificate: Certificate
    path: Path
    state: CertificateState | None


@dataclass(frozen=True, slots=True)
class Demand:
    """Asks `keeper` for certificates; answers challenges at `ports` meanwhile, where nobody else does."""

    keeper: Keeper
    ports: Ports

    async def ensure(self, issuance: Issuance) -> Answer:
        """Return a valid certificate for `issuance`, ordered now if there is none or if it is time to renew it.

        Raises CertificateError: there is none; it says why, and when the next attempt may be.
        """
        adopt(self.keeper.storage, issuance.names)
        lineage = self.keeper.storage.lineage(issuance.names[0])
        certificate = self._current(issuance)
        if certificate is not None and (state := self._settled(lineage, issuance, certificate)) is not None:
            return self._answer(Outcome.UNCHANGED, issuance, certificate, state)
        before = self._attempts(issuance)
        fingerprint = certificate.fingerprint if certificate is not None else ""
        async with self._answering(issuance) as wanted:
            for _ in range(MAX_TURNS):
                if await self._turn(wanted) > timedelta(0):
                    break
        state = self._save_kinds(lineage, issuance)
        certificate = self._current(issuance)
        if certificate is not None and certificate.fingerprint != fingerprint:
            return self._answer(Outcome.ISSUED, issuance, certificate, state)
        if self._attempts(issuance) != before and state is not None and state.last_error:
            raise CertificateError(_naming(lineage.name, state.last_error), _next(state))
        return self._unchanged(issuance, certificate, state)

    async def renew_now(self, issuance: Issuance) -> Answer:
        """Return a new certificate for `issuance`, whether or not it is time; raises as `ensure`."""
        lineage = self.keeper.storage.lineage(issuance.names[0])
        async with self._answering(issuance) as wanted:
            certificate = await self.keeper.renew_now(wanted)
        return self._answer(Outcome.ISSUED, issuance, certificate, self._save_kinds(lineage, issuance))

    def plan(self, issuance: Issuance) -> Renewal:
        """Return when an order for `issuance` would be made, and why then, by what is on disk.

        Raises CertificateError: what is there is damaged.
        """
        lineage = self.keeper.storage.lineage(issuance.names[0])
        certificate = self._current(issuance)
        state = lineage.state() or CertificateState(issuance, Status.MISSING, 0.0)
        suitable = certificate if certificate is not None and _covers(certificate, issuance) else None
        return plan_next(self.keeper.storage, replace(state, issuance=issuance), suitable, self.keeper.clock())

    def _settled(self, lineage: Lineage, issuance: Issuance, certificate: Certificate) -> CertificateState | None:
        """The state of a certificate that will do for now; one that was imported has one from now on."""
        now = self.keeper.clock()
        if not _covers(certificate, issuance) or certificate.not_after <= now or self.plan(issuance).at <= now:
            return None
        known = lineage.state()
        if known is not None and known.origin not in ("", issuance.directory):
            return None
        if known is not None and known.issuance == issuance:
            return known
        state = known or CertificateState(
            issuance,
            Status.VALID,
            self.keeper.random(),
            fingerprint=certificate.fingerprint,
            not_after=certificate.not_after,
        )
        renewal = self.plan(issuance)
        state = replace(state, issuance=issuance, next_at=renewal.at, reason=renewal.reason)
        lineage.save_state(state)
        return state

    def _save_kinds(self, lineage: Lineage, issuance: Issuance) -> CertificateState | None:
        """Which ports could be had this time says nothing about the next."""
        state = lineage.state()
        if state is None:
            return None
        settled = replace(state, issuance=issuance)
        if state.next_at is None:
            renewal = self.plan(issuance)
            settled = replace(settled, next_at=renewal.at, reason=renewal.reason)
        if settled != state:
            lineage.save_state(settled)
        return settled

    async def _turn(self, issuance: Issuance) -> timedelta:
        """One turn of the keeper; while another process orders the same, the turns after."""
        for _ in range(MAX_BUSY_TURNS):
            wait = await self.keeper.turn(issuance)
            if wait != BUSY_SLEEP:
                return wait
            await self.keeper.sleep(BUSY_SLEEP.total_seconds())
        raise LockHeld(f"{issuance.names[0]}: another process has been ordering it for long", "see edge cert list")

    @asynccontextmanager
    async def _answering(self, issuance: Issuance) -> AsyncIterator[Issuance]:
        """Listen for the authority; gives what to order, with the challenges that can be answered."""
        ours = [kind for kind in issuance.kinds if kind in (HTTP_01, TLS_ALPN_01)]
        others = tuple(kind for kind in issuance.kinds if kind not in ours)
        async with AsyncExitStack() as stack:
            usable: tuple[str, ...] = ()
            try:
                store = self.keeper.storage.challenges
                usable = await stack.enter_async_context(answering(store, ours, self.ports))
            except CertificateError:
                # Where no port can be had, the challenges that need none will do.
                if not others:
                    raise
            yield replace(issuance, kinds=tuple(kind for kind in issuance.kinds if kind in (*usable, *others)))

    def _unchanged(self, issuance: Issuance, certificate: Certificate | None, state: CertificateState | None) -> Answer:
        now = self.keeper.clock()
        if certificate is not None and _covers(certificate, issuance) and certificate.not_after > now:
            return self._answer(Outcome.UNCHANGED, issuance, certificate, state)
        reason = state.reason if state is not None else "not tried"
        advice = f"{_next(state)}, or at once with --force" if state is not None else "try again"
        raise CertificateError(f"{issuance.names[0]}: no attempt was made now: {reason}", advice)

    def _answer(
        self, outcome: Outcome, issuance: Issuance, certificate: Certificate, state: CertificateState | None
    ) -> Answer:
        path = self.keeper.storage.lineage(issuance.names[0]).live / "fullchain.pem"
        return Answer(outcome, certificate, path, state)

    def _attempts(self, issuance: Issuance) -> int:
        ledger = self.keeper.storage.authority(issuance.directory).ledger()
        return sum(set(each.names) == set(issuance.names) for each in ledger.attempts)

    def _current(self, issuance: Issuance) -> Certificate | None:
        """What is damaged is as good as none: a new one takes its place."""
        with suppress(CertificateError):
            return self.keeper.storage.lineage(issuance.names[0]).current()
        return None


def _covers(certificate: Certificate, issuance: Issuance) -> bool:
    return all(is_covered(name, certificate.names) for name in issuance.names)


def _naming(name: str, problem: str) -> str:
    """What goes wrong with a challenge says already for which name."""
    return problem if problem.startswith(f"{name}: ") else f"{name}: {problem}"


def _next(state: CertificateState) -> str:
    return f"next try at {show_time(state.next_at)}" if state.next_at is not None else "try again"
