"""Does a client have what it asks for already? Validators and preconditions (RFC 9110 sections 8.8 and 13)."""

from __future__ import annotations

import re
from calendar import timegm
from email.utils import formatdate, parsedate
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ONE_TAG = re.compile(_TAG)
# RFC 9110 section 5.6.1: elements with commas between; empty ones count for nothing.
_TAGS = re.compile(rb"[ \t,]*%b(?:[ \t]*,[ \t,]*%b)*[ \t,]*" % (_TAG, _TAG))


class Outcome(Enum):
    """What the preconditions of a GET or HEAD say."""

    SEND = 200
    NOT_MODIFIED = 304
    FAILED = 412


class Validators(NamedTuple):
    """What one version of a file is known by: a strong entity tag, and its time in whole seconds since the epoch."""

    tag: bytes
    modified: int


def make_validators(inode: int, size: int, modified_ns: int) -> Validators:
    """Return the validators of a file.

    The tag is strong: who writes a file changes its time, who puts another in its place, its inode. Both are hidden in
    a digest: a client has no use for the inode.
    """
    digest = blake2b(b"%d %d %d" % (inode, size, modified_ns), digest_size=8).hexdigest()
    return Validators(b'"%b"' % digest.encode(), modified_ns // 1_000_000_000)


@lru_cache(maxsize=1024)
def format_date(seconds: int) -> bytes:
    """Return an instant as HTTP writes it (RFC 9110 section 5.6.7)."""
    return formatdate(seconds, usegmt=True).encode()


def parse_date(value: bytes) -> int | None:
    """Return the seconds since the epoch of a date in any of the three formats; None for what is none."""
    found = parsedate(value.decode("latin-1"))
    if found is None:
        return None
    try:
        return timegm(found)
    except (ValueError, OverflowError):
        return None


def evaluate(conditions: dict[bytes, bytes], validators: Validators) -> Outcome:
    """Weigh the If-* fields of a GET or HEAD in the order of RFC 9110 section 13.2.2.

    `conditions` are fields by lower-case name; a date that cannot be read is as if it was not there.
    """
    if (match := conditions.get(b"if-match")) is not None:
        if match.strip() != b"*" and validators.tag not in _parse_tags(match):
            return Outcome.FAILED
    elif (since := _date_of(conditions, b"if-unmodified-since")) is not None and validators.modified > since:
        return Outcome.FAILED
    if (none_match := conditions.get(b"if-none-match")) is not None:
        if none_match == validators.tag or _names_weakly(none_match, validators.tag):
            return Outcome.NOT_MODIFIED
    elif (since := _date_of(conditions, b"if-modified-since")) is not None and validators.modified <= since:
        return Outcome.NOT_MODIFIED
    return Outcome.SEND


def range_applies(conditions: dict[bytes, bytes], validators: Validators, now: int) -> bool:
    """Tell whether If-Range, if there is one, still means this version (RFC 9110 section 13.1.5).

    `now` is the wall clock in seconds: a time of this very second does not tell two versions apart (section 8.8.2.2).
    """
    value = conditions.get(b"if-range")
    if value is None:
        return True
    value = value.strip()
    if _ONE_TAG.fullmatch(value):
        return value == validators.tag
    return value == format_date(validators.modified) and validators.modified < now


def _names_weakly(value: bytes, tag: bytes) -> bool:
    return value.strip() == b"*" or tag in [found.removeprefix(b"W/") for found in _parse_tags(value)]


def _date_of(conditions: dict[bytes, bytes], name: bytes) -> int | None:
    value = conditions.get(name)
    return None if value is None else parse_date(value)


def _parse_tags(value: bytes) -> list[bytes]:
    """Return the entity tags of a list; none when it is malformed."""
    return _ONE_TAG.findall(value) if _TAGS.fullmatch(value) else []
