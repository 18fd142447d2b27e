"""Which worker gets a request: the least busy one."""

from __future__ import annotations

from edge.dispatch.choice import LeastBusy
from edge.dispatch.link import WorkerLink
from tests.edge.dispatch.ends import MemoryClient, dispatcher, exchange


def link(number: int, slot: int) -> WorkerLink:
    return WorkerLink(dispatcher(), number, lambda link: None, slot)


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
