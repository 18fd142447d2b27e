"""The two steps in which a connection of HTTP/2 ends, on a clock of their own."""

from __future__ import annotations

import struct

from edge.http import frames
from edge.net.farewell import FAREWELL, QUIET, Farewell
from tests.edge.http.peer2 import OPENING, Conversation, request


class Leaving:
    """A connection that has had one request."""

    def __init__(self) -> None:
        self._conversation = Conversation()
        self._conversation.receive([OPENING, request(1)])
        self._conversation.take()
        self.farewell = Farewell(self._conversation.core)

    def told(self) -> list[int]:
        """Return the last streams of what was said since this was asked last."""
        said = [frame.payload for frame in self._conversation.take() if frame.kind == frames.GOAWAY]
        return [struct.unpack_from("!I", payload)[0] for payload in said]


def test_nothing_is_said_before_it_begins() -> None:
    leaving = Leaving()
    assert (leaving.farewell.is_begun, leaving.farewell.is_due, leaving.told()) == (False, False, [])


def test_without_a_quiet_moment_both_steps_have_their_time() -> None:
    leaving = Leaving()
    leaving.farewell.begin(100.0)
    for now, told in [
        (100.0, []),
        (99.9 + QUIET, []),
        (100.0 + QUIET, [frames.MAX_WINDOW]),
        (99.9 + QUIET + FAREWELL, []),
        (100.0 + QUIET + FAREWELL, [1]),
        (200.0, []),
    ]:
        leaving.farewell.go_on(now)
        assert (now, leaving.told()) == (now, told)


def test_quiet_moment_is_taken_and_the_second_step_counts_from_it() -> None:
    leaving = Leaving()
    leaving.farewell.begin(100.0)
    assert leaving.farewell.is_due
    leaving.farewell.announce(100.2)
    assert (leaving.farewell.is_due, leaving.told()) == (False, [frames.MAX_WINDOW])
    leaving.farewell.go_on(100.1 + FAREWELL)
    assert leaving.told() == []
    leaving.farewell.go_on(100.2 + FAREWELL)
    assert leaving.told() == [1]


def test_beginning_again_changes_nothing() -> None:
    leaving = Leaving()
    leaving.farewell.begin(100.0)
    leaving.farewell.begin(100.0 + QUIET)
    leaving.farewell.go_on(100.0 + QUIET)
    assert leaving.told() == [frames.MAX_WINDOW]
    leaving.farewell.begin(200.0)
    assert not leaving.farewell.is_due
