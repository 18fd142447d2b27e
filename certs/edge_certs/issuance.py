"""One attempt to get a certificate, from the account to the files; what must outlive a crash is written first.

Theory of operation. Whoever calls `obtain` holds the locks of the names. The attempt is put into the ledger, then an
order is made, whose URL and key are on the disk before anything is done with it; a program that is killed at any point
finds it there when it starts again and goes on with it, instead of ordering a second time. The certificate is proven to
be the one that was asked for before it takes the place of the old one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from edge_certs.acme import AcmeProblem, Session
from edge_certs.acme_client import AcmeClient, HttpsClient, RenewalInfo, Solver, utc_now
from edge_certs.acme_order import Order, State, Wanted
from edge_certs.challenges import DNS_01, Challenge
from edge_certs.csr import check_issued, encode_csr, generate_key, is_covered
from edge_certs.dns_hook import DnsHook
from edge_certs.errors import CertificateError, place
from edge_certs.files import LockHeld
from edge_certs.jws import AccountKey
from edge_certs.ledger import KEPT, Attempt, Outcome
from edge_certs.settings import AuthoritySettings
from edge_certs.state import Issuance
from edge_certs.storage import Account, Lineage, SavedOrder, Storage
from edge_certs.trust.outbound import outbound_context
from edge_certs.x509 import Certificate, show_time

logger = logging.getLogger("edge.certs")

# Registering takes one request: whoever holds the account for longer has crashed or hangs.
ACCOUNT_TIMEOUT = timedelta(minutes=2)
ACCOUNT_POLL = 0.2

# One wrong address must not be sent for every certificate that is wanted.
ACCOUNT_RETRY = timedelta(minutes=1)

# Of an error, in the ledger: it is read at each turn and holds many.
MAX_ERROR = 500

# Refusals that pass by themselves: a rehearsal would teach nothing.
PASSING = ("rateLimited", "serverInternal", "badNonce", "accountDoesNotExist", "externalAccountRequired")


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why an attempt is made: `replaces` is the identifier (RFC 9773) of the certificate that a new one follows.

    `is_asked_for`: the authority's limits do not count it. `is_staging`: a rehearsal, whose certificate is thrown away.
    """

    replaces: str | None = None
    is_asked_for: bool = False
    is_staging: bool = False


