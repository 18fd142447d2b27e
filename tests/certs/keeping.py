"""A keeper of certificates on a clock that tests move, before an authority in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from edge_certs.issuance import Issuer
from edge_certs.keeper import Keeper
from edge_certs.settings import AuthoritySettings
from edge_certs.state import CertificateState, Issuance
from edge_certs.storage import Storage
from edge_certs.x509 import Certificate
from tests.certs.authority import Clock, TwoEnvironments

NAMES = ("shop.example",)


@dataclass
class Bench:
    """The authority, the clock, the folder, and how certificates are asked for."""

    authority: TwoEnvironments
    clock: Clock
    storage: Storage
    settings: AuthoritySettings
    issuance: Issuance
    numbers: list[float] = field(default_factory=lambda: [0.5])

    def restart(self) -> Keeper:
        """Return a keeper that knows nothing but what is on the disk."""
        issuer = Issuer(self.storage, self.settings, {}, self.clock.now, self.clock.sleep)
        return Keeper(self.storage, issuer, self.clock.now, self.clock.sleep, lambda: self.numbers[0])

    async def turn(self, keeper: Keeper | None = None, issuance: Issuance | None = None) -> timedelta:
        """Look at the certificate once, as a keeper that was started just now."""
        return await (keeper or self.restart()).turn(issuance or self.issuance)

    async def settle(self, issuance: Issuance | None = None) -> CertificateState:
        """Look at it until there is nothing to do for now."""
        for _ in range(10):
            if await self.turn(issuance=issuance):
                return self.state
        raise AssertionError("there is always something to do")

    async def wait(self) -> CertificateState:
        """Let the time pass until the next attempt, and make it."""
        assert self.state.next_at is not None
        self.clock.now_is = max(self.clock.now_is, self.state.next_at)
        return await self.settle()

    @property
    def state(self) -> CertificateState:
        state = self.storage.lineage(self.issuance.names[0]).state()
        assert state is not None
        return state

    @property
    def certificate(self) -> Certificate:
        certificate = self.storage.lineage(self.issuance.names[0]).current()
        assert certificate is not None
        return certificate

    def want(self, *names: str, **how: object) -> Issuance:
        """Return another wish of the same authority."""
        return replace(self.issuance, **({"names": names} if names else {}), **how)  # type: ignore[arg-type]

    @property
    def next_in(self) -> timedelta:
        """How long it is until the next attempt."""
        assert self.state.next_at is not None
        return self.state.next_at - self.clock.now()


Act = Callable[[Bench], Coroutine[object, object, None]]


def keeping(folder: Path, act: Act) -> None:
    """Run `act` on a bench whose files are in `folder`."""

    async def run() -> None:
        clock = Clock()
        authority = TwoEnvironments(clock)
        async with asyncio.timeout(60), authority.running(folder) as root:
            directory, staging = f"{root}/production/dir", f"{root}/staging/dir"
            settings = AuthoritySettings(directory, staging, ("a@example.com",), ca_root=str(folder / "ca.pem"))
            issuance = Issuance(NAMES, directory, ("http-01", "tls-alpn-01"))
            await act(Bench(authority, clock, Storage(folder / "home"), settings, issuance))

    asyncio.run(run())


def window(start: datetime, days: float) -> tuple[datetime, datetime]:
    """Return a renewal window that is so many days long."""
    return start, start + timedelta(days=days)
