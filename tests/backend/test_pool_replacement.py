"""Which worker takes the place of which, and when: reload, recycling, another size, hangs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_backend.pool import (
    DRAIN_GRACE,
    DUMP_TIME,
    START_GRACE,
    Action,
    Drain,
    Dump,
    Kill,
    Settled,
    Spawn,
    WorkerState,
)
from tests.backend.test_pool import pool_of, run, spawned, started

UNWANTED = "started for settings that are no longer those"


def test_reload_starts_the_new_one_before_it_drains_the_old() -> None:
    pool = started(1)
    assert pool.reload(pool.rules) == 1
    assert pool.deadline() == 0
    assert pool.due(5) == [Spawn(1, 1)]
    assert pool.ready_numbers == [0]
    assert pool.due(5) == []
    pool.ready(1, 6)
    assert pool.due(6) == [Drain(0, "reload"), Settled(1, "")]
    assert pool.state(0) is WorkerState.DRAINING
    assert not pool.is_served(0)
    assert pool.exited(0, 7, "exit code 0") is None
    assert pool.due(8) == []
    assert pool.restarts == 0


@pytest.mark.parametrize(("size", "most"), [(1, 2), (2, 3), (4, 5), (8, 10), (9, 11)])
def test_reload_never_has_more_than_a_quarter_too_many_nor_one_too_few(size: int, most: int) -> None:
    pool = started(size)
    pool.reload(pool.rules)
    done: list[Action] = []
    while actions := pool.due(0):
        done += actions
        assert size <= sum(pool.is_served(number) for number in pool.alive_numbers) <= most
        assert len(pool.ready_numbers) >= size
        for number in spawned(actions):
            pool.ready(number, 0)
    assert len(spawned(done)) == size
    assert done[-1] == Settled(1, "")
    assert [action.number for action in done if isinstance(action, Drain)] == list(range(size))


def test_reload_is_over_though_new_workers_are_due_for_replacement_again() -> None:
    pool = started(2, max_requests=10)
    pool.reload(pool.rules)
    assert pool.due(0) == [Spawn(2, 1)]
    pool.ready(2, 0)
    assert pool.due(0) == [Drain(0, "reload"), Spawn(3, 1)]
    pool.reported(2, requests=10)
    assert pool.due(0) == []
    pool.ready(3, 0)
    assert pool.due(0) == [Drain(1, "reload"), Spawn(4, 1), Settled(1, "")]


def test_reload_whose_first_worker_fails_leaves_the_old_ones() -> None:
    pool = started(2)
    pool.reload(pool.rules)
    assert spawned(pool.due(0)) == [2]
    pool.failed(2, 1, "no database")
    assert pool.due(0) == [Settled(1, "no database")]
    assert pool.exited(2, 0, "exit code 1") is None
    assert pool.due(1000) == []
    assert pool.ready_numbers == [0, 1]
    # What dies later is replaced with the settings that work, and the next reload is another generation.
    pool.exited(0, 1001, "")
    assert pool.due(1001) == [Spawn(3, 0)]
    assert pool.reload(pool.rules) == 2


def test_reload_whose_first_worker_dies_or_takes_too_long_is_given_up() -> None:
    pool = started(1)
    pool.reload(pool.rules)
    pool.due(0)
    assert pool.exited(1, 0, "killed by SIGSEGV") is None
    assert pool.due(0) == [Settled(1, "worker 1 ended before it was ready: killed by SIGSEGV")]
    pool.reload(pool.rules)
    assert pool.due(0) == [Spawn(2, 2)]
    assert pool.due(60) == [Kill(2, "not ready within 60 s")]
    assert pool.deadline() == 0
    assert pool.due(60) == [Settled(2, "not ready within 60 s")]
    assert pool.exited(2, 61, "killed by SIGKILL") is None
    assert pool.ready_numbers == [0]


def test_reload_that_got_one_worker_ready_is_not_given_up() -> None:
    pool = started(2)
    pool.reload(pool.rules)
    pool.due(0)
    pool.ready(2, 0)
    assert pool.due(0) == [Drain(0, "reload"), Spawn(3, 1)]
    pool.failed(3, 1, "no connection left")
    assert pool.exited(3, 0, "exit code 1") == 0
    assert run(pool, 0) == [Spawn(4, 1), Drain(1, "reload"), Settled(1, "")]


def test_reload_during_a_reload_takes_its_place() -> None:
    pool = started(2)
    pool.reload(pool.rules)
    pool.due(0)
    pool.reload(pool.rules)
    assert pool.due(0) == [
        Settled(1, "another reload has taken its place"),
        Drain(2, UNWANTED),
        Spawn(3, 2),
    ]
    assert pool.exited(2, 0, "exit code 0") is None
    pool.ready(3, 0)
    done = run(pool, 0)
    assert done[-1] == Settled(2, "")
    assert pool.ready_numbers == [3, 4]


def test_unwanted_worker_that_does_not_get_ready_is_killed_soon() -> None:
    pool = started(2)
    pool.reload(pool.rules)
    pool.due(0)
    pool.reload(pool.rules)
    pool.due(5)
    assert not pool.is_served(2)
    for number in (0, 1):
        assert pool.is_any_serving
        pool.exited(number, 5, "killed by SIGKILL")
    assert not pool.is_any_serving
    assert Kill(2, UNWANTED) in pool.due(5 + START_GRACE)


def test_unwanted_worker_that_was_ready_before_we_heard_of_it_finishes_what_it_has() -> None:
    pool = started(2)
    pool.reload(pool.rules)
    pool.due(0)
    pool.reload(pool.rules)
    pool.due(5)
    pool.ready(2, 5)
    assert (pool.state(2), pool.is_served(2)) == (WorkerState.DRAINING, False)
    most = 5 + pool.rules.drain_timeout + DRAIN_GRACE
    assert Kill(2, UNWANTED) not in pool.due(most - 0.1)
    assert Kill(2, "it did not end after its drain") in pool.due(most)


def test_first_start_that_is_not_wanted_any_more_does_not_hold_up_the_next() -> None:
    pool = pool_of(1, is_patient=True)
    assert pool.due(0) == [Spawn(0, 0)]
    pool.reload(pool.rules)
    assert [Drain(0, UNWANTED), Spawn(1, 1)] == [item for item in pool.due(1) if not isinstance(item, Settled)]


def test_reload_that_fails_after_another_that_is_half_done_goes_back_to_that() -> None:
    pool = started(2)
    pool.reload(pool.rules)
    pool.due(0)
    pool.ready(2, 0)
    pool.due(0)
    pool.reload(pool.rules)
    [number] = spawned(pool.due(0))
    assert pool.generations == {0, 1, 2}
    pool.exited(number, 0, "exit code 1")
    assert pool.generation == 1
    assert pool.generations == {0, 1}
    run(pool, 0)
    for number in (0, 3):
        pool.exited(number, 0, "")
    assert pool.generations == {1}


def test_reload_brings_new_rules_which_go_when_it_is_given_up() -> None:
    pool = started(2)
    pool.resize(3)
    run(pool, 0)
    pool.reload(replace(pool.rules, max_requests=5))
    assert pool.size == 3
    assert pool.rules.max_requests == 5
    run(pool, 0)
    pool.reload(replace(pool.rules, size=1, max_requests=0))
    assert pool.size == 1
    [number] = spawned(pool.due(0))
    pool.exited(number, 0, "exit code 1")
    assert (pool.size, pool.rules.max_requests) == (3, 5)


def test_reload_that_is_given_up_leaves_the_size_that_was_wished_meanwhile() -> None:
    pool = started(2)
    pool.reload(replace(pool.rules, size=1))
    [number] = spawned(pool.due(0))
    pool.resize(3)
    pool.exited(number, 0, "exit code 1")
    assert (pool.size, pool.rules.size) == (3, 2)


def test_reload_that_fails_after_another_that_had_just_begun_goes_back_before_both() -> None:
    pool = started(2)
    pool.reload(replace(pool.rules, size=4, max_requests=5))
    pool.due(0)
    pool.reload(replace(pool.rules, max_requests=6))
    [number] = spawned(pool.due(0))
    pool.exited(number, 0, "exit code 1")
    assert (pool.generation, pool.size, pool.rules.max_requests) == (0, 2, 0)


def test_pool_that_was_to_end_is_wanted_again_by_a_reload() -> None:
    pool = started(2)
    pool.resize(0)
    assert pool.due(0) == [Drain(0, "0 workers are enough"), Drain(1, "0 workers are enough")]
    pool.reload(pool.rules)
    [number] = spawned(pool.due(0))
    pool.exited(number, 0, "exit code 1")
    assert run(pool, 0) == [Settled(1, f"worker {number} ended before it was ready: exit code 1")]
    pool.reload(pool.rules)
    assert run(pool, 0)[-1] == Settled(2, "")
    assert len(pool.ready_numbers) == 2


def test_reload_does_not_wait_for_a_crash_loop() -> None:
    pool = started(1, max_crashes=50)
    for number in range(12):
        pool.exited(number, 0, "")
        pool.due(1000)
    pool.exited(12, 1000, "")
    assert pool.due(1001) == []
    pool.reload(pool.rules)
    assert spawned(pool.due(1001)) == [13]


@pytest.mark.parametrize(
    ("rules", "report", "reason"),
    [
        ({"max_requests": 50}, {"requests": 50}, "50 requests"),
        ({"max_rss": 1000}, {"rss": 1001}, "1001 bytes of memory, at most 1000 allowed"),
    ],
)
def test_worker_that_has_had_enough_is_replaced(rules: dict[str, int], report: dict[str, int], reason: str) -> None:
    pool = started(2, **rules)
    pool.reported(0, **{name: value - 1 for name, value in report.items()})
    assert pool.due(1) == []
    pool.reported(0, **report)
    pool.reported(0, **report)
    assert pool.due(1) == [Spawn(2, 0)]
    pool.ready(2, 1)
    assert pool.due(1) == [Drain(0, reason)]
    pool.reported(0, **report)
    assert pool.due(1) == []


def test_jitter_moves_the_number_of_requests() -> None:
    pool = started(1, spread=0.5, max_requests=100, max_requests_jitter=20)
    pool.reported(0, requests=109)
    assert pool.due(0) == []
    pool.reported(0, requests=110)
    assert spawned(pool.due(0)) == [1]


def test_worker_that_has_lived_its_time_is_replaced() -> None:
    pool = started(1, at=5, max_lifetime=100)
    assert pool.deadline() == 105
    assert pool.due(104) == []
    assert pool.due(105) == [Spawn(1, 0)]
    assert pool.deadline() == 165  # only the new one's start is still to be looked at
    pool.ready(1, 106)
    assert pool.due(106) == [Drain(0, "100 s of life")]


def test_worker_that_does_not_end_after_its_drain_is_killed() -> None:
    pool = started(2)
    pool.resize(1)
    assert pool.due(0) == [Drain(0, "1 workers are enough")]
    assert pool.deadline() == 30 + DRAIN_GRACE
    assert pool.due(31) == []
    assert pool.due(32) == [Kill(0, "it did not end after its drain")]
    assert pool.deadline() is None
    assert pool.exited(0, 33, "killed by SIGKILL") is None
    assert pool.due(33) == []


def test_resize_starts_or_drains() -> None:
    pool = started(2)
    pool.resize(4)
    assert run(pool, 0) == [Spawn(2, 0), Spawn(3, 0)]
    pool.resize(1)
    assert [action.number for action in run(pool, 0) if isinstance(action, Drain)] == [0, 1, 2]
    assert pool.ready_numbers == [3]


# Hangs.


def test_worker_without_a_sign_of_life_is_dumped_replaced_and_killed() -> None:
    pool = started(1)
    pool.reported(0, silent=19.9)
    assert pool.due(0) == []
    pool.reported(0, silent=20)
    reason = "its event loop has shown no sign of life for 20 s"
    assert pool.deadline() == 0
    assert pool.due(0) == [Dump(0, reason), Spawn(1, 0)]
    assert not pool.is_served(0)
    pool.reported(0, silent=21)
    assert pool.deadline() == DUMP_TIME
    assert pool.due(DUMP_TIME) == [Kill(0, reason)]
    assert pool.due(DUMP_TIME) == []
    assert pool.exited(0, 2, "killed by SIGKILL") == 0
    assert pool.restarts == 1


def test_worker_that_hangs_in_its_drain_is_killed_before_the_drain_is_over() -> None:
    pool = started(2)
    pool.resize(1)
    pool.due(0)
    pool.reported(0, silent=20)
    assert isinstance(pool.due(0)[0], Dump)
    assert isinstance(pool.due(DUMP_TIME)[0], Kill)
    assert pool.exited(0, 2, "killed by SIGKILL") is None


def test_report_of_a_worker_that_is_not_there_or_not_ready_is_nothing() -> None:
    pool = pool_of(1, max_requests=1)
    pool.due(0)
    pool.reported(0, requests=5, silent=100)
    pool.reported(7, requests=5)
    pool.ready(0, 0)
    assert pool.due(0) == []


def test_reload_at_once_gives_old_workers_nothing_new_and_starts_all_new_ones_beside_them() -> None:
    pool = started(2)
    generation = pool.reload(pool.rules, at_once=True)
    assert [pool.is_served(number) for number in (0, 1)] == [False, False]
    assert pool.due(1) == [Spawn(2, generation)]
    assert pool.is_served(2)
    pool.ready(2, 1)
    assert [type(action) for action in pool.due(1)] == [Drain, Spawn]


def test_patient_pool_waits_for_the_next_reload_when_its_first_start_fails() -> None:
    pool = pool_of(1, is_patient=True)
    pool.due(0)
    pool.failed(0, 1, "a syntax error")
    pool.exited(0, 0, "exit code 1")
    assert pool.due(0) == [Settled(0, "a syntax error")]
    assert pool.failure is None
    assert pool.deadline() is None
    assert pool.reload(pool.rules, at_once=True) == 1
    assert spawned(pool.due(0)) == [1]


def test_patient_pool_waits_when_the_first_worker_dies_or_does_not_get_ready() -> None:
    pool = pool_of(1, is_patient=True)
    pool.due(0)
    assert pool.exited(0, 0, "killed by SIGSEGV") is None
    assert pool.due(0) == [Settled(0, "worker 0 ended before it was ready: killed by SIGSEGV")]
    pool.reload(pool.rules, at_once=True)
    pool.due(0)
    assert [type(action) for action in pool.due(60)] == [Kill]
    assert pool.due(60) == [Settled(1, "not ready within 60 s")]
    pool.exited(1, 60, "killed by SIGKILL")
    assert pool.failure is None
    assert pool.due(60) == []


def test_patient_pool_keeps_old_workers_for_what_runs_and_goes_on_with_the_next_reload() -> None:
    pool = started(1, is_patient=True)
    pool.reload(pool.rules, at_once=True)
    pool.due(1)
    pool.failed(1, 1, "a syntax error")
    pool.exited(1, 1, "exit code 1")
    assert pool.due(1) == [Settled(1, "a syntax error")]
    assert pool.ready_numbers == [0]
    assert not pool.is_served(0)
    pool.reload(pool.rules, at_once=True)
    assert [action.number for action in run(pool, 2) if isinstance(action, Drain)] == [0]


def test_patient_pool_in_which_nothing_starts_any_more_waits_too() -> None:
    pool = started(1, is_patient=True, max_crashes=1)
    pool.exited(0, 20, "exit code 1")
    assert spawned(pool.due(20)) == [1]
    assert pool.exited(1, 20, "exit code 1") is None
    assert pool.failure is None
    settled = [action for action in pool.due(20) if isinstance(action, Settled)]
    assert settled == [Settled(0, "no worker serves, and 1 in a row did not get ready")]