@dataclass(slots=True)
class Issuer:
    """Gets certificates from one authority with one account.

    `environ` says which further roots are trusted for the way to it. `report` is told of which certificate the order
    does what next.
    """

    storage: Storage
    authority: AuthoritySettings
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    report: Callable[[str, State], None] = field(default=lambda name, state: None, repr=False)
    _registering: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _refused: dict[str, tuple[datetime, CertificateError]] = field(default_factory=dict, repr=False)

    async def obtain(self, issuance: Issuance, purpose: Purpose) -> Certificate:
        """Return a certificate for `issuance`, which serves from then on unless it was a rehearsal.

        Hold the locks of its names. Goes on with an order that is under way. The ledger has the attempt and its end.

        Raises CertificateError: there is none; what serves goes on serving.
        """
        lineage = self.storage.lineage(issuance.names[0])
        # Also the ledger of its rehearsals: failures of both make one back-off.
        ledger = self.storage.authority(issuance.directory)
        kinds = rotate(issuance.kinds, ledger.ledger().failures(issuance.names, self.clock()).count)
        started = self._start(issuance, purpose, lineage)

        def end(**how: Any) -> None:
            ledger.amend(lambda now_is: now_is.finish(started, replace(started, **how)))

        try:
            certificate, is_replacement = await self._order(issuance, purpose, lineage, kinds)
        except CertificateError as error:
            retry_at = _bounded(error.retry_at, self.clock()) if isinstance(error, AcmeProblem) else None
            end(outcome=Outcome.FAILED, error=str(error)[:MAX_ERROR], is_refused=_is_refusal(error), retry_at=retry_at)
            if _is_refusal(error):
                lineage.drop_order()
            else:
                lineage.blame_order()
            raise
        except asyncio.CancelledError:
            end(outcome=Outcome.INTERRUPTED)
            raise
        except Exception as error:
            # A defect of ours: were it not a failure, the order would be gone on with at once, and for ever.
            end(outcome=Outcome.FAILED, error=repr(error)[:MAX_ERROR])
            lineage.blame_order()
            raise
        end(outcome=Outcome.ISSUED, is_renewal=started.is_renewal and is_replacement)
        return certificate

    async def ask_renewal(self, issuance: Issuance, certificate: x509.Certificate) -> RenewalInfo:
        """Return when the authority wants `certificate` renewed. Raises CertificateError: it does not say."""
        async with self._transport() as transport:
            # The question is not signed: any key will do, and there need be no account.
            client = AcmeClient(transport, Session(issuance.directory, AccountKey.generate()), self.clock, self.sleep)
            return await client.ask_renewal(certificate)

    @asynccontextmanager
    async def client(self, directory: str) -> AsyncIterator[AcmeClient]:
        """Give a client with an account at the authority with this directory, which is made when there is none.

        Raises CertificateError: it cannot be made.
        """
        async with self._transport() as transport:
            client = AcmeClient(transport, Session(directory, AccountKey.generate()), self.clock, self.sleep)
            account = await self._account(directory, client)
            client.session.key, client.session.account = account.key, account.url
            yield client

    def _start(self, issuance: Issuance, purpose: Purpose, lineage: Lineage) -> Attempt:
        """Put the attempt down, or find the one that is gone on with."""
        folder = self.storage.authority(issuance.directory)
        attempt = Attempt(self.clock(), issuance.names, is_staging=purpose.is_staging, is_renewal=purpose.is_asked_for)
        unfinished, order = folder.ledger().unfinished(issuance.names), lineage.order()
        if (
            unfinished is not None
            and unfinished.is_staging == purpose.is_staging
            and order is not None
            and order.is_made
        ):
            return unfinished
        folder.amend(lambda ledger: ledger.start(attempt))
        return attempt

    async def _order(
        self, issuance: Issuance, purpose: Purpose, lineage: Lineage, kinds: tuple[str, ...]
    ) -> tuple[Certificate, bool]:
        """Return the certificate, and whether the authority took it for the one that follows the old one."""
        directory = self.authority.staging if purpose.is_staging else issuance.directory
        saved = lineage.order()
        if saved is None or saved.directory != directory:
            saved = SavedOrder(directory, "", generate_key(issuance.key_type))
        resumed, key_pem = saved, saved.key_pem

        def save(text: str) -> None:
            lineage.save_order(replace(resumed, saved=text))

        async with self.client(directory) as client:
            wanted = Wanted(
                issuance.names,
                kinds,
                encode_csr(key_pem, issuance.names),
                profile=issuance.profile,
                replaces=None if purpose.is_staging else purpose.replaces,
                root=issuance.root,
                account=client.session.account or "",
            )
            order = Order(wanted, client.session.key, saved.saved)
            try:
                chain = await client.issue(
                    order, self._solver(issuance), save, lambda state: self.report(lineage.name, state)
                )
            except AcmeProblem as problem:
                if problem.kind == "accountDoesNotExist":
                    self.storage.authority(directory).forget()
                raise
        certificate = self._take(chain, key_pem, issuance, lineage, is_staging=purpose.is_staging)
        return certificate, order.is_replacement

    def _take(
        self, chain: bytes, key_pem: bytes, issuance: Issuance, lineage: Lineage, *, is_staging: bool
    ) -> Certificate:
        """Let what came serve, unless it is a rehearsal's, or worse than what serves; then its order has ended.

        Raises CertificateError: it is not what was asked for, or is not valid now; one that is not valid now serves
        where there is no better one, as the fault may be this clock's.
        """
        certificate = check_issued(chain, key_pem, issuance.names)
        now = self.clock()
        is_valid = certificate.not_before <= now < certificate.not_after
        if is_staging:
            lineage.drop_order()
        elif is_valid or not _serves(lineage, issuance, now):
            lineage.install(chain, key_pem)
            lineage.drop_order()
        if is_valid:
            return certificate
        # Or another one would be ordered at once, and for ever.
        start, end = show_time(certificate.not_before), show_time(certificate.not_after)
        dates = f"expired at {end}" if certificate.not_after <= now else f"is not valid before {start}"
        raise CertificateError(f"the certificate that came {dates}, now is {show_time(now)}", "set the clock")

    def _solver(self, issuance: Issuance) -> Solver:
        hook = DnsHook(issuance.dns_hook) if issuance.dns_hook and DNS_01 in issuance.kinds else None
        return Solver(self.storage.challenges, hook, _announce)

    def _transport(self) -> HttpsClient:
        return HttpsClient(trusted_context(self.storage.home, self.environ, self.authority.ca_root))

    async def _account(self, directory: str, client: AcmeClient) -> Account:
        folder = self.storage.authority(directory)
        if (account := folder.account()) is not None:
            return account
        async with self._registering:
            # Both ways: a clock that was set back must not make it last.
            if (refused := self._refused.get(directory)) and abs(self.clock() - refused[0]) < ACCOUNT_RETRY:
                raise refused[1]
            try:
                return await self._register(directory, client)
            except CertificateError as error:
                self._refused[directory] = (self.clock(), error)
                raise

    async def _register(self, directory: str, client: AcmeClient) -> Account:
        """Make the account; of several processes that start at once, one does."""
        folder = self.storage.authority(directory)
        give_up_at = self.clock() + ACCOUNT_TIMEOUT
        while True:
            try:
                with folder.locked(timeout=0.0):
                    if (account := folder.account()) is not None:
                        return account
                    key = folder.key() or client.session.key
                    folder.save_key(key)
                    client.session.key = key
                    url = await client.register(self.authority.contacts, self.authority.binding)
                    account = Account(directory, url, self.authority.contacts, key)
                    folder.save(account)
                    return account
            except LockHeld:
                # Asked again and again: to wait for the lock itself would stop everything else here.
                if self.clock() > give_up_at:
                    raise
            await self.sleep(ACCOUNT_POLL)


