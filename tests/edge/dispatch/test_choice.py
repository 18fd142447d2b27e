"""Which worker gets a request: the least busy one, or the one of its client, and what moves when one goes or comes."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest

from edge.dispatch import choice
from edge.dispatch.choice import LeastBusy, SameForEach, weight
from edge.dispatch.exchange import Exchange
from edge.dispatch.link import WorkerLink
from tests.edge.dispatch.ends import MemoryClient, dispatcher, exchange

KEYS = [b"client-%d" % number for number in range(1000)]


def link(number: int, slot: int) -> WorkerLink:
    return WorkerLink(dispatcher(), number, lambda link: None, slot)


def choice_of(links: list[WorkerLink], concurrency: int = 1) -> SameForEach:
    made = SameForEach(concurrency)
    for item in links:
        made.add(item)
    return made


def request_of(key: bytes) -> Exchange:
    item = exchange(MemoryClient())
    item.affinity = key
    return item


def chosen(made: SameForEach, key: bytes) -> int:
    found = made.choose(request_of(key))
    assert found is not None
    return found.number


def table(made: SameForEach) -> dict[bytes, int]:
    return {key: chosen(made, key) for key in KEYS}


def test_least_busy_one_is_chosen_and_of_equals_the_longest_idle() -> None:
    made = LeastBusy(2)
    assert made.choose(exchange(MemoryClient())) is None
    links = [link(number, 0) for number in range(3)]
    for item in links:
        made.add(item)
    order = []
    for _ in range(6):
        found = made.choose(exchange(MemoryClient()))
        assert found is not None
        found.streams[len(found.streams)] = exchange(MemoryClient())
        order.append(found.number)
    assert order == [0, 1, 2, 0, 1, 2]
    assert made.choose(exchange(MemoryClient())) is None
    links[1].streams.clear()
    assert made.choose(exchange(MemoryClient())) is links[1]


def test_only_one_is_chosen_while_it_has_room() -> None:
    made = LeastBusy(1)
    [one, other] = links = [link(number, 0) for number in range(2)]
    for item in links:
        made.add(item)
    made.remove(other)
    assert made.choose(exchange(MemoryClient())) is one
    one.streams[1] = exchange(MemoryClient())
    assert made.choose(exchange(MemoryClient())) is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 16])
def test_keys_spread_over_the_workers(count: int) -> None:
    counted = Counter(table(choice_of([link(number, number) for number in range(count)])).values())
    share = 1 / count
    # Five standard deviations of a fair choice: the keys are always these, so that it holds once and for all.
    room = 5 * sqrt(len(KEYS) * share * (1 - share))
    assert counted.keys() == set(range(count))
    assert all(abs(found - len(KEYS) * share) <= room for found in counted.values()), counted


def test_only_the_keys_of_a_worker_that_went_move_and_they_spread() -> None:
    links = [link(number, number) for number in range(4)]
    made = choice_of(links)
    before = table(made)
    made.remove(links[2])
    after = table(made)
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == 2}
    assert {after[key] for key in moved} == {0, 1, 3}
    made.add(links[2])
    assert table(made) == before


def test_worker_more_takes_its_share_and_nothing_else_moves() -> None:
    made = choice_of([link(number, number) for number in range(3)])
    before = table(made)
    made.add(link(3, 3))
    after = table(made)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {3}
    assert len(KEYS) / 4 * 0.8 < len(moved) < len(KEYS) / 4 * 1.2


def test_worker_in_the_place_of_another_takes_over_all_its_keys() -> None:
    links = [link(number, number) for number in range(4)]
    made = choice_of(links)
    before = table(made)
    new = link(7, 1)
    made.add(new)  # while the one before is still there
    expected = {key: 7 if number == 1 else number for key, number in before.items()}
    assert table(made) == expected
    made.remove(links[1])
    assert table(made) == expected


def test_order_in_which_workers_get_ready_changes_nothing() -> None:
    links = [link(number, number) for number in range(4)]
    assert table(choice_of(links)) == table(choice_of(links[::-1]))


def test_full_worker_is_passed_over_and_chosen_again_when_it_has_room() -> None:
    links = [link(number, number) for number in range(3)]
    made = choice_of(links)
    key = KEYS[0]
    first = links[chosen(made, key)]
    first.streams[1] = request_of(key)
    second = links[chosen(made, key)]
    assert second is not first
    second.streams[1] = request_of(key)
    third = links[chosen(made, key)]
    assert {first, second, third} == set(links)
    third.streams[1] = request_of(key)
    assert made.choose(request_of(key)) is None
    assert links.index(second) == min(
        {0, 1, 2} - {first.number}, key=lambda slot: [255 - byte for byte in weight(key, slot)]
    )
    first.streams.clear()
    assert chosen(made, key) == first.number


def test_nobody_is_chosen_of_none() -> None:
    assert SameForEach(1).choose(request_of(b"key")) is None


def test_clients_that_are_remembered_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MEMORY", 10)
    made = choice_of([link(number, number) for number in range(4)])
    before = {key: chosen(made, key) for key in KEYS[:25]}
    assert len(made._orders) <= 10
    assert {key: chosen(made, key) for key in KEYS[:25]} == before


def test_weight_is_the_same_in_every_process() -> None:
    assert weight(b"key", 3).hex() == "8816cb3624cbc442"
