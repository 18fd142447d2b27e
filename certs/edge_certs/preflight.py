"""Whether an order would succeed, found out before it is made: a failed one counts against an authority's limits.

Each address of a name is asked as the authority asks, but from here: what only the way from outside refuses, as a
firewall does, cannot be seen.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import ip_address
from typing import Any

from edge_certs.acme import Reply, Request, parse_date, parse_json
from edge_certs.acme_client import HttpsClient
from edge_certs.caa import Wish, find_refusal
from edge_certs.challenges import DNS_01, HTTP_01, TLS_ALPN_01
from edge_certs.csr import is_address
from edge_certs.dns_hook import split_command
from edge_certs.errors import CertificateError
from edge_certs.issuance import Issuer, trusted_context
from edge_certs.ledger import PRODUCTION, STAGING, limits_of
from edge_certs.names import Resolver
from edge_certs.probes import Prober
from edge_certs.standalone import Ports, answering
from edge_certs.state import Issuance
from edge_certs.x509 import show_time

# An authority signs nonces for some minutes; certificates begin an hour early for clocks that are behind.
SMALL_SKEW = timedelta(minutes=1)
LARGE_SKEW = timedelta(hours=1)

# Names that no public authority signs (RFC 6761, RFC 6762, RFC 8375, ICANN 2024).
PRIVATE_PARENTS = ("localhost", "local", "test", "example", "invalid", "internal", "home.arpa", "onion")


class Verdict(Enum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its `subject`, and what was found, with what to do when it is not right."""

    verdict: Verdict
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """Looks at everything that an order for `issuance` by `issuer` needs."""

    issuer: Issuer
    issuance: Issuance
    resolver: Resolver
    ports: Ports

    async def run(self) -> AsyncIterator[Check]:
        """Give each check when it is done. Raises CertificateError: the storage cannot be used."""
        identities: tuple[str, ...] | None = None
        try:
            async with self._transport() as transport:
                reply = await transport.send(Request("GET", self.issuance.directory, ()))
        except CertificateError as error:
            yield Check(Verdict.FAILED, "authority", str(error))
        else:
            meta = _meta(reply)
            yield self._authority(reply, meta)
            if (clock := self._clock(reply)) is not None:
                yield clock
            found = meta.get("caaIdentities")
            identities = tuple(map(str, found)) if isinstance(found, list) else None
        yield self._ledger()
        if (hook := self._hook()) is not None:
            yield hook
        async for check in self._names(identities):
            yield check

    async def _names(self, identities: tuple[str, ...] | None) -> AsyncIterator[Check]:
        kinds = [kind for kind in self.issuance.kinds if kind in (HTTP_01, TLS_ALPN_01)]
        problem = ""
        try:
            async with answering(self.issuer.storage.challenges, kinds, self.ports) as usable:
                for name in self.issuance.names:
                    async for check in self._name(name, usable, identities):
                        yield check
        except CertificateError as error:
            problem = str(error)
        if problem:
            yield Check(Verdict.FAILED, "ports", problem)

    async def _name(self, name: str, usable: Sequence[str], identities: tuple[str, ...] | None) -> AsyncIterator[Check]:
        if (private := self._private(name)) is not None:
            yield private
        host = name.removeprefix("*.")
        if not is_address(name):
            yield await self._caa(name, identities)
        if name.startswith("*."):
            yield Check(Verdict.OK, name, "a wildcard is proven in the DNS; nothing has to be reachable")
            return
        try:
            addresses = [host] if is_address(host) else await self.resolver.addresses(host)
        except CertificateError as error:
            yield Check(Verdict.FAILED, name, str(error))
            return
        if not addresses:
            yield Check(Verdict.FAILED, name, "no address in the DNS; add an A or AAAA record with this machine's")
        for address in addresses:
            for kind in usable:
                yield await self._reach(name, address, kind)

    async def _reach(self, name: str, address: str, kind: str) -> Check:
        prober = Prober(self.issuer.storage.challenges)
        port = self.ports.http if kind == HTTP_01 else self.ports.tls
        ask = prober.http if kind == HTTP_01 else prober.alpn
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if problem := await ask(address, port, name):
            advice = "let this address lead to this machine, and the port through, or remove its record"
            return Check(Verdict.FAILED, name, f"{kind} at {where}: {problem}; {advice}")
        return Check(Verdict.OK, name, f"{kind} at {where}: the nonce is answered")

    async def _caa(self, name: str, identities: tuple[str, ...] | None) -> Check:
        try:
            found = await self.resolver.caa(name.removeprefix("*."))
        except CertificateError as error:
            return Check(Verdict.FAILED, name, f"CAA: {error}")
        if found is None:
            return Check(Verdict.OK, name, "CAA: no record, so every authority may sign")
        domain, records = found
        shown = ", ".join(str(record) for record in records)
        if identities is None:
            return Check(Verdict.WARNING, name, f"CAA at {domain}: {shown}; the authority does not say who it is there")
        wanted = Wish(identities, self.issuance.kinds, is_wildcard=name.startswith("*."))
        if refusal := find_refusal(records, wanted):
            advice = f'add a record such as: {domain} CAA 0 issue "{identities[0] if identities else ""}"'
            return Check(Verdict.FAILED, name, f"CAA at {domain}: {refusal}; {advice}")
        return Check(Verdict.OK, name, f"CAA at {domain}: {shown}")

    def _authority(self, reply: Reply, meta: dict[str, Any]) -> Check:
        if reply.status != 200 or not isinstance(parse_json(reply.content), dict):
            text = f"{self.issuance.directory} answered {reply.status}, not a directory; check its URL"
            return Check(Verdict.FAILED, "authority", text)
        profiles, wanted = meta.get("profiles"), self.issuance.profile
        if wanted is not None and (not isinstance(profiles, dict) or wanted not in profiles):
            offered = ", ".join(profiles) if isinstance(profiles, dict) else "none"
            return Check(Verdict.FAILED, "authority", f"no profile {wanted!r}, it offers {offered}; choose one")
        has_account = self.issuer.storage.authority(self.issuance.directory).account() is not None
        if meta.get("externalAccountRequired") is True and not has_account and not self.issuer.authority.kid:
            text = "it makes accounts for its customers only; give --eab-kid and --eab-key"
            return Check(Verdict.FAILED, "authority", text)
        return Check(Verdict.OK, "authority", self.issuance.directory)

    def _clock(self, reply: Reply) -> Check | None:
        theirs = parse_date(reply.first("date"))
        if theirs is None:
            return None
        apart = abs(self.issuer.clock() - theirs)
        if apart < SMALL_SKEW:
            return Check(Verdict.OK, "clock", "the same as the authority's")
        seconds = int(apart.total_seconds())
        verdict = Verdict.WARNING if apart < LARGE_SKEW else Verdict.FAILED
        return Check(verdict, "clock", f"{seconds} s from the authority's; set it, as by timedatectl set-ntp true")

    def _ledger(self) -> Check:
        now, names = self.issuer.clock(), self.issuance.names
        ledger = self.issuer.storage.authority(self.issuance.directory).ledger()
        hold = ledger.hold(names, limits_of(self.issuance.directory), now)
        if hold is not None:
            return Check(Verdict.FAILED, "ledger", f"{hold.reason}; wait until {show_time(hold.at)}")
        failures = ledger.failures(names, now)
        if failures.count and failures.last_at is not None:
            return Check(
                Verdict.WARNING,
                "ledger",
                f"{_times(failures.count)} failed, the last at {show_time(failures.last_at)}; mend the cause first",
            )
        return Check(Verdict.OK, "ledger", "no attempt failed, and no limit that is known is near")

    def _hook(self) -> Check | None:
        if DNS_01 not in self.issuance.kinds:
            return None
        command = split_command(self.issuance.dns_hook)[0]
        if shutil.which(command) is None:
            return Check(Verdict.FAILED, "DNS hook", f"{command!r} is no command that may be run here; name another")
        return Check(Verdict.OK, "DNS hook", f"{command!r} can be run; whether its records are seen, an order shows")

    def _private(self, name: str) -> Check | None:
        """Names and addresses that no public authority signs; a private authority may."""
        if self.issuance.directory not in (PRODUCTION, STAGING):
            return None
        host = name.removeprefix("*.")
        is_private = (
            not ip_address(host).is_global
            if is_address(host)
            else "." not in host or f".{host}".endswith(tuple(f".{parent}" for parent in PRIVATE_PARENTS))
        )
        text = "no public authority signs for it; use edge serve --dev, or an authority of your own"
        return Check(Verdict.FAILED, name, text) if is_private else None

    def _transport(self) -> HttpsClient:
        issuer = self.issuer
        return HttpsClient(trusted_context(issuer.storage.home, issuer.environ, issuer.authority.ca_root))


def is_ready(checks: Sequence[Check]) -> bool:
    """Return whether nothing failed."""
    return all(check.verdict is not Verdict.FAILED for check in checks)


def _meta(reply: Reply) -> dict[str, Any]:
    found = parse_json(reply.content)
    meta = found.get("meta") if isinstance(found, dict) else None
    return meta if isinstance(meta, dict) else {}


def _times(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