def rotate(kinds: tuple[str, ...], failures: int) -> tuple[str, ...]:
    """Return `kinds` with another one preferred after each failure: a port may be closed, and the other one open."""
    first = failures % len(kinds) if kinds else 0
    return kinds[first:] + kinds[:first]


def trusted_context(home: Path, environ: dict[str, str], ca_root: str) -> ssl.SSLContext:
    """Return what an authority's own certificate is checked with: `ca_root` alone, or all that `edge trust` knows of.

    Raises CertificateError: the roots cannot be read.
    """
    if not ca_root:
        return outbound_context(home, environ)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_root)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"CA file {place(ca_root)}: no certificates can be read from it", "name a PEM file"
        ) from error
    return context


def _serves(lineage: Lineage, issuance: Issuance, now: datetime) -> bool:
    """Whether there is a certificate that clients take for all of the names now."""
    try:
        certificate = lineage.serving(now)
    except CertificateError:
        return False
    return certificate is not None and all(is_covered(name, certificate.names) for name in issuance.names)


def _bounded(retry_at: datetime | None, now: datetime) -> datetime | None:
    """No published limit is longer than a week: what asks for more is a mistake that no certificate outlives."""
    return None if retry_at is None else min(retry_at, now + KEPT)


def _is_refusal(error: CertificateError) -> bool:
    return isinstance(error, AcmeProblem) and error.status < 500 and error.status != 429 and error.kind not in PASSING


def _announce(challenge: Challenge) -> None:
    name, text = challenge.record
    logger.info("%s: this TXT record has to stand in the DNS: %s %s", challenge.name, name, f'"{text}"')
