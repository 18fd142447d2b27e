"""What is remembered of HTTP/2's heads: fields for all connections, whole requests for one, and within which bounds."""

from __future__ import annotations

import pytest

from edge.http.events import ProtocolError, RequestHead
from edge.http.field import MAX_FIELD, MAX_FIELDS, FieldMemory
from edge.http.head_reader import HeadReader
from edge.http.hpack import plain_string
from edge.http.huffman import best_huffman
from tests.edge.http.peer2 import block, pseudo


def memory() -> FieldMemory:
    """Return a memory of nothing."""
    return FieldMemory(best_huffman())


def reader() -> HeadReader:
    """Return a connection's reader."""
    return HeadReader(memory(), max_fields=100, max_size=32 * 1024, max_target=8192, max_body=1000)


def read(heads: HeadReader, sent: bytes, stream: int = 1, *, ended: bool = True) -> RequestHead:
    """Return a request that is good."""
    head, size = heads.read(stream, sent, ended=ended)
    assert isinstance(head, RequestHead)
    assert size > 0
    return head


def test_a_field_is_made_once_and_forgotten_in_time() -> None:
    known = memory()
    field = known.field(b"a", b"secret", False)
    assert known.field(b"a", b"secret", False) is field
    known.forget()
    assert known.field(b"a", b"secret", False) is not field


def test_the_same_bytes_in_huffman_code_are_another_field() -> None:
    known = memory()
    coded = known.encode(b"www.example.com")
    assert known.field(b"a", coded, True).value == b"www.example.com"
    assert known.field(b"a", coded, False).value == coded


@pytest.mark.parametrize(("size", "is_kept"), [(MAX_FIELD - 33, True), (MAX_FIELD - 32, False)])
def test_large_fields_are_not_remembered(size: int, is_kept: bool) -> None:
    known = memory()
    assert (known.field(b"a", b"x" * size, False) is known.field(b"a", b"x" * size, False)) == is_kept


def test_what_is_remembered_is_bounded() -> None:
    known = memory()
    for number in range(3 * MAX_FIELDS):
        known.field(b"a", b"%d" % number, False)
        assert len(known._known) <= MAX_FIELDS


# Whole requests.


def test_a_request_that_is_sent_again_is_the_same_on_another_stream() -> None:
    heads = reader()
    sent = block(*pseudo(), (b"te", b"trailers"), (b"x-forwarded-for", b"192.0.2.1"), (b"cookie", b"a=1"))
    first, again = read(heads, sent, 1), read(heads, sent, 3)
    assert (first.stream, again.stream) == (1, 3)
    assert again is not first
    for name in RequestHead.__slots__:
        if name != "stream":
            assert getattr(again, name) == getattr(first, name), name


def test_bytes_that_mean_something_else_by_now_are_read_anew() -> None:
    heads = reader()
    entry = b"\x40\x01a" + plain_string(b"1")
    read(heads, block(*pseudo()) + entry)
    sent = block(*pseudo()) + b"\xbe"
    for _ in range(3):
        assert (b"a", b"1") in read(heads, sent).fields
    read(heads, block(*pseudo()) + b"\x40\x01a" + plain_string(b"2"))
    for _ in range(3):
        assert (b"a", b"2") in read(heads, sent).fields
    assert heads.read_trailers(b"\x40\x01a" + plain_string(b"3")) is None
    for _ in range(3):
        assert (b"a", b"3") in read(heads, sent).fields


def test_the_same_bytes_with_content_are_another_request() -> None:
    heads = reader()
    sent = block(*pseudo("POST"))
    for ended in (True, True, False, True):
        head = read(heads, sent, ended=ended)
        assert head.complete == ended


def test_a_refusal_is_not_remembered() -> None:
    heads = reader()
    for _ in range(2):
        refusal, _ = heads.read(1, block(*pseudo(), (b"Upper", b"1")), ended=True)
        assert isinstance(refusal, ProtocolError)
        assert refusal.status == 400


def test_requests_that_are_remembered_are_bounded() -> None:
    heads = reader()
    for number in range(200):
        read(heads, block(*pseudo(path=f"/{number}")))
        assert len(heads._known) <= 32
    heads = reader()
    read(heads, block(*pseudo(path="/" + "x" * 300)))
    assert heads._known == {}
