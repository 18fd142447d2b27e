"""Floods of reference 2.4 against the core of HTTP/2, by counts; and clients that are busy and honest, which stay."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from edge.http import frames
from edge.http.events import Failure, Refusal, RequestHead, Reset
from edge.http.flood import MAX_ERRORS, MAX_RESETS, NOISE, NOISE_RATE, Allowance
from edge.http.frames import Code, encode_frame, encode_reset, encode_settings, encode_window_update
from edge.http.http2 import MAX_HEADS, MAX_REPLIES, Http2Limits
from edge.http.incoming import MAX_CONTINUATIONS
from tests.edge.http.peer2 import LIMITS, OPENING, Conversation, block, data, headers, pseudo, request

ACK = encode_frame(frames.SETTINGS, frames.ACK, 0)
PING = encode_frame(frames.PING, 0, 0, b"pingpong")
UPLOAD = request(1, method="POST", end=False)


def opened(limits: Http2Limits = LIMITS, *, acknowledged: bool = True) -> Conversation:
    """Return a connection behind its prefaces."""
    conversation = Conversation(limits)
    conversation.receive([OPENING, ACK * acknowledged])
    conversation.take()
    return conversation


def told(conversation: Conversation) -> tuple[Code, str]:
    """Return with which code and reason the client was told to go."""
    goaway = [frame for frame in conversation.take() if frame.kind == frames.GOAWAY][-1]
    assert conversation.core.is_over
    return Code(struct.unpack_from("!II", goaway.payload)[1]), goaway.payload[8:].decode()


def send_until_failure(conversation: Conversation, frame: bytes, most: int) -> int:
    """Send a frame again and again; return how many were taken."""
    for count in range(most):
        conversation.receive([frame])
        if conversation.core.is_over:
            return count
        conversation.take()
    raise AssertionError(f"{most} frames were taken")


# The allowance.


def test_an_allowance_is_spent_and_comes_back_with_time() -> None:
    allowance = Allowance(10, 2)
    assert all(allowance.spend(1, 1000.0) for _ in range(10))
    assert not allowance.spend(1, 1000.0)
    assert allowance.spend(1, 1001.0)
    assert not allowance.spend(5, 1001.5)
    assert allowance.spend(10, 2000.0)
    assert allowance.spend(10, 2000.0), "time is looked at when all is spent, and fills it once"
    assert not allowance.spend(1, 2000.0), "more than the capacity has come back"


def test_time_counts_from_the_first_that_is_spent() -> None:
    for start in (0.0, 1e6):
        allowance = Allowance(1, 1)
        assert all(allowance.spend(1, start + second) for second in range(100))


def test_what_is_earned_is_at_most_the_capacity() -> None:
    allowance = Allowance(3, 0)
    allowance.earn(100)
    assert [allowance.spend(1, 0.0) for _ in range(4)] == [True, True, True, False]
    allowance.earn(2)
    assert allowance.spend(1, 0.0)


# Attacks.


def test_rapid_reset() -> None:
    """CVE-2023-44487: the hundred and first request that is given up is the last."""
    conversation = opened()
    for count in range(MAX_RESETS + 1):
        events = conversation.receive([request(2 * count + 1), encode_reset(2 * count + 1, Code.CANCEL)])
    assert isinstance(events[-1], Failure)
    given_up = sum(line.startswith("given up") for line in conversation.lines)
    assert given_up == MAX_RESETS
    assert told(conversation) == (
        Code.ENHANCE_YOUR_CALM,
        "more requests given up than answered (rapid reset, CVE-2023-44487)",
    )


def test_resets_are_made_up_for_by_answers() -> None:
    conversation = opened()
    for number in range(1, 4001, 4):
        conversation.receive([request(number), request(number + 2), encode_reset(number, Code.CANCEL)])
        conversation.answer(number + 2)
        conversation.take()
    assert not conversation.core.is_over


def test_a_request_that_a_worker_still_runs_is_counted_until_it_has_done() -> None:
    limits = Http2Limits(3, 8192, 32 * 1024, 100, 0)
    conversation = opened(limits)
    for number in (1, 3, 5):
        (head, reset) = conversation.receive([request(number), encode_reset(number, Code.CANCEL)])
        assert isinstance(head, RequestHead)
        assert isinstance(reset, Reset)
        conversation.core.hold()
    assert conversation.receive([request(7)]) == []
    conversation.take()
    assert conversation.lines[-1] == "< RST_STREAM 7 REFUSED_STREAM"
    conversation.core.release()
    (head,) = conversation.receive([request(9)])
    assert isinstance(head, RequestHead)
    assert conversation.receive([request(11)]) == []


def test_requests_that_are_held_do_not_count_against_the_client() -> None:
    """It has given them up, and cannot know that a worker runs them yet."""
    conversation = opened()
    for number in range(1, 199, 2):
        conversation.receive([request(number), encode_reset(number, Code.CANCEL)])
        conversation.core.hold()
    conversation.receive([request(number) for number in range(201, 401, 2)])
    conversation.take()
    assert not conversation.core.is_over
    assert conversation.lines[-1] == "< RST_STREAM 399 REFUSED_STREAM"


def test_more_requests_than_were_announced() -> None:
    conversation = opened()
    events = conversation.receive([request(number) for number in range(1, 401, 2)])
    assert sum(isinstance(event, RequestHead) for event in events) == LIMITS.max_streams
    assert told(conversation) == (Code.ENHANCE_YOUR_CALM, "requests beyond what was announced")
    assert sum("REFUSED_STREAM" in line for line in conversation.lines) == MAX_ERRORS


def test_more_requests_than_the_client_can_know_of_are_refused_and_nothing_more() -> None:
    conversation = opened(acknowledged=False)
    conversation.receive([request(number) for number in range(1, 401, 2)])
    conversation.receive([data(399, b"under way", end=True)])
    conversation.take()
    assert not conversation.core.is_over
    assert sum("REFUSED_STREAM" in line for line in conversation.lines) == 100


def test_malformed_requests() -> None:
    """Ten good requests make up for a bad one, and an answer is an answer."""
    conversation = opened()
    number = 1
    while not conversation.core.is_over:
        conversation.receive([request(number, (b"Upper", b"case"))])
        conversation.answer(number, 400)
        number += 2
    refused = sum(line.startswith("refused") for line in conversation.lines)
    assert MAX_ERRORS <= refused <= MAX_ERRORS * 1.2
    code, reason = told(conversation)
    assert code == Code.ENHANCE_YOUR_CALM
    assert reason.startswith("too many malformed requests, the last: field name b'Upper'")


def test_continuation_flood() -> None:
    """CVE-2024-27316: eight frames, and no more."""
    conversation = opened()
    conversation.receive([encode_frame(frames.HEADERS, 0, 1, block(*pseudo()))])
    empty = encode_frame(frames.CONTINUATION, 0, 1)
    assert send_until_failure(conversation, empty, 100) == MAX_CONTINUATIONS
    code, reason = told(conversation)
    assert (code, reason) == (Code.ENHANCE_YOUR_CALM, "a head in more than 8 CONTINUATION frames")


def test_continuation_flood_of_large_frames() -> None:
    conversation = opened()
    conversation.receive([encode_frame(frames.HEADERS, 0, 1, bytes(16384))])
    large = encode_frame(frames.CONTINUATION, 0, 1, bytes(16384))
    assert send_until_failure(conversation, large, 100) == 1
    code, reason = told(conversation)
    assert (code, reason) == (Code.ENHANCE_YOUR_CALM, "a head of 49152 bytes, at most 40960 allowed")


def test_hpack_bomb() -> None:
    """CVE-2026-49975: heads of a hundred bytes that decode to 30 KiB are kept up to 1 MiB in all."""
    conversation = opened()
    large = b"\x40\x06x-bomb\x7f\xb9\x16" + b"b" * 3000  # indexed: the next heads name it by one byte
    start = block(*pseudo())
    conversation.receive([encode_frame(frames.HEADERS, 5, 1, start + large)])
    bomb = start + b"\xbe" * 10
    for number in range(3, 301, 2):
        conversation.receive([encode_frame(frames.HEADERS, 5, number, bomb)])
    conversation.take()
    core = conversation.core
    sizes = [stream.head_size for stream in core.streams.values()]
    assert sum(sizes) <= MAX_HEADS
    assert sum(sizes) + max(sizes) > MAX_HEADS
    assert len(sizes) < LIMITS.max_streams
    assert not core.is_over, "a client cannot know what its heads count for here"
    conversation.receive([encode_reset(3, Code.CANCEL), encode_frame(frames.HEADERS, 5, 301, bomb)])
    assert 301 in core.streams


def test_hpack_bomb_is_over_when_its_requests_are() -> None:
    """A client that is idle keeps no heads: not the last ones, and not those that it may send again."""
    connections = [opened() for _ in range(10)]
    crumb = b"\x60" + b"\x7f\xb9\x16" + b"c" * 3000  # cookie, indexed: to be joined from the table, anew each time
    for conversation in connections:
        conversation.receive([encode_frame(frames.HEADERS, 5, 1, block(*pseudo()) + crumb)])
        conversation.answer(1)
    numbers = range(3, 67, 2)
    bombs = [
        encode_frame(frames.HEADERS, 5, number, block(*pseudo(path=f"/{number}")) + b"\xbe" * 10) for number in numbers
    ]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for conversation in connections:
        core = conversation.core
        core.receive(b"".join(bombs), 0.0)
        assert len(core.streams) == 32
        for number in numbers:
            core.answers.send_response(RequestHead(number, b"GET", b"/", b"2", b""), 200, b"", [], [], b"", b"", True)
        core.sender.take(1)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < len(connections) * 16 * 1024


def test_hpack_bomb_of_small_fields() -> None:
    conversation = opened()
    bomb = block(*pseudo()) + b"\x90" * 16000
    (refusal,) = conversation.receive([encode_frame(frames.HEADERS, 5, 1, bomb)])
    assert isinstance(refusal, Refusal)
    assert refusal.status == 431


@pytest.mark.parametrize(
    ("frame", "cost"),
    [
        (encode_settings({}), 5),
        (encode_settings({frames.HEADER_TABLE_SIZE: 0}), 6),
        (ACK, 5),
        (PING, 1),
        (encode_frame(frames.PING, frames.ACK, 0, b"pingpong"), 1),
        (encode_frame(frames.PRIORITY, 0, 3, bytes(5)), 1),
        (encode_frame(frames.PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1"), 1),
        (encode_frame(frames.GOAWAY, 0, 0, bytes(8)), 1),
        (encode_frame(99, 0, 0), 1),
        (data(1, b""), 1),
        (encode_frame(frames.DATA, frames.PADDED, 1, b"\0"), 1),
        (encode_window_update(0, 1), 1),
        (encode_window_update(1, 1), 1),
    ],
    ids=[
        "SETTINGS",
        "SETTINGS-with-one",
        "SETTINGS-ACK",
        "PING",
        "PING-ACK",
        "PRIORITY",
        "PRIORITY_UPDATE",
        "GOAWAY",
        "unknown",
        "empty-DATA",
        "padded-empty-DATA",
        "WINDOW_UPDATE-of-the-connection",
        "WINDOW_UPDATE-of-a-stream",
    ],
)
def test_flood_of_frames_that_bring_nothing_on(frame: bytes, cost: int) -> None:
    conversation = opened()
    conversation.receive([UPLOAD])
    taken = send_until_failure(conversation, frame, 2 * NOISE)
    assert taken in (NOISE // cost, (NOISE - 5) // cost)  # SETTINGS of the preface, and its acknowledgement
    assert told(conversation)[0] == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("frame", [data(1, b""), headers(1, [(b"a", b"b")]), encode_window_update(1, 1)])
def test_flood_on_a_stream_that_was_reset_here(frame: bytes) -> None:
    conversation = opened()
    conversation.receive([UPLOAD])
    conversation.core.reset(1, Code.CANCEL)
    assert send_until_failure(conversation, frame, 2 * NOISE) <= NOISE


def test_flood_of_requests_behind_the_last() -> None:
    conversation = opened()
    conversation.core.refuse_more()
    for number in range(1, 4 * NOISE, 2):
        conversation.receive([request(number)])
        if conversation.core.is_over:
            break
    assert number // 2 <= NOISE
    assert told(conversation)[0] == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("frame", [PING, encode_settings({})], ids=["PING", "SETTINGS"])
def test_frames_that_answer_are_bounded(frame: bytes) -> None:
    conversation = opened()
    conversation.receive([frame * MAX_REPLIES])
    assert not conversation.core.is_over
    conversation.receive([frame])
    code, reason = told(conversation)
    assert (code, reason) == (Code.ENHANCE_YOUR_CALM, "more than 100 frames that ask for an answer at once")


def test_window_updates_of_one_byte_earn_nothing() -> None:
    """The answer drips out a byte at a time: frames that the client does not need are not made up for by them."""
    conversation = opened()
    conversation.receive([encode_settings({frames.INITIAL_WINDOW_SIZE: 0}), request(1)])
    conversation.answer(1, 200, b"x" * 100_000)
    taken = send_until_failure(conversation, encode_window_update(1, 1), 2 * NOISE)
    assert taken <= NOISE
    assert told(conversation)[0] == Code.ENHANCE_YOUR_CALM


# Honest and busy.


def test_ten_thousand_requests() -> None:
    conversation = opened()
    for number in range(1, 20_001, 2):
        conversation.receive([request(number)])
        conversation.answer(number, 200, b"hello")
        assert [frame.kind for frame in conversation.take()] == [frames.HEADERS, frames.DATA]
    assert not conversation.core.is_over
    assert not conversation.core.streams


def test_window_updates_for_each_frame_of_a_long_download() -> None:
    conversation = opened()
    conversation.receive([request(1)])
    conversation.answer(1, 200, b"", end=False)
    received = 0
    for _ in range(100):
        conversation.core.answers.send_content(1, bytes(1_000_000))
        while conversation.core.sender.has_output:
            for frame in conversation.take():
                size = len(frame.payload)
                if frame.kind == frames.DATA and size:
                    received += size
                    conversation.receive([encode_window_update(1, size), encode_window_update(0, size)])
    assert received == 100_000_000
    assert not conversation.core.is_over


def test_a_ping_every_second_for_an_hour() -> None:
    conversation = Conversation()
    conversation.receive([OPENING, ACK], 50_000.0)
    for second in range(3600):
        conversation.receive([PING], 50_000.0 + second)
        assert conversation.take()[-1].kind == frames.PING
    assert not conversation.core.is_over


def test_noise_comes_back_at_its_rate_and_no_faster() -> None:
    conversation = Conversation()
    conversation.receive([OPENING, ACK], 1.0)
    taken = 0
    for second in range(1, 100):
        for _ in range(2 * NOISE_RATE):
            conversation.receive([PING], float(second))
            conversation.take()
            if conversation.core.is_over:
                assert NOISE <= taken <= 3 * NOISE
                return
            taken += 1
    raise AssertionError("a flood that is never stopped")
