"""Answers over HTTP/2: their heads as blocks, and content that is as long as they say."""

from __future__ import annotations

import pytest

from edge.http import frames
from edge.http.events import ProtocolError
from tests.edge.http.peer2 import OPENING, Conversation, request


def opened() -> Conversation:
    """Return a connection behind its prefaces."""
    conversation = Conversation()
    conversation.receive([OPENING])
    conversation.take()
    return conversation


def test_a_request_id_of_any_size_leaves_a_block_that_can_be_read() -> None:
    for size in (1, 20, 126, 127, 128):
        conversation = opened()
        conversation.receive([request(1)])
        core = conversation.core
        core.answers.send_response(conversation.heads[1], 200, b"0", [b"a", b"b"], [], b"i" * size, b"", True)
        conversation.lines.clear()
        (frame,) = conversation.take()
        assert conversation.lines[1:] == ["    :status: 200", "    a: b", "    content-length: 0"]
        assert b"i" * size in frame.payload


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_content_take_none(method: str, status: int) -> None:
    conversation = opened()
    conversation.receive([request(1, method=method)])
    conversation.answer(1, status, end=False)
    with pytest.raises(ProtocolError, match="longer than its content-length"):
        conversation.core.answers.send_content(1, b"x")


def test_answers_that_are_not_as_long_as_they_say_are_refused() -> None:
    conversation = opened()
    conversation.receive([request(1), request(3), request(5)])
    for stream, body in ((1, b"123"), (1, b"1")):
        with pytest.raises(ProtocolError, match="does not have the 2 bytes announced") as refused:
            conversation.answer(stream, 200, body, length=b"2")
        assert refused.value.status == 502
    conversation.answer(3, 200, b"1", length=b"2", end=False)
    with pytest.raises(ProtocolError, match="longer than its content-length"):
        conversation.core.answers.send_content(3, b"23")
    with pytest.raises(ProtocolError, match="1 bytes shorter than announced"):
        conversation.core.answers.send_end(3, [])
    conversation.core.answers.send_content(3, b"2")
    conversation.core.answers.send_end(3, [])
    assert conversation.take()[-1].flags == frames.END_STREAM


def test_answers_of_unknown_length_are_as_long_as_they_are() -> None:
    conversation = opened()
    conversation.receive([request(1)])
    conversation.core.answers.send_informational(1, 100)
    conversation.answer(1, 200, b"1", end=False)
    conversation.core.answers.send_content(1, b"23")
    conversation.core.answers.send_end(1, [b"sum", b"6"])
    assert b"".join(frame.payload for frame in conversation.take() if frame.kind == frames.DATA) == b"123"
    heads = [line.strip() for line in conversation.lines if ": " in line and line.startswith(" ")]
    assert heads == [":status: 100", ":status: 200", "sum: 6"]


def test_what_is_for_a_stream_that_is_over_is_dropped() -> None:
    conversation = opened()
    conversation.receive([request(1)])
    conversation.core.reset(1, frames.Code.CANCEL)
    conversation.take()
    answers = conversation.core.answers
    conversation.answer(1, 200, b"late")
    answers.send_informational(1, 100)
    answers.send_content(1, b"late")
    answers.send_end(1, [])
    assert conversation.take() == []
