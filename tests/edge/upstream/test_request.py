"""A request as an upstream gets it."""

from __future__ import annotations

from typing import Any

import pytest

from edge.http.events import UNKNOWN_LENGTH, RequestHead
from edge.upstream.request import encode_chunk, encode_request, strip_prefix
from edge_backend import wire

FIELDS = (b"host", b"a.example", b"accept", b"*/*")


def encoded(
    *,
    host: bytes = b"",
    prefix: bytes = b"",
    target: bytes = b"/x?y",
    fields: tuple[bytes, ...] = FIELDS,
    **of_head: Any,
) -> bytes:
    head = RequestHead(1, b"GET", target, b"2", b"a.example" if b"host" in fields else b"")
    for name, value in of_head.items():
        setattr(head, name, value)
    pieces = [head.method, target, b"2", b"https", b"192.0.2.1", b"1", b"a.example", b"443", *fields]
    request = wire.join_request(pieces, len(pieces))
    return encode_request(head, request, host=host, prefix=prefix, key=b"key")


def test_request_is_http_1_1_whatever_the_client_speaks() -> None:
    assert encoded() == b"GET /x?y HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\n\r\n"


@pytest.mark.parametrize("fields", [FIELDS, FIELDS[2:]])
def test_host_can_be_the_upstreams_own(fields: tuple[bytes, ...]) -> None:
    lines = encoded(host=b"10.0.0.1:8000", fields=fields).split(b"\r\n")
    assert [line for line in lines if line.startswith(b"host")] == [b"host: 10.0.0.1:8000"]


def test_request_that_names_no_host_has_an_empty_one() -> None:
    assert b"\r\nhost: \r\n" in encoded(fields=())


def test_content_of_known_length_follows_as_it_is() -> None:
    text = encoded(fields=(*FIELDS, b"content-length", b"5"), length=5, complete=False, body=b"he")
    assert text.endswith(b"content-length: 5\r\n\r\nhe")


def test_content_of_unknown_length_goes_in_chunks() -> None:
    text = encoded(length=UNKNOWN_LENGTH, complete=False, body=b"he")
    assert text.endswith(b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n")
    assert encode_chunk(b"", end=False) == b""
    assert encode_chunk(b"llo", end=True) == b"3\r\nllo\r\n0\r\n\r\n"


def test_content_that_is_all_there_gets_its_length() -> None:
    assert encoded(length=UNKNOWN_LENGTH, body=b"hello").endswith(b"content-length: 5\r\n\r\nhello")


def test_server_is_told_that_trailers_are_taken() -> None:
    lines = encoded(trailers=True).split(b"\r\n")
    assert lines[1:] == [b"host: a.example", b"accept: */*", b"connection: te", b"te: trailers", b"", b""]
    assert b"te: trailers" not in encoded(trailers=True, upgrade=b"theirs")


def test_field_of_a_handshake_goes_on_where_there_is_none() -> None:
    text = encoded(fields=(*FIELDS, b"sec-websocket-key", b"theirs"), host=b"b.example")
    assert b"\r\nsec-websocket-key: theirs\r\n" in text


def test_handshake_has_a_key_of_ours() -> None:
    text = encoded(
        fields=(*FIELDS, b"sec-websocket-key", b"theirs", b"sec-websocket-version", b"13"), upgrade=b"theirs"
    )
    lines = text.split(b"\r\n")
    assert lines[1:] == [
        b"host: a.example",
        b"accept: */*",
        b"sec-websocket-version: 13",
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-key: key",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    ("target", "prefix", "left"),
    [
        (b"/api/x?y", b"", b"/api/x?y"),
        (b"/api/x?y=/api", b"/api", b"/x?y=/api"),
        (b"/api", b"/api", b"/"),
        (b"/api?y", b"/api", b"/?y"),
        (b"/api/", b"/api", b"/"),
        (b"/api/%2e", b"/api", b"/%2e"),
        (b"//api/x", b"/api", b"/x"),
        (b"/%61pi/%20%3f?y", b"/api", b"/%20%3F?y"),
        # Never what reads as another host: //evil.example.
        (b"/api//evil.example", b"/api", b"/evil.example"),
        # Never a way out of what is left: the first two climb over the prefix, and come back to it.
        (b"/api/../api/x", b"/api", b"/x"),
        (b"/api/x/%2E%2e%2f..%5c..%2fapi/y?z", b"/api", b"/y?z"),
        (b"/api/x/../y", b"/api", b"/y"),
        (b"/api/x/..", b"/api", b"/"),
        (b"/api/..x/x..", b"/api", b"/..x/x.."),
        (b"/api/%40scope%2fname", b"/api", b"/%40scope%2fname"),
        (b"*", b"/api", b"*"),
    ],
)
def test_path_of_the_route_can_be_left_out(target: bytes, prefix: bytes, left: bytes) -> None:
    assert strip_prefix(target, prefix) == left
