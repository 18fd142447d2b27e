"""Whether an answer is compressed, and with what (RFC 9110 sections 8.4 and 12.5.3).

What an answer is decides whether it may be: type, size, and what its fields say. What the client takes decides the
coding. An answer that could have been compressed says so with Vary, also where it is not.

A compressed answer tells by its size how much of it repeats. Whoever can have a browser send requests with text of
his choice, and sees the sizes, reads a secret out of the answer byte by byte (BREACH, CVE-2013-3587). So answers to
requests with cookies or credentials, and those that set a cookie, are left alone unless they are declared public. The
edge's own cookie (affinity.py) is none of those: nobody is logged in by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Final, NamedTuple

from edge.http.events import RequestHead
from edge.http.fields import is_token, parse_list
from edge.policy.affinity import is_all, is_ours

_TYPES: Final = frozenset(
    b"""
    application/ecmascript application/javascript application/json application/json5 application/jsonl
    application/ld+json application/ndjson application/rtf application/sql application/toml
    application/vnd.ms-fontobject application/wasm application/x-javascript application/x-ndjson
    application/x-sh application/xml application/yaml font/otf font/ttf image/bmp image/vnd.microsoft.icon
    image/x-icon
    """.split()
)
# Server-Sent Events are messages: each is to arrive at once, they are small, and they are for one user.
_NEVER: Final = frozenset((b"text/event-stream",))
# Fields that speak of the content as it is: a digest of it, a part of it, a coding that it has already.
_BOUND: Final = frozenset(
    (b"content-encoding", b"content-range", b"content-md5", b"content-digest", b"digest", b"repr-digest")
)
# 204 and 304 have no content, 205 must have none, and 206 has a part of what the client has the rest of.
_NO_STATUS: Final = frozenset((101, 204, 205, 206, 304))
# Browsers send about 30 bytes. What is longer is no browser's, and gets its answer as it is.
_MAX_ACCEPT: Final = 256
_WEIGHT: Final = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
# RFC 9110 section 8.4.1.3.
_ALIASES: Final[Mapping[bytes, bytes]] = MappingProxyType({b"x-gzip": b"gzip"})
_NOTHING: Final[Mapping[bytes, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rules:
    """What is compressed: the codings in the order of preference, the smallest size in bytes, and who may have secrets.

    `secrets`: also answers that may hold some.
    """

    codings: tuple[bytes, ...]
    min_size: int = 1024
    secrets: bool = False


class Plan(NamedTuple):
    """What becomes of an answer: its coding, and its fields with it.

    `plain` are the fields if it is not compressed after all; without a `coding`, it is not.
    """

    coding: bytes
    fields: list[bytes]
    plain: list[bytes]


def plan(rules: Rules, head: RequestHead, status: int, size: int, fields: list[bytes]) -> Plan | None:
    """Return what becomes of an answer; None to leave it as it is.

    `size` is its content's, -1 if nobody knows it yet. `fields` are names and values in turn, without Content-Length.
    """
    if status in _NO_STATUS:
        return _plan_without_content(head, fields) if status == 304 else None
    values = _by_name(fields)
    if not _is_text(values.get(b"content-type", b"")) or not _BOUND.isdisjoint(values) or not size:
        return None
    control = parse_list(values.get(b"cache-control", b"").lower())
    if b"no-transform" in control:
        return None
    asked = _of_request(head)
    weights = parse_accept_encoding(asked.get(b"accept-encoding", b""))
    if 0 < size < rules.min_size and _weight_of_identity(weights):
        return None
    plain = _with_vary(fields)
    if not rules.secrets and not _is_public(control) and _has_secrets(asked, values):
        return Plan(b"", plain, plain)
    coding = choose(weights, rules.codings)
    return Plan(coding, _encoded(plain, coding) if coding else plain, plain)


@lru_cache(maxsize=256)
def parse_accept_encoding(value: bytes) -> Mapping[bytes, int]:
    """Return the weight of each coding that a client names, in thousandths; one whose weight is malformed has none."""
    weights: dict[bytes, int] = {}
    if len(value) > _MAX_ACCEPT:
        return _NOTHING
    for element in parse_list(value.lower()):
        coding, *parameters = [part.strip(b" \t") for part in element.split(b";")]
        if is_token(coding):
            weights[_ALIASES.get(coding, coding)] = _parse_weight(parameters)
    return MappingProxyType(weights)


def choose(weights: Mapping[bytes, int], codings: tuple[bytes, ...]) -> bytes:
    """Return the coding of ours that a client likes best, the first of equals; empty if it takes none.

    No coding at all is one that it takes, too, and may like better; that has to be said for it to count.
    """
    others = weights.get(b"*", 0)
    best, weight = b"", weights.get(b"identity", 0)
    for coding in codings:
        own = weights.get(coding, others)
        if own > weight or (own == weight and not best and own):
            best, weight = coding, own
    return best


def _weight_of_identity(weights: Mapping[bytes, int]) -> int:
    """Return what no coding is worth: acceptable unless it is excluded, alone or with `*` (RFC 9110 section 12.5.3)."""
    return weights.get(b"identity", weights.get(b"*", 1))


def _parse_weight(parameters: list[bytes]) -> int:
    if not parameters:
        return 1000
    name, _, value = parameters[0].partition(b"=")
    if name != b"q" or len(parameters) > 1 or not _WEIGHT.fullmatch(value):
        return 0
    return round(float(value) * 1000)


def _by_name(fields: list[bytes]) -> dict[bytes, bytes]:
    """Return fields by name; several of a name are one list (RFC 9110 section 5.3)."""
    values: dict[bytes, bytes] = {}
    for name, value in _pairs(fields):
        values[name] = values[name] + b", " + value if name in values else value
    return values


def _of_request(head: RequestHead) -> dict[bytes, bytes]:
    return _by_name([part for line in head.lines for part in line.split(b"\n", 1)])


def _is_text(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return (kind.startswith(b"text/") and kind not in _NEVER) or kind in _TYPES or kind.endswith((b"+json", b"+xml"))


def _is_public(control: list[bytes]) -> bool:
    """Tell whether the application says that everybody may have the answer (RFC 9111 section 5.2.2.9)."""
    return b"public" in control and b"private" not in control and b"no-store" not in control


def _has_secrets(asked: Mapping[bytes, bytes], answered: Mapping[bytes, bytes]) -> bool:
    return (
        b"authorization" in asked
        or (b"cookie" in asked and not is_all(asked[b"cookie"]))
        or (b"set-cookie" in answered and not is_ours(answered[b"set-cookie"]))
    )


def _with_vary(fields: list[bytes]) -> list[bytes]:
    """Return the fields, which now say that Accept-Encoding has been looked at (RFC 9110 section 12.5.5)."""
    varies = [index for index in range(0, len(fields), 2) if fields[index] == b"vary"]
    for index in varies:
        named = parse_list(fields[index + 1].lower())
        if b"*" in named or b"accept-encoding" in named:
            return fields
    if not varies:
        return [*fields, b"vary", b"Accept-Encoding"]
    changed = fields.copy()
    value = changed[varies[0] + 1]
    changed[varies[0] + 1] = value + b", Accept-Encoding" if value else b"Accept-Encoding"
    return changed


def _encoded(fields: list[bytes], coding: bytes) -> list[bytes]:
    """Return the fields of the compressed answer: another representation, of which there are no ranges."""
    kept = [(name, value) for name, value in _pairs(_weakened(fields)) if name != b"accept-ranges"]
    return [*chain.from_iterable(kept), b"content-encoding", coding]


def _weakened(fields: list[bytes]) -> list[bytes]:
    """Return the fields with the validator of what means the same and has other bytes (RFC 9110 section 8.8.1)."""
    changed: list[bytes] = []
    for name, value in _pairs(fields):
        changed += (name, b"W/" + value if name == b"etag" and not value.startswith(b"W/") else value)
    return changed


def _plan_without_content(head: RequestHead, fields: list[bytes]) -> Plan | None:
    """Have a 304 name the validator that the client holds, which is the weak one if it got a compressed answer."""
    etag = _by_name(fields).get(b"etag", b"")
    held = _of_request(head).get(b"if-none-match", b"")
    if not etag.startswith(b'"') or b"W/" + etag not in held:
        return None
    changed = _with_vary(_weakened(fields))
    return Plan(b"", changed, changed)


def _pairs(fields: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)
