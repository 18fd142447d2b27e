"""Which workers should run, decided without a process or a clock."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_backend.pool import (
    BACKOFF_MOST,
    CRASH_WINDOW,
    STABLE,
    Action,
    CrashLoop,
    Drain,
    Kill,
    Pool,
    PoolRules,
    Spawn,
    StartFailure,
    WorkerState,
)

RULES = PoolRules(size=1, startup_timeout=60, drain_timeout=30, worker_timeout=20, max_crashes=5)


def pool_of(size: int, spread: float = 0.0, **rules: Any) -> Pool:
    """Return a pool in which nothing was done yet."""
    return Pool(replace(RULES, size=size, **rules), lambda: spread, itertools.count())


def spawned(actions: list[Action]) -> list[int]:
    return [action.number for action in actions if isinstance(action, Spawn)]


def started(size: int, *, at: float = 0.0, spread: float = 0.0, **rules: Any) -> Pool:
    """Return a pool whose workers are all ready."""
    pool = pool_of(size, spread, **rules)
    run(pool, at)
    assert len(pool.ready_numbers) == size
    return pool


def run(pool: Pool, now: float) -> list[Action]:
    """Do all that the pool wants: workers get ready, drain and die at once. Return what it wanted."""
    done: list[Action] = []
    while actions := pool.due(now):
        done += actions
        for action in actions:
            if isinstance(action, Spawn):
                pool.ready(action.number, now)
            elif isinstance(action, Drain | Kill):
                pool.exited(action.number, now, "exit code 0")
    return done


def test_first_worker_starts_alone_and_the_rest_when_it_is_ready() -> None:
    pool = pool_of(3)
    assert pool.due(0) == [Spawn(0, 0)]
    assert pool.due(0) == []
    pool.ready(0, 0)
    assert pool.due(0) == [Spawn(1, 0), Spawn(2, 0)]
    assert pool.alive_numbers == [0, 1, 2]
    assert pool.ready_numbers == [0]
    assert pool.state(1) is WorkerState.STARTING
    assert pool.is_served(1)
    assert not pool.is_served(9)


def test_ready_counts_once_and_for_known_workers_only() -> None:
    pool = pool_of(1)
    pool.due(0)
    pool.ready(7, 0)
    assert pool.ready_numbers == []
    pool.ready(0, 0)
    pool.ready(0, 0)
    assert pool.ready_numbers == [0]


def test_worker_that_is_not_ready_in_time_is_killed_once() -> None:
    pool = pool_of(1, startup_timeout=5)
    pool.due(0)
    assert pool.deadline() == 5
    assert pool.due(4.9) == []
    assert pool.due(5) == [Kill(0, "not ready within 5 s")]
    assert pool.due(5) == []
    pool.ready(0, 5)
    assert pool.ready_numbers == []
    assert pool.exited(0, 5.1, "killed by SIGKILL") is None
    assert pool.failure == StartFailure(1, "worker 0 ended before it was ready: killed by SIGKILL")


def test_replacement_that_is_not_ready_in_time_is_killed_and_replaced() -> None:
    pool = started(1)
    pool.exited(0, 1, "")
    assert pool.due(1) == [Spawn(1, 0)]
    assert pool.due(61) == [Kill(1, "not ready within 60 s"), Spawn(2, 0)]
    assert pool.exited(1, 61.1, "killed by SIGKILL") == 0.0


def test_nothing_is_due_while_all_are_ready() -> None:
    pool = started(2)
    assert pool.deadline() is None
    assert pool.due(1000) == []


# Crashes.


def test_dead_worker_is_replaced_at_once_under_a_new_number() -> None:
    pool = started(2)
    assert pool.exited(0, 1, "killed by SIGKILL") == 0.0
    assert pool.deadline() == 1
    assert pool.due(1) == [Spawn(2, 0)]
    assert pool.restarts == 1


def test_crash_loop_is_slowed_down_and_never_given_up_while_workers_get_ready() -> None:
    pool = started(1)
    now, number, delays = 0.0, 0, []
    for _ in range(12):
        delay = pool.exited(number, now, "exit code 1")
        assert delay is not None
        delays.append(delay)
        if delay:
            assert spawned(pool.due(now + delay * 0.99)) == []
        now += delay
        [number] = spawned(pool.due(now))
        pool.ready(number, now)
    assert delays[:5] == [0, 0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == BACKOFF_MOST
    assert max(delays) == BACKOFF_MOST
    assert pool.failure is None


def test_worker_that_lived_long_ends_the_crash_loop() -> None:
    pool = started(1)
    assert pool.exited(0, 0, "") == 0
    pool.due(0)
    assert pool.exited(1, 0, "") == 0.1
    pool.due(0.1)
    assert pool.exited(2, 0.1 + STABLE, "") == 0


def test_crash_loop_is_told_once_with_what_still_serves() -> None:
    pool = started(2, max_crashes=3)
    told: list[Action] = []
    for number in (1, 2, 3, 4):
        pool.exited(number, 1, "")
        told += [action for action in pool.due(20) if isinstance(action, CrashLoop)]
    assert told == [CrashLoop(3, 1)]


def test_crashes_that_lie_far_apart_are_no_loop() -> None:
    pool = started(1, max_crashes=2)
    for turn in range(4):
        now = turn * (CRASH_WINDOW + 1)
        pool.exited(turn, now, "")
        assert run(pool, now) == [Spawn(turn + 1, 0)]


def test_server_ends_when_nothing_serves_and_none_gets_ready_any_more() -> None:
    pool = started(2, max_crashes=3)
    pool.exited(0, 0, "")
    now = 0.0
    for number in (2, 3, 4, 5):  # the other one still serves
        now += BACKOFF_MOST
        assert spawned(pool.due(now)) == [number]
        pool.exited(number, now, "exit code 1")
    assert pool.failure is None
    pool.exited(1, now, "exit code 1")
    assert pool.failure is None  # that one had served
    now += BACKOFF_MOST
    [number, _] = spawned(pool.due(now))
    pool.exited(number, now, "exit code 1")
    assert pool.failure == StartFailure(1, "no worker serves, and 5 in a row did not get ready")
    assert pool.deadline() is None


def test_failure_before_any_was_ready_ends_the_start_with_its_code() -> None:
    pool = pool_of(2)
    pool.due(0)
    pool.failed(0, 2, "no module")
    pool.failed(0, 1, "too late")
    assert pool.failure == StartFailure(2, "no module")
    assert pool.deadline() is None
    assert pool.due(1000) == []
    assert pool.exited(0, 1, "exit code 2") is None
    assert pool.failure == StartFailure(2, "no module")


def test_failure_of_an_unknown_worker_is_none() -> None:
    pool = pool_of(1)
    pool.failed(0, 2, "no module")
    assert pool.failure is None


def test_failure_after_one_was_ready_leaves_the_pool_running() -> None:
    pool = started(1)
    assert pool.exited(0, 1, "") == 0
    pool.due(1)
    pool.failed(1, 1, "no database")
    assert pool.failure is None
    assert pool.exited(1, 1, "exit code 1") == 0.1


def test_end_before_any_was_ready_ends_the_start() -> None:
    pool = pool_of(1)
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
    pool = started(size, max_crashes=100)  # so that the end of it all is not among the ways
    now = 0.0
    seen = set(range(size))
    for _ in range(data.draw(st.integers(0, 10))):
        now += data.draw(st.floats(0, 20))
        alive = pool.alive_numbers
        if data.draw(st.booleans()):
            pool.reload(pool.rules)
        if alive:
            pool.exited(data.draw(st.sampled_from(alive)), now, "")
        if data.draw(st.booleans()):
            pool.reported(data.draw(st.sampled_from(alive or [0])), silent=100)
        for action in pool.due(now):
            if isinstance(action, Kill):
                pool.exited(action.number, now, "killed by SIGKILL")
            elif isinstance(action, Spawn):
                assert action.number not in seen
                seen.add(action.number)
                if data.draw(st.booleans()):
                    pool.ready(action.number, now)
    run(pool, now)  # as after each report
    while (deadline := pool.deadline()) is not None:
        assert deadline <= now + 62
        now = max(now, deadline)
        run(pool, now)
    assert len(pool.ready_numbers) == size
    assert {pool.state(number) for number in pool.alive_numbers} == {WorkerState.READY}
    assert sorted(map(pool.slot, pool.ready_numbers)) == list(range(size))
