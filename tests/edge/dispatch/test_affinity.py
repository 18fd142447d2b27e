"""What a pool is told of a client, and the cookie that it gets."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edge.dispatch.affinity import ByAddress, ByCookie, with_affinity
from edge.dispatch.exchange import Exchange
from edge.dispatch.sides import FileSender
from edge.dispatch.target import Overloaded
from edge_backend import wire
from tests.edge.dispatch.ends import MemoryClient, dispatcher, exchange, worker
from tests.ends import in_loop

VALUE = b"AAECAwQFBgcICQoLDA0ODw"  # of the bytes from 0 to 15
COOKIE = b"edge-affinity=" + VALUE
ATTRIBUTES = b"; Path=/; HttpOnly; SameSite=Lax"


def request(scheme: bytes = b"http") -> bytes:
    return wire.join_request([b"GET", b"/", b"1.1", scheme, b"192.0.2.1", b"1", b"localhost", b"80"], 8)


class Pool:
    """A target that takes note of what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, ...]] = []

    def submit(self, item: Exchange, request: bytes) -> None:
        self.got.append((item, request))

    def withdraw(self, item: Exchange) -> None:
        self.got.append((item,))


def by_cookie(pool: Pool) -> ByCookie:
    return ByCookie(pool, lambda size: bytes(range(size)))


def test_pool_without_affinity_has_nothing_before_it() -> None:
    pool = Pool()
    assert with_affinity(pool, "off", bytes) is pool


@pytest.mark.parametrize(("kind", "made"), [("ip", ByAddress), ("cookie", ByCookie)])
def test_withdrawing_reaches_the_pool(kind: Any, made: type) -> None:
    pool = Pool()
    target = with_affinity(pool, kind, bytes)
    assert type(target) is made
    item = exchange(MemoryClient())
    target.submit(item, request())
    item.withdraw()
    target.withdraw(item)
    assert pool.got == [(item, request()), (item,), (item,)]


def key_of(address: bytes) -> bytes:
    item = exchange(MemoryClient())
    item.client_address = address
    ByAddress(Pool()).submit(item, request())
    return item.affinity


def test_clients_are_told_apart_by_address_and_of_ipv6_by_its_first_half() -> None:
    assert key_of(b"192.0.2.1") == b"192.0.2.1"
    assert key_of(b"192.0.2.1") != key_of(b"192.0.2.2")
    assert key_of(b"2001:db8::1") == key_of(b"2001:db8::ffff:1") == key_of(b"2001:db8:0:0:ff::")
    assert key_of(b"2001:db8::1") != key_of(b"2001:db8:0:1::1")
    assert key_of(b"unix") == b"unix"


def test_client_with_a_cookie_is_known_by_it_and_gets_none() -> None:
    client, pool = MemoryClient(), Pool()
    item = exchange(client, lines=[b"cookie\n" + COOKIE])
    by_cookie(pool).submit(item, request())
    assert item.affinity == VALUE
    assert pool.got == [(item, request())]
    item.receive_response(wire.END, b"200\n0", b"")
    assert client.take()[0] == ("response", 200, b"0", [], wire.END, b"")


@pytest.mark.parametrize("sent", [[], [b"cookie\nedge-affinity=mine"]], ids=["none", "not ours"])
@pytest.mark.parametrize(
    ("scheme", "secure"),
    [(b"http", b""), (b"https", b"; Secure"), (b'https {"tls_version":772}', b"; Secure")],
    ids=["http", "https", "https with a certificate"],
)
def test_client_without_a_cookie_gets_one_with_its_answer(sent: list[bytes], scheme: bytes, secure: bytes) -> None:
    client, pool = MemoryClient(), Pool()
    item = exchange(client, lines=sent)
    by_cookie(pool).submit(item, request(scheme))
    assert item.affinity == VALUE
    item.receive_response(wire.END, b"200\n3\na\nb", b"con")
    fields = [b"a", b"b", b"set-cookie", COOKIE + ATTRIBUTES + secure]
    assert client.take() == [("response", 200, b"3", fields, wire.END, b"con"), ("finished",)]


def test_websocket_gets_its_cookie_with_the_handshake() -> None:
    client = MemoryClient()
    item = exchange(client, upgrade=b"key", complete=False)
    by_cookie(Pool()).submit(item, request())
    item.receive_response(0, b"101\n\na\nb", b"")
    assert client.take()[0] == ("upgrade", [b"a", b"b", b"set-cookie", COOKIE + ATTRIBUTES])


def test_refusal_sets_no_cookie() -> None:
    client = MemoryClient()
    item = exchange(client)
    by_cookie(Pool()).submit(item, request())
    item.refuse(503, "no worker", ())
    assert client.take() == [("refuse", 503, "no worker", ())]


def test_file_in_the_place_of_an_answer_is_sent_by_who_sends_files() -> None:
    client = MemoryClient()
    client.files = cast(FileSender, object())
    item = exchange(client)
    by_cookie(Pool()).submit(item, request())
    assert item._client.files is client.files


@in_loop
async def test_client_is_with_one_worker_on_every_edge_and_with_the_next_when_that_one_dies() -> None:
    edges = [dispatcher(affinity=True) for _ in range(2)]
    ends = [[worker(edge, number, slot=number) for number in range(4)] for edge in edges]

    def ask(edge: int, value: bytes = VALUE) -> Exchange:
        item = exchange(MemoryClient(), lines=[b"cookie\nedge-affinity=" + value])
        with_affinity(edges[edge], "cookie", bytes).submit(item, request())
        return item

    items = [ask(number % 2) for number in range(6)]
    [first] = {item.worker for item in items}
    for each in ends:
        each[first].die()
    [second] = {item.worker for item in items}  # who may get them again: they are GETs
    assert second != first
    assert {ask(0).worker, ask(1).worker} == {second}
    assert len({ask(0, b"%022d" % number).worker for number in range(50)}) == 3
    ends[0].append(worker(edges[0], 4, slot=first))
    assert ask(0).worker == 4
    assert [ask(0, b"%022d" % number).worker == 4 for number in range(50)].count(True) > 1


@in_loop
async def test_what_waits_goes_to_whoever_has_room_in_its_order() -> None:
    edge = dispatcher(concurrency=1, queue=2, affinity=True)
    target = with_affinity(edge, "cookie", bytes)
    *items, late = [exchange(MemoryClient(), lines=[b"cookie\n" + COOKIE]) for _ in range(5)]
    for item in items:
        target.submit(item, request())
        if item is items[0]:
            assert len(edge.queue) == 1
            ends = [worker(edge, number, slot=number) for number in range(2)]
    assert {items[0].worker, items[1].worker} == {0, 1}
    assert [item.worker for item in items[2:]] == [-1, -1]
    with pytest.raises(Overloaded):
        target.submit(late, request())
    ends[items[1].worker].die()
    # The one whose worker died stands before the others, and there is nobody for it yet.
    assert [entry[0] for entry in edge.queue] == [items[1], items[2], items[3]]
    items[2].withdraw()
    worker(edge, 2, slot=5)
    assert items[1].worker == 2
    assert [entry[0] for entry in edge.queue] == [items[3]]
