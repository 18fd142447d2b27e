"""HTTP/1.1: the corpus in tests/corpus/http1, split in every way, and the bytes of the answers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.events import Data, Event, ProtocolError, Refusal, RequestHead
from edge.http.head import HeadLimits, HeadParser
from edge.http.http1 import Http1Connection, State
from tests.corpus.cases import Case, load_cases

CASES = load_cases(Path(__file__).parents[2] / "corpus" / "http1")
LIMITS = HeadLimits(max_request_line=8192, max_header_size=32 * 1024, max_headers=100)
MAX_BODY = 1024
# Longer cases are not sent byte by byte: each byte scans what came before it.
LONG = 20_000


# The corpus.


class Conversation:
    """A connection whose requests are answered as soon as they are whole; what came in, as the corpus writes it."""

    def __init__(self, parser: HeadParser) -> None:
        self._core = Http1Connection(parser, MAX_BODY)
        self._lines: list[str] = []
        self._head: RequestHead | None = None
        self._content: list[bytes] = []
        self._closed = ""

    def receive(self, data: bytes) -> None:
        """Take what one read brought."""
        if self._closed:
            return
        for event in self._core.receive(data):
            self._take(event)

    def events(self) -> str:
        """Return what came in so far."""
        unfinished = [] if self._head is None else _describe(self._head, self._content, complete=False)
        return "\n".join([*self._lines, *unfinished, *filter(None, [self._closed])])

    def _take(self, event: Event) -> None:
        match event:
            case RequestHead():
                self._head, self._content = event, [event.body]
                if event.upgrade:
                    self._core.encode_upgrade(event, [], b"")
                    self.receive(b"")
                elif event.complete:
                    self._answer(event)
            case Data():
                self._content.append(event.body)
                if event.complete and self._head is not None:
                    self._answer(self._head)
            case Refusal():
                # A part of the request may have gone on before; how much depends on the split, so it does not count.
                self._head = None
                fields = [f"\n  {name.decode()}: {value.decode()}" for name, value in event.fields]
                self._closed = f"refused {event.status} {event.reason}{''.join(fields)}"

    def _answer(self, head: RequestHead) -> None:
        self._lines += _describe(head, self._content, complete=True)
        self._head = None
        self._core.encode_response(head, 200, b"0", [], b"", b"", True)
        events = self._core.finish()
        if events is None:
            self._closed = "closed"
            return
        for event in events:
            self._take(event)


def _describe(head: RequestHead, pieces: Sequence[bytes], *, complete: bool) -> Iterable[str]:
    content = b"".join(pieces)
    what = [
        f"request {head.method.decode()} {head.target.decode()} {head.version.decode()} {head.host.decode() or '-'}"
    ]
    # Whether the client waits is not known before its content comes.
    what += ["expects 100"] * (head.expect and not content) + ["takes trailers"] * head.trailers
    what += [f"upgrades with {head.upgrade.decode()}"] * bool(head.upgrade) + ["close"] * (not head.keep_alive)
    yield ", ".join(what)
    for (name, value), group in groupby(head.fields):
        count = len(list(group))
        yield f"  {name.decode()}: {value.decode('latin-1')}".rstrip() + (f", {count} times" if count > 1 else "")
    if content or not complete:
        shown = repr(content) if len(content) < 100 else f"{len(content)} bytes"
        yield f"content {shown}" + ("" if complete else ", incomplete")


def converse(pieces: Iterable[bytes], parser: HeadParser | None = None) -> str:
    """Return the events of a connection that gets these reads."""
    conversation = Conversation(parser or HeadParser(LIMITS))
    for piece in pieces:
        conversation.receive(piece)
    return conversation.events()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the data in pieces, cut at the places."""
    ends = [*sorted(places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_in_one_read(case: Case) -> None:
    events = converse([case.sent])
    assert case.matches(events), f"{case.name}:\n{events[:2000]}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_with_a_parser_that_knows_its_lines(case: Case) -> None:
    parser = HeadParser(LIMITS)
    first = converse([case.sent], parser)
    assert converse([case.sent], parser) == first
    assert converse([case.sent]) == first


@pytest.mark.parametrize("case", [case for case in CASES if len(case.sent) < LONG], ids=lambda case: case.name)
def test_case_byte_by_byte(case: Case) -> None:
    assert converse(bytes([byte]) for byte in case.sent) == converse([case.sent])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_cut_in_two_at_each_of_many_places(case: Case) -> None:
    whole = converse([case.sent])
    places = range(len(case.sent)) if len(case.sent) < 500 else random.Random(1).sample(range(len(case.sent)), 50)
    for place in places:
        assert converse(cut(case.sent, [place])) == whole, f"cut at {place}"


@given(st.data(), st.sampled_from([case for case in CASES if len(case.sent) < LONG]))
def test_case_split_at_random(data: st.DataObject, case: Case) -> None:
    places = data.draw(st.lists(st.integers(0, len(case.sent)), max_size=8))
    assert converse(cut(case.sent, places)) == converse([case.sent])


@given(st.lists(st.sampled_from([case for case in CASES if len(case.sent) < LONG]), min_size=2, max_size=6))
def test_parser_of_many_connections_gives_each_what_one_of_its_own_would(cases: list[Case]) -> None:
    parser = HeadParser(LIMITS)
    for case in cases:
        assert converse([case.sent], parser) == converse([case.sent])


# The cases themselves.


def test_every_file_of_the_corpus_has_cases_with_names_of_their_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {name.partition(":")[0] for name in names} == {
        "chunked",
        "connection",
        "fields",
        "framing",
        "limits",
        "request-line",
    }


def test_case_with_a_block_too_few_is_an_error_and_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("## Lost\n\n```http\nGET / HTTP/1.1\n```\n")
    with pytest.raises(ValueError, match=r"a\.md: 2 fences"):
        load_cases(tmp_path)


def test_block_of_bytes_says_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "## A\n\n```http\nA\\x00\\t{bc*2}\n\\\\d\\n\\\n\nend\\\n```\n\n```events\nany ... thing\n```\n"
    )
    [case] = load_cases(tmp_path)
    assert case.sent == b"A\x00\tbcbc\r\n\\d\n\r\nend"
    assert case.matches("any old thing")
    assert not case.matches("any thing")


# What goes out.


def begin(raw: bytes, max_body: int = MAX_BODY) -> tuple[Http1Connection, RequestHead]:
    """Return a connection that has read a request, and the request."""
    core = Http1Connection(HeadParser(LIMITS), max_body)
    [head] = core.receive(raw)
    assert isinstance(head, RequestHead)
    return core, head


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
KEEP_ALIVE_1_0 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OWN = b"server: edge\r\n"


def test_answer_of_known_length() -> None:
    core, head = begin(GET)
    answer = core.encode_response(head, 200, b"2", [b"a", b"1", b"b", b"2"], OWN, b"hi", True)
    assert answer == b"HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nserver: edge\r\ncontent-length: 2\r\n\r\nhi"
    assert core.written == 2
    assert core.finish() == []
    assert core.is_idle


def test_answer_of_known_length_in_pieces() -> None:
    core, head = begin(GET)
    assert core.encode_response(head, 200, b"4", [], b"", b"a", False).endswith(b"content-length: 4\r\n\r\na")
    assert core.encode_data(b"bcd") == b"bcd"
    assert core.encode_end([]) == b""
    assert core.written == 4


def test_answer_of_unknown_length_is_chunked() -> None:
    core, head = begin(GET)
    start = core.encode_response(head, 200, b"", [], b"", b"first", False)
    assert start == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    assert core.encode_data(b"x" * 16) == b"10\r\n" + b"x" * 16 + b"\r\n"
    assert core.encode_data(b"") == b""  # an empty chunk would end it
    assert core.encode_end([]) == b"0\r\n\r\n"
    assert core.written == 21
    assert core.finish() == []


def test_answer_of_unknown_length_may_be_whole_at_once() -> None:
    core, head = begin(GET)
    answer = core.encode_response(head, 200, b"", [], b"", b"all", True)
    assert answer == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n"
    assert core.written == 3


def test_trailers_follow_the_last_chunk() -> None:
    core, head = begin(GET)
    core.encode_response(head, 200, b"", [], b"", b"", False)
    assert core.encode_end([b"a", b"1", b"b", b"2"]) == b"0\r\na: 1\r\nb: 2\r\n\r\n"


def test_trailers_have_no_place_in_content_of_known_length() -> None:
    core, head = begin(GET)
    core.encode_response(head, 200, b"1", [], b"", b"a", False)
    assert core.encode_end([b"a", b"1"]) == b""


def test_framing_of_one_answer_does_not_reach_the_next() -> None:
    core, head = begin(GET + GET)
    core.encode_response(head, 200, b"", [], b"", b"", True)
    events = core.finish()
    assert events is not None
    [second] = events
    assert isinstance(second, RequestHead)
    assert core.encode_response(second, 200, b"1", [], b"", b"", False).endswith(b"OK\r\ncontent-length: 1\r\n\r\n")
    assert core.encode_data(b"a") == b"a"


@pytest.mark.parametrize("raw", [GET_1_0, KEEP_ALIVE_1_0])
def test_http_1_0_gets_content_of_unknown_length_until_the_connection_closes(raw: bytes) -> None:
    core, head = begin(raw)
    answer = core.encode_response(head, 200, b"", [], b"", b"hi", False)
    assert answer == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi"
    assert core.encode_data(b"more") == b"more"
    assert core.encode_end([]) == b""
    assert core.written == 6
    assert core.finish() is None
    assert core.state is State.CLOSED


def test_http_1_0_keeps_the_connection_when_it_asked_and_the_length_is_known() -> None:
    core, head = begin(KEEP_ALIVE_1_0)
    assert b"connection: keep-alive\r\n" in core.encode_response(head, 200, b"0", [], b"", b"", True)
    assert core.finish() == []


@pytest.mark.parametrize(
    ("raw", "status", "length", "framing"),
    [
        (HEAD, 200, b"5", b"content-length: 5\r\n"),
        (HEAD, 200, b"", b""),
        (GET, 304, b"5", b"content-length: 5\r\n"),
        (GET, 304, b"", b""),
        (GET, 204, b"5", b""),  # RFC 9110 section 8.6 forbids the field
        (GET, 204, b"", b""),
    ],
)
def test_answer_that_has_no_content_gets_none(raw: bytes, status: int, length: bytes, framing: bytes) -> None:
    core, head = begin(raw)
    answer = core.encode_response(head, status, length, [], b"", b"five!", False)
    assert answer.partition(b"\r\n")[2] == framing + b"\r\n"
    with pytest.raises(ProtocolError, match="longer"):
        core.encode_data(b"five!")
    assert core.encode_end([]) == b""


@pytest.mark.parametrize(("body", "end"), [(b"abc", True), (b"abcde", False), (b"abcde", True)])
def test_first_content_that_does_not_fit_the_length_is_an_error(body: bytes, end: bool) -> None:
    core, head = begin(GET)
    with pytest.raises(ProtocolError, match="does not have the 4 bytes announced") as caught:
        core.encode_response(head, 200, b"4", [], b"", body, end)
    assert caught.value.status == 502


def test_content_longer_than_its_length_is_an_error() -> None:
    core, head = begin(GET)
    core.encode_response(head, 200, b"4", [], b"", b"abcd", False)
    with pytest.raises(ProtocolError, match="longer than its content-length") as caught:
        core.encode_data(b"e")
    assert caught.value.status == 502


def test_content_shorter_than_its_length_is_an_error() -> None:
    core, head = begin(GET)
    core.encode_response(head, 200, b"4", [], b"", b"abc", False)
    with pytest.raises(ProtocolError, match="1 bytes shorter than announced") as caught:
        core.encode_end([])
    assert caught.value.status == 502


def test_answer_may_have_more_fields_than_are_prepared_for() -> None:
    core, head = begin(GET)
    fields = [text for number in range(100) for text in (b"f%d" % number, b"v")]
    answer = core.encode_response(head, 200, b"0", fields, b"", b"", True)
    assert answer.count(b": v\r\n") == 100


def test_answer_before_the_content_was_read_closes() -> None:
    core, head = begin(POST + b"ab")
    assert not core.request_is_complete
    assert b"connection: close\r\n" in core.encode_response(head, 413, b"0", [], b"", b"", True)
    assert core.finish() is None


def test_answer_after_the_content_was_read_does_not_close() -> None:
    core, head = begin(POST + b"ab")
    [data] = core.receive(b"cd")
    assert isinstance(data, Data)
    assert data.complete
    assert core.request_is_complete
    assert b"connection" not in core.encode_response(head, 200, b"0", [], b"", b"", True)
    assert core.finish() == []


def test_close_after_says_so() -> None:
    core, head = begin(GET)
    core.close_after()
    assert b"connection: close\r\n" in core.encode_response(head, 200, b"0", [], b"", b"", True)
    assert core.finish() is None


def test_pipelined_request_waits_until_the_answer_is_written() -> None:
    core, head = begin(GET)
    assert core.receive(GET[:10]) == []
    assert core.has_input
    assert core.receive(GET[10:]) == []
    core.encode_response(head, 200, b"0", [], b"", b"", True)
    events = core.finish()
    assert events is not None
    assert isinstance(events[0], RequestHead)
    assert not core.has_input


def test_connection_is_idle_only_between_requests() -> None:
    core = Http1Connection(HeadParser(LIMITS), MAX_BODY)
    assert core.is_idle
    core.receive(b"G")
    assert not core.is_idle


def test_stray_empty_line_between_requests_begins_none() -> None:
    core = Http1Connection(HeadParser(LIMITS), MAX_BODY)
    assert core.receive(b"\r\n") == []
    assert core.is_idle
    [head] = core.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(head, RequestHead)


def test_nothing_is_read_after_a_refusal() -> None:
    core = Http1Connection(HeadParser(LIMITS), MAX_BODY)
    [refusal] = core.receive(b"GET / HTTP/9.9\r\n\r\n")
    assert isinstance(refusal, Refusal)
    assert core.receive(GET) == []


def test_content_has_no_limit_when_the_limit_is_0() -> None:
    _, head = begin(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n", max_body=0)
    assert head.length == 9_999_999_999
    core, _ = begin(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", max_body=0)
    [data] = core.receive(b"800\r\n" + b"x" * 2048)
    assert isinstance(data, Data)
    assert len(data.body) == 2048


def test_refusal_closes_and_has_its_fields() -> None:
    core = Http1Connection(HeadParser(LIMITS), MAX_BODY)
    [refusal] = core.receive(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(refusal, Refusal)
    assert core.encode_refusal(refusal, OWN, b"page") == (
        b"HTTP/1.1 405 Method Not Allowed\r\nserver: edge\r\nallow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
        b"content-length: 4\r\nconnection: close\r\n\r\npage"
    )


def test_continue_is_an_interim_answer() -> None:
    core, _ = begin(POST)
    assert core.encode_continue() == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_upgrade_is_answered_and_bytes_go_through_from_there() -> None:
    core, head = begin(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert core.encode_upgrade(head, [b"sec-websocket-protocol", b"chat"], OWN) == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\nserver: edge\r\n\r\n"
    )
    [data] = core.receive(b"\x81\x00")
    assert isinstance(data, Data)
    assert (data.body, data.complete) == (b"\x81\x00", False)
    assert core.finish() is None
