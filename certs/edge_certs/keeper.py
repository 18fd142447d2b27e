"""Keeps certificates valid, for as long as it runs: decides when to renew, tries, waits, and says why.

Theory of operation. Each certificate has a task of its own. Once a turn it reads what is on the disk (the certificate,
the ledger, the state: another process or host may have changed any of them), asks the authority for its window when
that is due, writes down when the next attempt is and why, and makes it when the time has come. Nothing is kept in
memory that a restart would lose. A turn that fails is one line in the log, and what serves goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from edge_certs.acme import AcmeProblem
from edge_certs.ari import ASK_INTERVAL, MAX_ASK_INTERVAL, choose_instant, encode_certificate_id
from edge_certs.csr import is_covered
from edge_certs.errors import CertificateError
from edge_certs.files import LockHeld
from edge_certs.issuance import Issuer, Purpose
from edge_certs.ledger import Hold, Ledger, limits_of
from edge_certs.renewal import Lifetime, Renewal, plan_first, plan_renewal
from edge_certs.state import Advice, CertificateState, Issuance, Status
from edge_certs.storage import Lineage, Storage
from edge_certs.x509 import Certificate, parse_chain, show_time

logger = logging.getLogger("edge.certs")

# A laptop sleeps, a clock is set, another host renews: nothing is taken for granted for longer.
LONGEST_SLEEP = timedelta(minutes=10)

# Somebody else is at it: that takes seconds to minutes.
BUSY_SLEEP = timedelta(seconds=5)

# A disk that is full or a folder that is closed: nothing was attempted, so no ledger knows of it.
FAULT_SLEEP = timedelta(minutes=1)

# Two servers that share a folder and want different names under one first name would order in turns, for ever.
RIVAL_PAUSE = timedelta(days=1)
RIVAL = "though one that is came less than a day ago: let all who share the folder want the same names"

# Orders at the same time: a hundred sites must not come to the authority as one crowd.
MAX_ORDERS = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """What one look at a certificate found: its state, and what to do when that is due."""

    state: CertificateState
    purpose: Purpose


@dataclass(slots=True)
class Keeper:
    """Keeps the certificates of one authority in one folder; `run` is its whole life."""

    storage: Storage
    issuer: Issuer
    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    random: Callable[[], float] = field(default=random.random, repr=False)
    _busy: set[str] = field(default_factory=set, repr=False)
    _orders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_ORDERS), repr=False)

    async def run(self, certificates: Sequence[Issuance]) -> None:
        """Keep all of `certificates` until cancelled."""
        self.storage.sweep(self.clock())
        async with asyncio.TaskGroup() as tasks:
            for issuance in certificates:
                tasks.create_task(self._keep(issuance))

    async def turn(self, issuance: Issuance) -> timedelta:
        """Look at one certificate, get a new one if it is time, and return after what time to look again."""
        turn = await self._look(issuance)
        wait = _until(turn.state, self.clock())
        if wait > timedelta(0):
            return wait
        async with self._orders:
            return await self._attempt(issuance, turn)

    async def renew_now(self, issuance: Issuance) -> Certificate:
        """Get a new certificate now, though it may not be time; whoever asks for it has mended what failed before.

        Raises LockHeld: another process orders it. Raises CertificateError: the attempt failed, or the authority wants
        none now.
        """
        lineage = self.storage.lineage(issuance.names[0])
        with self.storage.locked_names(issuance.names):
            turn = await self._look(issuance)
            purpose = replace(turn.purpose, is_staging=False, is_asked_for=_is_asked_for(turn.state, self.clock()))
            if (hold := self._hold(issuance, purpose)) is not None:
                raise CertificateError(hold.reason, f"try again at {show_time(hold.at)}")
            try:
                certificate = await self.issuer.obtain(issuance, purpose)
            except CertificateError as error:
                await self._failed(issuance, error)
                raise
        self._issued(lineage, turn.state, certificate)
        return certificate

    def _hold(self, issuance: Issuance, purpose: Purpose) -> Hold | None:
        """What the authority itself forbids: its limits, and the instant before which it wants no other attempt."""
        now, names = self.clock(), issuance.names
        ledger = self.storage.authority(issuance.directory).ledger()
        not_before = ledger.failures(names, now).not_before
        if not_before is not None and not_before > now:
            return Hold(not_before, "the authority wants no attempt now")
        if purpose.is_asked_for:
            return ledger.hold_asked(names, now)
        limits = limits_of(issuance.directory)
        return ledger.hold(names, limits, now) or ledger.hold_failing(names, limits, now)

    async def _keep(self, issuance: Issuance) -> None:
        while True:
            try:
                wait = await self.turn(issuance)
            except CertificateError as error:
                logger.error("%s: certificate not looked after: %s", issuance.names[0], error)
                wait = FAULT_SLEEP
            except Exception:
                # A defect must cost this certificate alone; what was attempted stays in the ledger as a failure.
                logger.exception("%s: certificate not looked after", issuance.names[0])
                wait = FAULT_SLEEP
            await self.sleep(min(wait, LONGEST_SLEEP).total_seconds())

    async def _look(self, issuance: Issuance) -> Turn:
        """Read everything, decide, and write down what was decided."""
        lineage = self.storage.lineage(issuance.names[0])
        certificate = _current(lineage)
        state = self._state(lineage, issuance, certificate)
        if certificate is not None:
            state = await self._ask(state, certificate)
        ledger = self.storage.authority(issuance.directory).ledger()
        renewal, purpose = self._decide(state, ledger, certificate, lineage)
        state = replace(state, next_at=renewal.at, reason=renewal.reason, status=_status(state, certificate))
        if state != _read_state(lineage):
            lineage.save_state(state)
        return Turn(state, purpose)

    async def _attempt(self, issuance: Issuance, turn: Turn) -> timedelta:
        lineage = self.storage.lineage(issuance.names[0])
        try:
            with self.storage.locked_names(issuance.names):
                self._busy.discard(lineage.name)
                # Whoever held the locks before may have done it.
                turn = await self._look(issuance)
                if (wait := _until(turn.state, self.clock())) > timedelta(0):
                    return wait
                lineage.save_state(replace(turn.state, status=Status.ORDERING))
                certificate = await self.issuer.obtain(issuance, turn.purpose)
        except LockHeld:
            if lineage.name not in self._busy:
                logger.info("%s: another process orders it", lineage.name)
            self._busy.add(lineage.name)
            return BUSY_SLEEP
        except CertificateError as error:
            return await self._failed(issuance, error)
        if turn.purpose.is_staging:
            logger.info("%s: the rehearsal in the staging environment succeeded", issuance.names[0])
            return timedelta(0)
        self._issued(lineage, turn.state, certificate)
        return timedelta(0)

    def _issued(self, lineage: Lineage, state: CertificateState, certificate: Certificate) -> None:
        lineage.save_state(
            CertificateState(
                state.issuance,
                Status.VALID,
                self.random(),
                fingerprint=certificate.fingerprint,
                not_after=certificate.not_after,
                origin=state.issuance.directory,
            )
        )
        names, until = ", ".join(certificate.names), show_time(certificate.not_after)
        logger.info("%s: new certificate for %s, valid until %s", lineage.name, names, until)

    async def _failed(self, issuance: Issuance, error: CertificateError) -> timedelta:
        """Write down the failure, say in one line what it means, and return after what time to look again."""
        lineage = self.storage.lineage(issuance.names[0])
        turn = await self._look(issuance)
        lineage.save_state(replace(turn.state, last_error=str(error), status=Status.FAILED))
        ends = turn.state.not_after
        serves = "there is none yet" if ends is None else f"valid until {show_time(ends)}"
        next_at = show_time(turn.state.next_at or self.clock())
        said = error.found if isinstance(error, AcmeProblem) and error.retry_at is not None else str(error)
        logger.error("%s: certificate not renewed: %s; next try %s, %s", lineage.name, said, next_at, serves)
        # At least: where not even the ledger can be written, nothing else would slow this down.
        return max(_until(turn.state, self.clock()), FAULT_SLEEP)

    def _state(self, lineage: Lineage, issuance: Issuance, certificate: Certificate | None) -> CertificateState:
        """What is known, of the certificate that is there and no other."""
        known = _read_state(lineage)
        if certificate is None:
            jitter = self.random() if known is None else known.jitter
            error = "" if known is None else known.last_error
            return CertificateState(issuance, Status.MISSING, jitter, last_error=error)
        if known is not None and known.fingerprint == certificate.fingerprint:
            return replace(known, issuance=issuance)
        # It came by another way: from another host, another command, or by hand.
        return CertificateState(
            issuance,
            Status.VALID,
            self.random(),
            fingerprint=certificate.fingerprint,
            not_after=certificate.not_after,
        )

    async def _ask(self, state: CertificateState, certificate: Certificate) -> CertificateState:
        """Ask for the authority's window when that is due; without an answer, the dates decide."""
        now = self.clock()
        # Later than an authority can ask for is what a clock that was ahead has left.
        if state.ask_at is not None and now < state.ask_at <= now + MAX_ASK_INTERVAL:
            return state
        leaf = parse_chain(certificate.chain_pem)[0]
        try:
            identifier = encode_certificate_id(leaf)
            info = await self.issuer.ask_renewal(state.issuance, leaf)
        except CertificateError as error:
            logger.debug("%s: no renewal information: %s", state.issuance.names[0], error)
            return replace(state, ask_at=now + ASK_INTERVAL)
        advice = state.advice
        if advice is None or advice.certificate_id != identifier or advice.window != info.window:
            advice = Advice(identifier, info.window, choose_instant(info.window, self.random()))
            if info.window.explanation:
                logger.info(
                    "%s: the authority explains its window: %r", state.issuance.names[0], info.window.explanation
                )
        return replace(state, advice=advice, ask_at=info.ask_at)

    def _decide(
        self, state: CertificateState, ledger: Ledger, certificate: Certificate | None, lineage: Lineage
    ) -> tuple[Renewal, Purpose]:
        now, names = self.clock(), state.issuance.names
        renewal, replaces = self._plan(state, ledger, certificate)
        at = max(now, renewal.at)
        purpose = Purpose(replaces, is_asked_for=replaces is not None and _is_asked_for(state, at))
        staging, order = self.issuer.authority.staging, lineage.order()
        if ledger.unfinished(names) is not None and order is not None and order.is_made:
            if order.directory == state.issuance.directory:
                return Renewal(now, "an order is under way"), purpose
            if order.directory == staging:
                return Renewal(now, "a rehearsal is under way"), Purpose(is_staging=True)
        if staging and ledger.wants_staging(names):
            return renewal, Purpose(is_staging=True)
        if ledger.has_rehearsed(names):
            renewal, at = Renewal(now, "a rehearsal in the staging environment succeeded"), now
        limits = limits_of(state.issuance.directory)
        hold = ledger.hold_asked(names, at) if purpose.is_asked_for else ledger.hold(names, limits, at)
        return (renewal if hold is None else Renewal(hold.at, hold.reason)), purpose

    def _plan(
        self, state: CertificateState, ledger: Ledger, certificate: Certificate | None
    ) -> tuple[Renewal, str | None]:
        """When and why, and the identifier of the certificate that is replaced when the authority knows it."""
        now, issuance = self.clock(), state.issuance
        failures = ledger.failures(issuance.names, now)
        if certificate is None:
            return plan_first(failures, now=now, jitter=state.jitter), None
        if (reason := _unsuitable(state, certificate)) is not None:
            first = plan_first(failures, now=now, jitter=state.jitter)
            mine = ledger.issued_at(issuance.names)
            if mine is not None and mine <= now < mine + RIVAL_PAUSE:
                return Renewal(max(first.at, mine + RIVAL_PAUSE), f"{reason}, {RIVAL}"), None
            return (replace(first, reason=reason) if first.at <= now else first), None
        advice = state.advice
        renewal = plan_renewal(
            Lifetime(certificate.not_before, certificate.not_after),
            selected=None if advice is None else advice.selected,
            failures=failures,
            jitter=state.jitter,
        )
        # RFC 9773 section 5: the same certificate may be named once; after a failure, the authority may think it was.
        return renewal, advice.certificate_id if advice is not None else None


