"""Which answers are compressed, and with what: a table for each rule."""

from __future__ import annotations

import pytest

from edge.http.events import RequestHead
from edge.policy.affinity import encode_cookie
from edge.policy.compress import Plan, Rules, choose, parse_accept_encoding, plan

RULES = Rules((b"zstd", b"br", b"gzip"), 1000)
BROWSER = b"gzip, deflate, br, zstd"
HTML = b"text/html; charset=utf-8"
VALUE = b"abcdefghijklmnopqrstu0"
OWN = b"edge-affinity=" + VALUE


def planned(
    *fields: bytes,
    accept: bytes | None = BROWSER,
    asked: tuple[bytes, ...] = (),
    status: int = 200,
    size: int = 5000,
    kind: bytes = HTML,
    rules: Rules = RULES,
) -> Plan | None:
    head = RequestHead(1, b"GET", b"/", b"1.1", b"localhost")
    head.lines = [*([b"accept-encoding\n" + accept] if accept is not None else []), *asked]
    return plan(rules, head, status, size, [b"content-type", kind, *fields] if kind else [*fields])


def coding(*fields: bytes, **of_request: object) -> bytes | None:
    found = planned(*fields, **of_request)  # type: ignore[arg-type] # each names one parameter
    return found.coding if found is not None else None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (BROWSER, b"zstd"),
        (b"gzip, deflate, br", b"br"),
        (b"gzip, deflate", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"deflate, compress", b""),
        (b"", b""),
        (b"identity", b""),
        (b"gzip;q=0", b""),
        (b"gzip;q=0.0", b""),
        (b"gzip;q=1, br;q=0.5", b"gzip"),
        (b"gzip;q=0.501, br;q=0.5", b"gzip"),
        (b"gzip ; q=0.5 , br;q=0.5", b"br"),
        (b"*", b"zstd"),
        (b"*;q=0.5, gzip", b"gzip"),
        (b"zstd;q=0, *", b"br"),
        (b"*;q=0", b""),
        (b"identity;q=0, gzip;q=0.1", b"gzip"),
        (b"identity;q=1, gzip;q=0.5", b""),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"gzip;q=2", b""),
        (b"gzip;q=0.5555", b""),
        (b"gzip;q=", b""),
        (b"gzip;q=0.5;q=1", b""),
        (b"gzip;level=9", b""),
        (b"gz ip, br", b"br"),
        (b",, ;q=1, gzip", b"gzip"),
        (b"gzip," * 100, b""),
    ],
)
def test_coding_is_what_the_client_likes_best(accept: bytes, expected: bytes) -> None:
    assert choose(parse_accept_encoding(accept), RULES.codings) == expected
    assert coding(accept=accept) == expected


def test_only_the_codings_of_the_rules_are_used() -> None:
    assert coding(rules=Rules((b"gzip",), 1000)) == b"gzip"
    assert coding(rules=Rules((b"br",), 1000), accept=b"gzip") == b""


def test_several_fields_are_one_list() -> None:
    assert coding(accept=b"gzip", asked=(b"accept-encoding\nbr",)) == b"br"


def test_client_that_says_nothing_gets_the_answer_as_it_is() -> None:
    fields = [b"content-type", HTML, b"vary", b"Accept-Encoding"]
    assert planned(accept=None) == Plan(b"", fields, fields)


@pytest.mark.parametrize("status", [200, 201, 203, 301, 400, 404, 500, 503])
def test_answers_with_content_are_compressed(status: int) -> None:
    assert coding(status=status) == b"zstd"


@pytest.mark.parametrize("status", [101, 204, 205, 206, 304])
def test_answers_without_or_with_part_of_the_content_are_not(status: int) -> None:
    assert planned(status=status) is None


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"TEXT/HTML",
        b"text/css ;charset=utf-8",
        b"application/json",
        b"application/problem+json",
        b"application/javascript",
        b"image/svg+xml",
        b"application/wasm",
        b"font/ttf",
    ],
)
def test_text_is_compressed(kind: bytes) -> None:
    assert coding(kind=kind) == b"zstd"


@pytest.mark.parametrize(
    "kind",
    [
        b"",
        b"text/event-stream",
        b"Text/Event-Stream; charset=utf-8",
        b"image/png",
        b"video/mp4",
        b"font/woff2",
        b"application/zip",
        b"application/octet-stream",
        b"application/grpc",
        b"multipart/byteranges; boundary=x",
    ],
)
def test_other_types_and_event_streams_are_left_alone(kind: bytes) -> None:
    assert planned(kind=kind) is None


@pytest.mark.parametrize(
    "fields",
    [
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity"),
        (b"content-range", b"bytes 0-1/2"),
        (b"content-md5", b"x"),
        (b"content-digest", b"sha-256=:x:"),
        (b"repr-digest", b"sha-256=:x:"),
        (b"digest", b"sha-256=x"),
        (b"cache-control", b"no-transform"),
        (b"cache-control", b"public, No-Transform"),
        (b"cache-control", b"public", b"cache-control", b"no-transform"),
    ],
)
def test_what_speaks_of_the_content_as_it_is_keeps_it(fields: tuple[bytes, ...]) -> None:
    assert planned(*fields) is None


