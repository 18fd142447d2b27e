"""Uploads over HTTP/2: which come too slowly, and when their windows open again."""

from __future__ import annotations

import struct

import pytest

from edge.http import frames
from edge.net.service import RATE_GRACE
from edge.net.uploads import Uploads
from tests.edge.http.peer2 import OPENING, Conversation, data, request

IDLE, LEAST = 30.0, 500.0
HALF = frames.DEFAULT_WINDOW // 2 + 1


class Sending:
    """A connection on whose stream 1 content is being sent."""

    def __init__(self, *, is_timed: bool = True) -> None:
        self.conversation = Conversation()
        self.conversation.receive([OPENING, request(1, method="POST", end=False)])
        self.conversation.take()
        self.uploads = Uploads(self.conversation.core)
        self.uploads.begin(1, 0.0, is_timed=is_timed)

    def send(self, size: int, now: float = 0.0, *, is_last: bool = False) -> None:
        """Send so much content."""
        for start in range(0, size, frames.DEFAULT_FRAME_SIZE):
            piece = min(frames.DEFAULT_FRAME_SIZE, size - start)
            self.conversation.receive([data(1, bytes(piece), end=is_last and start + piece == size)])
            self.uploads.receive(1, piece, now, is_last=is_last)

    def opened(self) -> int:
        """Return by how much the stream's window was opened since this was asked last."""
        updates = [frame for frame in self.conversation.take() if frame.kind == frames.WINDOW_UPDATE and frame.stream]
        return sum(struct.unpack("!I", frame.payload)[0] for frame in updates)

    def late(self, now: float, least: float = LEAST) -> list[tuple[int, str]]:
        """Return what is late."""
        return list(self.uploads.late(now, IDLE, least))


def test_window_opens_when_content_is_taken() -> None:
    sending = Sending()
    sending.send(HALF)
    assert sending.opened() == 0
    sending.uploads.hand_on(1)
    assert sending.opened() == HALF
    sending.uploads.hand_on(1)
    assert sending.opened() == 0


def test_window_opens_when_the_worker_has_room_again() -> None:
    sending = Sending()
    assert not sending.uploads.go_on(1, 0.0)
    sending.send(HALF)
    assert sending.uploads.go_on(1, 0.0)
    assert sending.opened() == HALF
    assert not sending.uploads.go_on(1, 0.0)


def test_what_is_forgotten_gives_its_room_back_once() -> None:
    sending = Sending()
    sending.send(HALF)
    sending.uploads.forget(1)
    assert sending.opened() == HALF
    sending.uploads.forget(1)
    sending.uploads.hand_on(1)
    sending.uploads.ask(1, 0.0)
    assert not sending.uploads.go_on(1, 0.0)
    assert (sending.opened(), bool(sending.uploads)) == (0, False)


def test_client_that_left_has_no_uploads() -> None:
    sending = Sending()
    assert sending.uploads
    sending.uploads.clear()
    assert not sending.uploads


@pytest.mark.parametrize(
    ("now", "late"),
    [(IDLE, []), (IDLE + 1, [(1, "content stopped coming")])],
)
def test_content_that_stops_coming_is_late(now: float, late: list[tuple[int, str]]) -> None:
    sending = Sending()
    sending.send(20_000)
    sending.uploads.hand_on(1)
    assert sending.late(now, 0) == late


@pytest.mark.parametrize(
    ("size", "now", "is_late"),
    [(1000, RATE_GRACE, False), (1000, RATE_GRACE + 1, True), (20_000, RATE_GRACE + 1, False)],
)
def test_content_has_its_rate_behind_the_first_seconds(size: int, now: float, is_late: bool) -> None:
    sending = Sending()
    sending.send(size, now - 1)
    sending.uploads.hand_on(1)
    late = sending.late(now)
    assert late == ([(1, f"content comes at {size / now:.0f} bytes/s, at least 500.0 expected")] if is_late else [])


def test_content_that_waits_for_its_worker_is_never_late() -> None:
    sending = Sending()
    sending.send(1000)
    assert sending.late(1000.0) == []
    sending.uploads.go_on(1, 1000.0)
    assert sending.late(1000.0 + RATE_GRACE) == []
    assert sending.late(1000.0 + RATE_GRACE + 1) != []


def test_client_that_waits_for_100_is_timed_from_then_on() -> None:
    sending = Sending(is_timed=False)
    assert sending.late(1000.0) == []
    sending.uploads.ask(1, 1000.0)
    assert sending.late(1000.0 + RATE_GRACE) == []
    assert sending.late(1000.0 + IDLE + 1) == [(1, "content stopped coming")]


def test_content_that_is_whole_is_never_late() -> None:
    sending = Sending()
    sending.send(1000, is_last=True)
    sending.uploads.hand_on(1)
    assert sending.late(1000.0) == []
