"""What upstreams answer: read whole, byte by byte, and refused when two readers could differ."""

from __future__ import annotations

import pytest

from edge.http.events import ProtocolError
from edge.upstream.answer import MAX_HEAD, AnswerReader
from edge_backend import wire


def read(
    data: bytes, *, method: bytes = b"GET", upgrade: bool = False, size: int = 0
) -> tuple[bytes, int, bytes, bool]:
    """Return head, flags and content of an answer, read in pieces of `size`, and whether it is whole."""
    reader = AnswerReader()
    reader.expect(method, upgrade=upgrade)
    encoded, flags, content = b"", 0, b""
    step = size or len(data)
    for at in range(0, len(data), step):
        head, piece = reader.receive(data[at : at + step])
        if head is not None:
            encoded, flags = b"\n".join((b"%d" % head.status, head.length, *head.fields)), head.flags
        content += piece
    return encoded, flags, content, reader.is_done


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    ("data", "encoded", "content", "done"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello", b"200\n5\na\nb", b"hello", True),
        (b"HTTP/1.1 200 \r\ncontent-length: 005\r\n\r\nhel", b"200\n5", b"hel", False),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"200\n", b"hello", True),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", b"200\n", b"hel", False),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"200\n", b"hello", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"204\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"304\n9", b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"200\n0", b"", True),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 204 \r\n\r\n", b"204\n", b"", True),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Own\r\nX-Own: 1\r\nB: 2\r\nContent-Length: 0\r\n\r\n",
            b"200\n0\nb\n2",
            b"",
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nX-Accel-Buffering: no\r\ncontent-length: 0\r\n\r\n",
            b"200\n0",
            b"",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab", b"200\n2", b"ab", True),
    ],
)
def test_answer_is_read_in_any_split(data: bytes, encoded: bytes, content: bytes, done: bool, size: int) -> None:
    assert read(data, size=size) == (encoded, 0, content, done)


def test_trailers_are_those_of_the_last_answer() -> None:
    reader = AnswerReader()
    for data, trailers in (
        (b"transfer-encoding: chunked\r\n\r\n0\r\nX-Sum: 42\r\n\r\n", (b"x-sum", b"42")),
        (b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", ()),
        (b"content-length: 0\r\n\r\n", ()),
    ):
        reader.expect(b"GET", upgrade=False)
        reader.receive(b"HTTP/1.1 200\r\n" + data)
        assert (reader.is_done, reader.trailers) == (True, trailers)


def test_head_has_the_length_of_what_would_come() -> None:
    assert read(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", method=b"HEAD") == (b"200\n7", 0, b"", True)


def test_date_and_server_of_the_upstream_win() -> None:
    _, flags, _, _ = read(b"HTTP/1.1 204 \r\nDate: x\r\nServer: y\r\n\r\n")
    assert flags == wire.HAS_DATE | wire.HAS_SERVER


def test_upgrade_is_opaque_from_its_head_on() -> None:
    fields = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: a\r\n\r\n"
    data = b"HTTP/1.1 101 Switching\r\n" + fields + b"\x81\x00"
    encoded, _, content, done = read(data, upgrade=True)
    assert (encoded, content, done) == (b"101\n\nsec-websocket-accept\na", b"\x81\x00", False)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-x\r\n\r\n", "status line b'SSH-2.0-x' is none of HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n", "is none of HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", "is not a name and a value"),
        (b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n", "is not a name and a value"),
        (b"HTTP/1.1 200 OK\r\na : b\r\n\r\n", "is not a name and a value"),
        (b"HTTP/1.1 200 OK\r\na: \x00\r\n\r\n", "is not a name and a value"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n", "is not one number"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "is not one number"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n", "is not one number"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "a length besides"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "not chunked alone"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "more than the length"),
        (b"HTTP/1.1 204 \r\n\r\nab", "more than its answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 ", "more than its answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", "is not hexadecimal"),
        (b"HTTP/1.1 101 \r\n\r\n", "which nobody asked for"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * MAX_HEAD, "longer than"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        read(data)


@pytest.mark.parametrize(
    ("head", "reused", "ends"),
    [
        (b"HTTP/1.1 204 \r\n\r\n", True, False),
        (b"HTTP/1.1 204 \r\nconnection: close\r\n\r\n", False, False),
        (b"HTTP/1.0 204 \r\n\r\n", False, False),
        (b"HTTP/1.0 204 \r\nconnection: keep-alive\r\n\r\n", True, False),
        (b"HTTP/1.1 200 \r\n\r\n", False, True),
        (b"HTTP/1.1 200 \r\ncontent-length: 1\r\n\r\n", False, False),
    ],
)
def test_connection_is_reused_only_when_both_ends_agree(head: bytes, reused: bool, ends: bool) -> None:
    reader = AnswerReader()
    reader.expect(b"GET", upgrade=False)
    reader.receive(head)
    assert (reader.can_be_reused, reader.ends_with_connection) == (reused, ends)