@pytest.mark.parametrize(
    ("size", "accept", "expected"),
    [
        (999, BROWSER, None),
        (1000, BROWSER, b"zstd"),
        (-1, BROWSER, b"zstd"),
        (0, BROWSER, None),
        (0, b"gzip, identity;q=0", None),
        (10, b"gzip, identity;q=0", b"gzip"),
        (10, b"gzip, *;q=0", b"gzip"),
        (10, b"gzip, *;q=0, identity", None),
    ],
)
def test_small_answers_are_compressed_only_for_who_takes_nothing_else(
    size: int, accept: bytes, expected: bytes | None
) -> None:
    assert coding(size=size, accept=accept) == expected


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ((b"cookie\nsession=1",), ()),
        ((b"authorization\nBearer x",), ()),
        ((), (b"set-cookie", b"session=1")),
        ((b"cookie\nsession=1",), (b"cache-control", b"private, public")),
        ((b"cookie\nsession=1",), (b"cache-control", b"public, no-store")),
        ((b"cookie\nsession=1",), (b"cache-control", b"max-age=60, immutable")),
        ((b"cookie\n" + OWN + b"; session=1",), ()),
        ((b"cookie\n" + OWN, b"cookie\nsession=1"), ()),
        ((), (b"set-cookie", encode_cookie(VALUE, secure=True), b"set-cookie", b"session=1")),
    ],
)
def test_answers_that_may_hold_secrets_are_left_alone(asked: tuple[bytes, ...], fields: tuple[bytes, ...]) -> None:
    found = planned(*fields, asked=asked)
    assert found is not None
    assert found.coding == b""
    assert found.fields[-2:] == [b"vary", b"Accept-Encoding"]
    assert coding(*fields, asked=asked, rules=Rules((b"br",), 1000, secrets=True)) == b"br"


def test_cookie_of_the_edge_is_no_secret() -> None:
    assert coding(asked=(b"cookie\n" + OWN,)) == b"zstd"
    assert coding(b"set-cookie", encode_cookie(VALUE, secure=False)) == b"zstd"


def test_public_answers_hold_no_secrets() -> None:
    assert coding(b"cache-control", b"public, max-age=60", asked=(b"cookie\na=b",)) == b"zstd"


@pytest.mark.parametrize(
    ("varies", "expected"),
    [
        ((), (b"vary", b"Accept-Encoding")),
        ((b"vary", b"Origin"), (b"vary", b"Origin, Accept-Encoding")),
        ((b"vary", b""), (b"vary", b"Accept-Encoding")),
        ((b"vary", b"Cookie, accept-encoding"), (b"vary", b"Cookie, accept-encoding")),
        ((b"vary", b"*"), (b"vary", b"*")),
        (
            (b"vary", b"Cookie", b"vary", b"Accept-Encoding"),
            (b"vary", b"Cookie", b"vary", b"Accept-Encoding"),
        ),
        ((b"vary", b"Cookie", b"vary", b"Origin"), (b"vary", b"Cookie, Accept-Encoding", b"vary", b"Origin")),
    ],
)
def test_vary_names_what_was_looked_at(varies: tuple[bytes, ...], expected: tuple[bytes, ...]) -> None:
    found = planned(*varies)
    assert found is not None
    assert found.plain == [b"content-type", HTML, *expected]
    assert found.fields == [*found.plain, b"content-encoding", b"zstd"]


@pytest.mark.parametrize(("etag", "expected"), [(b'"abc"', b'W/"abc"'), (b'W/"abc"', b'W/"abc"'), (b'""', b'W/""')])
def test_compressed_answer_has_a_weak_validator_and_no_ranges(etag: bytes, expected: bytes) -> None:
    found = planned(b"etag", etag, b"accept-ranges", b"bytes", b"vary", b"*")
    assert found is not None
    assert found.fields == [
        *(b"content-type", HTML, b"etag", expected, b"vary", b"*"),
        *(b"content-encoding", b"zstd"),
    ]
    assert found.plain == [b"content-type", HTML, b"etag", etag, b"accept-ranges", b"bytes", b"vary", b"*"]


def test_value_that_looks_like_a_name_is_a_value() -> None:
    found = planned(b"x-field", b"etag", b"x-other", b"accept-ranges", b"vary", b"*")
    assert found is not None
    assert found.fields[2:6] == [b"x-field", b"etag", b"x-other", b"accept-ranges"]


@pytest.mark.parametrize(
    ("etag", "held", "expected"),
    [
        (b'"abc"', b'W/"abc"', b'W/"abc"'),
        (b'"abc"', b'W/"x", W/"abc"', b'W/"abc"'),
        (b'"abc"', b'"abc"', None),
        (b'"abc"', b"*", None),
        (b'W/"abc"', b'W/"abc"', None),
        (b"", b'W/"abc"', None),
    ],
)
def test_not_modified_names_the_validator_that_the_client_holds(
    etag: bytes, held: bytes, expected: bytes | None
) -> None:
    found = planned(*([b"etag", etag] if etag else []), status=304, kind=b"", asked=(b"if-none-match\n" + held,))
    if expected is None:
        assert found is None
    else:
        fields = [b"etag", expected, b"vary", b"Accept-Encoding"]
        assert found == Plan(b"", fields, fields)


def test_not_modified_for_who_holds_nothing_is_left_alone() -> None:
    assert planned(b"etag", b'"abc"', status=304, kind=b"") is None
