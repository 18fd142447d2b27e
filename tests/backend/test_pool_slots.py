"""Which slot a worker has: the one of the worker whose place it takes."""

from __future__ import annotations

from edge_backend.pool import Drain, Pool, Spawn
from tests.backend.test_pool import run, spawned, started


def slots(pool: Pool) -> dict[int, int]:
    """Return the slots of the workers that can serve, by their numbers."""
    return {number: pool.slot(number) for number in pool.ready_numbers}


def test_workers_have_the_slots_from_zero_on() -> None:
    assert slots(started(3)) == {0: 0, 1: 1, 2: 2}


def test_worker_that_died_leaves_its_slot_to_the_next() -> None:
    pool = started(3)
    pool.exited(1, 20, "killed by SIGKILL")
    run(pool, 20)
    assert slots(pool) == {0: 0, 2: 2, 3: 1}


def test_reload_hands_each_slot_on() -> None:
    pool = started(3)
    pool.exited(0, 20, "killed by SIGKILL")
    run(pool, 20)
    assert slots(pool) == {1: 1, 2: 2, 3: 0}
    pool.reload(pool.rules)
    order = []
    while actions := pool.due(20):
        for action in actions:
            if isinstance(action, Spawn):
                pool.ready(action.number, 20)
            elif isinstance(action, Drain):
                order.append(action.number)
                assert pool.slot(action.number) in {pool.slot(number) for number in pool.ready_numbers}
                pool.exited(action.number, 20, "exit code 0")
    assert slots(pool) == {4: 0, 5: 1, 6: 2}
    assert order == [3, 1, 2]  # not the oldest first: nobody had the slots of 1 and 2 yet


def test_worker_that_is_recycled_hands_its_slot_on_before_it_drains() -> None:
    pool = started(2, max_requests=10)
    pool.reported(1, requests=10)
    assert spawned(pool.due(0)) == [2]
    pool.ready(2, 0)
    assert slots(pool) == {0: 0, 1: 1, 2: 1}
    assert pool.due(0) == [Drain(1, "10 requests")]
    assert slots(pool) == {0: 0, 2: 1}


def test_slot_of_one_that_drains_or_hangs_is_free() -> None:
    pool = started(2)
    pool.reported(0, silent=20)
    pool.due(0)
    pool.ready(2, 0)
    assert slots(pool) == {1: 1, 2: 0}


def test_more_workers_have_further_slots_and_those_that_stay_keep_theirs() -> None:
    pool = started(2)
    pool.resize(3)
    run(pool, 0)
    assert slots(pool) == {0: 0, 1: 1, 2: 2}
    pool.resize(2)
    run(pool, 0)
    assert slots(pool) == {1: 1, 2: 2}
    pool.exited(2, 20, "killed by SIGKILL")
    run(pool, 20)
    assert slots(pool) == {1: 1, 3: 0}
