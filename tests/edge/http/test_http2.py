"""HTTP/2: the corpus in tests/corpus/http2, split in every way, floods, and what no case can show."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http import frames
from edge.http.events import Data, Failure, RequestHead
from edge.http.frames import Code, encode_frame
from edge.http.http2 import Http2Connection, Http2Limits
from edge.http.windows import CONNECTION_WINDOW
from tests.corpus.cases import Case, load_cases
from tests.edge.http.peer2 import (
    LIMITS,
    MEMORY,
    OPENING,
    Conversation,
    block,
    data,
    pseudo,
    read_steps,
    request,
    split_frames,
)

CASES = load_cases(Path(__file__).parents[2] / "corpus" / "http2")
SHORT = [case for case in CASES if sum(len(step.sent) for step in read_steps(case.text)) < 20_000]
Cut = Callable[[bytes], Sequence[bytes]]


# The corpus.


def converse(case: Case, cut: Cut) -> str:
    """Return what comes of a case whose reads are cut in some way."""
    conversation = Conversation()
    for step in read_steps(case.text):
        conversation.receive(cut(step.sent))
        for action in step.actions:
            conversation.act(action)
        conversation.take()
    return "\n".join(conversation.lines)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_in_one_read(case: Case) -> None:
    events = converse(case, lambda sent: [sent])
    assert case.matches(events), f"{case.name}:\n{events[:2000]}"


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_case_byte_by_byte(case: Case) -> None:
    events = converse(case, lambda sent: [bytes((byte,)) for byte in sent])
    assert case.matches(events), f"{case.name}:\n{events[:2000]}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_split_at_random(case: Case) -> None:
    places = random.Random(case.name)

    def cut(sent: bytes) -> Sequence[bytes]:
        ends = sorted(places.choices(range(len(sent) + 1), k=8))
        return [sent[start:end] for start, end in zip([0, *ends], [*ends, len(sent)], strict=True)]

    for _ in range(5):
        events = converse(case, cut)
        assert case.matches(events), f"{case.name}:\n{events[:2000]}"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything(sent: bytes) -> None:
    conversation = Conversation()
    events = conversation.receive([OPENING, sent])
    assert conversation.core.is_over == any(isinstance(event, Failure) for event in events)


@given(st.lists(st.tuples(st.integers(0, 17), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))))
def test_no_frames_raise_anything(sent: list[tuple[int, int, int, bytes]]) -> None:
    conversation = Conversation()
    events = conversation.receive([OPENING, *(encode_frame(*frame) for frame in sent)])
    out = conversation.core.sender.take(1 << 20)
    assert conversation.core.is_over == any(isinstance(event, Failure) for event in events)
    assert conversation.core.is_over == any(frame.kind == frames.GOAWAY for frame in split_frames(out))


# A connection's state.


def opened(limits: Http2Limits = LIMITS, *, acknowledged: bool = True) -> Conversation:
    """Return a connection behind its prefaces."""
    conversation = Conversation(limits)
    conversation.receive([OPENING, encode_frame(frames.SETTINGS, frames.ACK, 0) * acknowledged])
    conversation.take()
    return conversation


def failure(conversation: Conversation) -> tuple[Code, str]:
    """Return the code and the reason that the client is told."""
    goaway = [frame for frame in conversation.take() if frame.kind == frames.GOAWAY][-1]
    assert conversation.core.is_over
    return Code(struct.unpack_from("!II", goaway.payload)[1]), goaway.payload[8:].decode()


def numbers() -> Iterator[int]:
    """Yield the numbers of the client's streams."""
    number = 1
    while True:
        yield number
        number += 2


def test_the_greeting_announces_what_is_served() -> None:
    core = Http2Connection(MEMORY, LIMITS)
    settings, window = split_frames(core.sender.take(1))
    assert settings.kind == frames.SETTINGS
    assert dict(struct.iter_unpack("!HI", settings.payload)) == {
        frames.MAX_CONCURRENT_STREAMS: 100,
        frames.MAX_HEADER_LIST_SIZE: 32 * 1024,
        frames.ENABLE_CONNECT_PROTOCOL: 1,
        frames.NO_RFC7540_PRIORITIES: 1,
    }
    assert window.kind == frames.WINDOW_UPDATE
    assert struct.unpack("!I", window.payload)[0] == CONNECTION_WINDOW - frames.DEFAULT_WINDOW


