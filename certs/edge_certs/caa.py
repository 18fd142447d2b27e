"""Which authority may sign for a name: CAA records (RFC 8659, RFC 8657; pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Authorities sign in spite of a property that they do not know, unless it is critical (RFC 8659 section 4.1).
KNOWN_TAGS = ("issue", "issuewild", "iodef", "contactemail", "contactphone", "issuemail", "issuevmc")
CRITICAL = 0x80


@dataclass(frozen=True, slots=True)
class CaaRecord:
    """One record: its flags, tag and value, as `0 issue "letsencrypt.org"`."""

    flags: int
    tag: str
    value: str

    def __str__(self) -> str:
        return f'{self.flags} {self.tag} "{self.value}"'


@dataclass(frozen=True, slots=True)
class Wish:
    """Who is to sign, by which challenges: `identities` are the authority's names in such records."""

    identities: tuple[str, ...]
    kinds: tuple[str, ...]
    is_wildcard: bool


def find_refusal(records: Sequence[CaaRecord], wish: Wish) -> str:
    """Return why these records of a domain forbid what `wish` wants; empty when they do not."""
    for record in records:
        if record.flags & CRITICAL and record.tag.lower() not in KNOWN_TAGS:
            return f"{record} is critical and of a kind that authorities do not know"
    wild = [record for record in records if record.tag.lower() == "issuewild"]
    plain = [record for record in records if record.tag.lower() == "issue"]
    # For a wildcard, issuewild takes the place of issue when it is there (section 4.3).
    relevant = wild if wish.is_wildcard and wild else plain
    if not relevant or any(_allows(record, wish) for record in relevant):
        return ""
    return f"{' and '.join(map(str, relevant))} let nobody else sign, and the authority is {_listed(wish.identities)}"


def _allows(record: CaaRecord, wish: Wish) -> bool:
    issuer, *parameters = (part.strip() for part in record.value.split(";"))
    if issuer.lower() not in wish.identities:
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        # RFC 8657 section 4.
        if name.strip().lower() == "validationmethods":
            return bool({method.strip() for method in value.split(",")} & set(wish.kinds))
    return True


def _listed(identities: Sequence[str]) -> str:
    return " or ".join(identities) or "nobody by that name"
