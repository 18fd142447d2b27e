"""What the DNS says of a name, as an authority asks it: addresses, and CAA records up the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from edge_certs.caa import CaaRecord
from edge_certs.errors import CertificateError

TIMEOUT = 10.0

ADVICE = "check the name servers of the domain, and this machine's"


@dataclass(frozen=True, slots=True)
class Resolver:
    """Asks the name server at `address` and `port`, or, without one, those of this machine."""

    address: str = ""
    port: int = 53

    async def addresses(self, host: str) -> list[str]:
        """Return the addresses of `host`, IPv6 first, as an authority tries them; there may be none.

        Raises CertificateError: there is no such name, or no answer.
        """
        found: list[str] = []
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            found += [str(record) for record in await self._records(host, kind)]
        return found

    async def caa(self, host: str) -> tuple[str, list[CaaRecord]] | None:
        """Return the records that count for `host`, and the domain they are at: the nearest above it; None without any.

        Raises CertificateError: no answer, with which an authority refuses, too (RFC 8659 section 3).
        """
        name = dns.name.from_text(host)
        while len(name.labels) > 1:
            try:
                records = await self._records(name.to_text(), dns.rdatatype.CAA)
            except NoSuchName:
                records = []
            if records:
                return name.to_text(omit_final_dot=True), [_caa_record(record) for record in records]
            name = name.parent()
        return None

    async def _records(self, host: str, kind: dns.rdatatype.RdataType) -> Sequence[Any]:
        what = f"{dns.rdatatype.to_text(kind)} of {host.removesuffix('.')}"
        try:
            answer = await self._resolver().resolve(host, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            raise NoSuchName(f"{what}: no such name in the DNS", "add it there, or correct the name") from None
        except dns.resolver.LifetimeTimeout:
            raise CertificateError(f"{what}: no answer within {TIMEOUT:g} s", ADVICE) from None
        except dns.exception.DNSException as error:
            words = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise CertificateError(f"{what}: no answer: {words}", ADVICE) from error
        return list(answer.rrset or ())

    def _resolver(self) -> dns.asyncresolver.Resolver:
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self.address)
        except dns.exception.DNSException as error:
            raise CertificateError(f"no name server: {error}", "set one in /etc/resolv.conf") from error
        resolver.lifetime = TIMEOUT
        if self.address:
            resolver.nameservers = [self.address]
            resolver.port = self.port
        return resolver


def _caa_record(record: Any) -> CaaRecord:
    return CaaRecord(record.flags, record.tag.decode("ascii"), record.value.decode("utf-8", "replace"))


class NoSuchName(CertificateError):
    """The DNS does not know the name."""