def _current(lineage: Lineage) -> Certificate | None:
    """What is damaged is as good as nothing: a new one takes its place."""
    try:
        return lineage.current()
    except CertificateError as error:
        logger.warning("%s: the certificate that is there cannot be used: %s", lineage.name, error)
        return None


def _read_state(lineage: Lineage) -> CertificateState | None:
    try:
        return lineage.state()
    except CertificateError as error:
        logger.warning("%s: %s", lineage.name, error)
        return None


def _unsuitable(state: CertificateState, certificate: Certificate) -> str | None:
    """Why the certificate that is there is not the one that is wanted; None when it is."""
    missing = [name for name in state.issuance.names if not is_covered(name, certificate.names)]
    if missing:
        return f"the certificate that is there is not for {missing[0]!r}"
    if state.origin and state.origin != state.issuance.directory:
        return "the certificate that is there is from another authority"
    return None


def _is_asked_for(state: CertificateState, at: datetime) -> bool:
    """Whether an order at that instant follows the authority's wish: before its window, its limits count it."""
    return state.advice is not None and state.advice.window.start <= at


def _status(state: CertificateState, certificate: Certificate | None) -> Status:
    if state.last_error:
        return Status.FAILED
    return Status.MISSING if certificate is None else Status.VALID


def _until(state: CertificateState, now: datetime) -> timedelta:
    """How long nothing is to be done for this certificate; zero when it is time for an attempt."""
    if state.next_at is None or state.next_at <= now:
        return timedelta(0)
    times = [state.next_at - now, LONGEST_SLEEP]
    if state.ask_at is not None:
        times.append(state.ask_at - now)
    return max(min(times), timedelta(seconds=1))