def test_nothing_is_read_behind_a_failure() -> None:
    conversation = opened()
    conversation.receive([encode_frame(frames.PING, 0, 1, b"pingpong")])
    assert conversation.receive([request(1)]) == []
    failure(conversation)
    conversation.core.announce_end()
    conversation.core.refuse_more()
    assert conversation.take() == []


def test_a_head_under_way_is_told() -> None:
    conversation = Conversation()
    assert conversation.core.is_within_head
    conversation.receive([OPENING])
    assert not conversation.core.is_within_head
    conversation.receive([encode_frame(frames.HEADERS, 0, 1, block(*pseudo()))])
    assert conversation.core.is_within_head
    conversation.receive([encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1)])
    assert not conversation.core.is_within_head


def test_streams_that_are_gone_are_written_to_in_vain() -> None:
    conversation = opened()
    conversation.receive([request(1, method="POST", end=False)])
    conversation.core.reset(1, Code.CANCEL)
    conversation.take()
    core = conversation.core
    conversation.answer(1, 200, b"late")
    core.answers.send_content(1, b"late")
    core.answers.send_end(1, [])
    core.answers.send_informational(1, 100)
    core.reset(1, Code.CANCEL)
    core.consumed(1, 5)
    assert conversation.take() == []


def test_a_body_without_limit() -> None:
    limits = Http2Limits(100, 8192, 32 * 1024, 100, max_body=0)
    conversation = opened(limits)
    events = conversation.receive([request(1, (b"content-length", b"9" * 18), method="POST", end=False)])
    assert [event for event in events if isinstance(event, RequestHead)]


# Windows.


def test_the_windows_of_a_client_never_run_dry() -> None:
    conversation = opened(Http2Limits(100, 8192, 32 * 1024, 100, max_body=0))
    conversation.receive([request(1, method="POST", end=False)])
    stream_window, window = frames.DEFAULT_WINDOW, CONNECTION_WINDOW
    for _ in range(400):
        body = b"x" * min(16384, stream_window, window)
        assert body
        stream_window -= len(body)
        window -= len(body)
        (event,) = conversation.receive([data(1, body)])
        assert isinstance(event, Data)
        conversation.core.consumed(1, len(body))
        for frame in conversation.take():
            increment = struct.unpack("!I", frame.payload)[0]
            if frame.stream:
                stream_window += increment
            else:
                window += increment
    assert window > CONNECTION_WINDOW // 2
    assert stream_window > frames.DEFAULT_WINDOW // 2


def test_content_that_nobody_takes_does_not_use_up_the_connection() -> None:
    """Of streams that were refused, reset here, reset by the client, or are behind the last one."""
    conversation = opened()
    window = CONNECTION_WINDOW
    body = b"x" * 16384
    stream = numbers()
    for kind in ("refused", "reset", "answered", "padding") * 40:
        number = next(stream)
        fields = [(b"content-length", b"200000")] if kind == "refused" else []
        conversation.receive([request(number, *fields, method="POST", end=False)])
        if kind == "reset":
            conversation.core.reset(number, Code.CANCEL)
        elif kind == "answered":
            conversation.answer(number)
        content = data(number, body)
        if kind == "padding":
            content = encode_frame(frames.DATA, frames.PADDED, number, b"\xff" + bytes(16383))
        conversation.receive([content])
        conversation.core.end_late()
        conversation.core.end_late()
        window -= 16384
        if kind == "padding":
            conversation.core.consumed(number, 16384 - 256)
            conversation.answer(number)
        elif kind == "refused":
            conversation.answer(number, 413)
        window += sum(
            struct.unpack("!I", frame.payload)[0]
            for frame in conversation.take()
            if frame.kind == frames.WINDOW_UPDATE and not frame.stream
        )
        assert not conversation.core.is_over, conversation.lines[-1]
    assert window >= CONNECTION_WINDOW // 2


def test_more_content_than_the_connections_window() -> None:
    conversation = opened()
    for number in range(1, 41, 2):
        conversation.receive([request(number, method="POST", end=False)])
        conversation.receive([data(number, b"x" * 16384)] * 3)
    assert not conversation.core.is_over
    conversation.receive([data(39, b"x" * 10_000), data(37, b"x" * 16383), data(35, b"x" * 16383)])
    conversation.receive([data(33, b"x" * 16383), data(31, b"x" * 16383)])
    assert failure(conversation) == (
        Code.FLOW_CONTROL_ERROR,
        "more content than the connection's window (RFC 9113 section 6.9)",
    )
