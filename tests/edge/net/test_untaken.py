"""What clients of HTTP/2 do not take of their answers: shares, and when a client counts as one that takes nothing."""

from __future__ import annotations

import pytest

from edge.net.untaken import ANSWERS_WINDOW, LEAST_PROGRESS, Share, Untaken
from edge_backend import wire


def test_a_process_counts_what_its_connections_hold() -> None:
    process = Untaken()
    first, second = Share(process, 0.0), Share(process, 0.0)
    first.count(100)
    second.count(10)
    first.count(30)
    assert (process.size, first.size) == (40, 30)
    second.count(0)
    first.count(0)
    assert process.size == 0


@pytest.mark.parametrize(
    ("streams", "window"),
    [
        (0, wire.INITIAL_WINDOW),
        (1, wire.INITIAL_WINDOW),
        (5, ANSWERS_WINDOW // 5),
        (64, wire.NARROW_WINDOW),
        (1000, wire.NARROW_WINDOW),
    ],
)
def test_the_window_of_a_connection_is_shared_by_its_answers(streams: int, window: int) -> None:
    assert Share(Untaken(), 0.0).narrow_window(streams) == window


@pytest.mark.parametrize(
    ("seen", "is_stalled"),
    [
        pytest.param([(59, 1, 0)], False, id="not-yet"),
        pytest.param([(60, 1, 0)], True, id="nothing-taken"),
        pytest.param([(60, 1, LEAST_PROGRESS - 1)], True, id="next-to-nothing-taken"),
        pytest.param([(60, 1, LEAST_PROGRESS)], False, id="enough-taken"),
        pytest.param([(60, 0, 0)], False, id="nothing-to-take"),
        pytest.param([(50, 0, 0), (60, 1, 0)], False, id="it-has-waited-for-10-seconds"),
        pytest.param([(50, 0, 0), (110, 1, 0)], True, id="it-has-waited-for-60-seconds"),
        pytest.param([(60, 1, LEAST_PROGRESS), (119, 1, LEAST_PROGRESS)], False, id="anew-from-the-last-progress"),
        pytest.param([(60, 1, LEAST_PROGRESS), (120, 1, LEAST_PROGRESS)], True, id="nothing-since"),
    ],
)
def test_client_that_takes_next_to_nothing_for_a_minute_is_stalled(
    seen: list[tuple[float, int, int]], is_stalled: bool
) -> None:
    share = Share(Untaken(), 0.0)
    *before, last = [share.is_stalled(now, waiting, sent, 60) for now, waiting, sent in seen]
    assert (before, last) == ([False] * len(before), is_stalled)
