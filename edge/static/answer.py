"""What a GET or HEAD of a file gets: status, fields, and which of its bytes. Pure: the file is opened elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from edge.static.conditional import Outcome, Validators, evaluate, format_date, range_applies
from edge.static.ranges import Span, UnsatisfiableError, content_range, count_bytes, parse_range, split_parts

# The request's fields that decide about the answer.
CONDITIONS = (b"if-", b"range\n")

_COMMON = (b"x-content-type-options", b"nosniff")


class Facts(NamedTuple):
    """What is known of one form of a file before anybody asks for it; fields are names and values in turn."""

    size: int
    validators: Validators
    media_type: bytes
    kept_fields: list[bytes]  # which a 304 has, too (RFC 9110 section 15.4.5)
    fields: list[bytes]


class Plan(NamedTuple):
    """An answer: its status, the length of its content, its fields, and the content in pieces.

    A status of 400 and above without pieces is a refusal: it gets the page of the status, with these fields.
    """

    status: int
    length: int
    fields: list[bytes]
    pieces: list[bytes | Span]


def describe(
    *, size: int, validators: Validators, media_type: bytes, cache: bytes, coding: bytes = b"", vary: bytes = b""
) -> Facts:
    """Return the facts of one form of a file. `coding` is its Content-Encoding, `vary` what its choice hung on."""
    modified = format_date(validators.modified)
    kept = [b"etag", validators.tag, b"last-modified", modified, b"cache-control", cache]
    if vary:
        kept += (b"vary", vary)
    fields = [b"content-type", media_type, *kept, b"accept-ranges", b"bytes", *_COMMON]
    if coding:
        fields += (b"content-encoding", coding)
    return Facts(size, validators, media_type, kept, fields)


def plan_whole(facts: Facts) -> Plan:
    """Return the answer without any condition: all of the file."""
    return Plan(200, facts.size, facts.fields, [Span(0, facts.size)])


def gather_conditions(lines: list[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a request that decide about the answer, by name; those of one name joined to a list."""
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b"\n")
        found[name] = found[name] + b", " + value if name in found else value
    return found


def plan_answer(facts: Facts, conditions: dict[bytes, bytes], *, is_get: bool, now: int, boundary: bytes) -> Plan:
    """Return the answer to a GET, or a HEAD, with these conditions, in the order of RFC 9110 section 13.2.2.

    `now` is the wall clock in seconds; `boundary` would stand between the parts of several ranges.
    """
    outcome = evaluate(conditions, facts.validators)
    if outcome is Outcome.FAILED:
        return Plan(412, 0, [], [])
    if outcome is Outcome.NOT_MODIFIED:
        return Plan(304, 0, facts.kept_fields, [])
    asked = conditions.get(b"range")
    # RFC 9110 section 14.2: Range is defined for GET only.
    if asked is None or not is_get or not range_applies(conditions, facts.validators, now):
        return plan_whole(facts)
    try:
        spans = parse_range(asked, facts.size)
    except UnsatisfiableError:
        return Plan(416, 0, [b"content-range", b"bytes */%d" % facts.size], [])
    if not spans:
        return plan_whole(facts)
    if len(spans) > 1:
        return _plan_parts(facts, spans, boundary)
    span = spans[0]
    return Plan(206, span.stop - span.start, [*facts.fields, b"content-range", content_range(span, facts.size)], [span])


def _plan_parts(facts: Facts, spans: list[Span], boundary: bytes) -> Plan:
    pieces = split_parts(spans, facts.size, facts.media_type, boundary)
    # The first field is Content-Type: each part has its own.
    fields = [b"content-type", b"multipart/byteranges; boundary=" + boundary, *facts.fields[2:]]
    return Plan(206, count_bytes(pieces), fields, pieces)
