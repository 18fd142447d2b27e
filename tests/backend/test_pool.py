"""Which workers should run, decided without a process or a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_backend.pool import BACKOFF_MOST, STABLE, Kill, Pool, Spawn, StartFailure


def started(size: int, *, at: float = 0.0) -> Pool:
    """Return a pool whose workers are all ready."""
    pool = Pool(size=size, startup_timeout=60)
    for _ in range(2):
        for action in pool.due(at):
            pool.ready(action.number)
    assert len(pool.ready_numbers) == size
    return pool


def test_first_worker_starts_alone_and_the_rest_when_it_is_ready() -> None:
    pool = Pool(size=3, startup_timeout=60)
    assert pool.due(0) == [Spawn(0)]
    assert pool.due(0) == []
    pool.ready(0)
    assert pool.due(0) == [Spawn(1), Spawn(2)]
    assert pool.alive_numbers == [0, 1, 2]
    assert pool.ready_numbers == [0]


def test_ready_counts_once_and_for_known_workers_only() -> None:
    pool = Pool(size=1, startup_timeout=60)
    pool.due(0)
    pool.ready(7)
    assert pool.ready_numbers == []
    pool.ready(0)
    pool.ready(0)
    assert pool.ready_numbers == [0]


def test_worker_that_is_not_ready_in_time_is_killed_once() -> None:
    pool = Pool(size=1, startup_timeout=5)
    pool.due(0)
    assert pool.deadline() == 5
    assert pool.due(4.9) == []
    assert pool.due(5) == [Kill(0, "not ready within 5 s")]
    assert pool.due(5) == []
    pool.ready(0)
    assert pool.ready_numbers == []
    assert pool.exited(0, 5.1, "killed by SIGKILL") is None
    assert pool.failure == StartFailure(1, "worker 0 ended before it was ready: killed by SIGKILL")


def test_replacement_that_is_not_ready_in_time_is_killed_and_replaced() -> None:
    pool = started(1)
    pool.exited(0, 1, "")
    assert pool.due(1) == [Spawn(1)]
    assert pool.due(61) == [Kill(1, "not ready within 60 s"), Spawn(2)]
    assert pool.exited(1, 61.1, "killed by SIGKILL") == 0.0


def test_nothing_is_due_while_all_are_ready() -> None:
    pool = started(2)
    assert pool.deadline() is None
    assert pool.due(1000) == []


def test_dead_worker_is_replaced_at_once_under_a_new_number() -> None:
    pool = started(2)
    assert pool.exited(0, 1, "killed by SIGKILL") == 0.0
    assert pool.deadline() == 1
    assert pool.due(1) == [Spawn(2)]


def test_crash_loop_is_slowed_down_and_never_given_up() -> None:
    pool = started(1)
    now, number, delays = 0.0, 0, []
    for _ in range(12):
        delay = pool.exited(number, now, "exit code 1")
        assert delay is not None
        delays.append(delay)
        if delay:
            assert pool.due(now + delay * 0.99) == []
        now += delay
        [action] = pool.due(now)
        number = action.number
        pool.ready(number)
    assert delays[:5] == [0, 0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == BACKOFF_MOST
    assert max(delays) == BACKOFF_MOST


def test_worker_that_lived_long_ends_the_crash_loop() -> None:
    pool = started(1)
    assert pool.exited(0, 0, "") == 0
    pool.due(0)
    assert pool.exited(1, 0, "") == 0.1
    pool.due(0.1)
    assert pool.exited(2, 0.1 + STABLE, "") == 0


def test_failure_before_any_was_ready_ends_the_start_with_its_code() -> None:
    pool = Pool(size=2, startup_timeout=60)
    pool.due(0)
    pool.failed(0, 2, "no module")
    pool.failed(0, 1, "too late")
    assert pool.failure == StartFailure(2, "no module")
    assert pool.deadline() is None
    assert pool.due(1000) == []
    assert pool.exited(0, 1, "exit code 2") is None
    assert pool.failure == StartFailure(2, "no module")


def test_failure_of_an_unknown_worker_is_none() -> None:
    pool = Pool(size=1, startup_timeout=60)
    pool.failed(0, 2, "no module")
    assert pool.failure is None


def test_failure_after_one_was_ready_leaves_the_pool_running() -> None:
    pool = started(1)
    assert pool.exited(0, 1, "") == 0
    pool.due(1)
    pool.failed(1, 1, "no database")
    assert pool.failure is None


def test_end_before_any_was_ready_ends_the_start() -> None:
    pool = Pool(size=1, startup_timeout=60)
    pool.due(0)
    assert pool.exited(0, 1, "killed by SIGSEGV") is None
    assert pool.failure == StartFailure(1, "worker 0 ended before it was ready: killed by SIGSEGV")


def test_end_of_an_unknown_worker_changes_nothing() -> None:
    pool = started(1)
    assert pool.exited(9, 1, "") is None
    assert pool.due(1) == []


def test_stopping_pool_starts_nothing() -> None:
    pool = started(2)
    pool.stop()
    assert pool.exited(0, 1, "") is None
    assert pool.deadline() is None
    assert pool.due(1000) == []
    assert pool.alive_numbers == [1]


@pytest.mark.parametrize("size", [1, 4])
@given(data=st.data())
def test_pool_always_comes_back_to_its_size_and_uses_no_number_twice(size: int, data: st.DataObject) -> None:
    pool = started(size)
    now = 0.0
    seen = set(range(size))
    for _ in range(data.draw(st.integers(0, 10))):
        now += data.draw(st.floats(0, 20))
        alive = pool.alive_numbers
        if alive:
            pool.exited(data.draw(st.sampled_from(alive)), now, "")
        for action in pool.due(now):
            assert action.number not in seen
            seen.add(action.number)
            pool.ready(action.number)
    while (deadline := pool.deadline()) is not None:
        assert deadline <= now + BACKOFF_MOST
        now = max(now, deadline)
        for action in pool.due(now):
            pool.ready(action.number)
    assert len(pool.ready_numbers) == size
