"""The gate in the router's place: who waits, for how long, who is turned away, and where it goes when it opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge.dispatch.exchange import Exchange
from edge.dispatch.gate import Gate
from edge.dispatch.intake import Holding, Intake
from edge.dispatch.router import Router
from edge.dispatch.spool import Spool
from edge.dispatch.target import Overloaded
from edge.gate import GateState, parse_allowed
from edge.policy.chain import Answered
from tests.edge.dispatch.ends import HEAD, MemoryClient, exchange
from tests.edge.dispatch.test_local import Local

PAUSED, OPEN = GateState("paused", 30.0).order, GateState().order
CLOSED = GateState("maintenance", allow=("192.0.2.0/24", "unix"), retry_after=90).order


class Full(Local):
    """A target that takes nothing."""

    def submit(self, item: Exchange, request: bytes) -> None:
        raise Overloaded("full")


class Scene:
    def __init__(self, tmp_path: object, target: Local | None = None, *, holding: Holding | None = None) -> None:
        self.target = target or Local()
        self.router = Router(self.target)
        self.intake = Intake(Spool(str(tmp_path), 1 << 20), {self.target: holding} if holding is not None else {})
        self.gate = Gate(self.router, self.intake, 2, parse_allowed)

    def send(self, *, address: bytes = b"203.0.113.7", **of_head: Any) -> tuple[MemoryClient, Exchange]:
        client = MemoryClient()
        item = exchange(client, b"POST" if of_head else b"GET", **of_head)
        item.client_address = address
        item.target = self.gate
        self.gate.submit(item, HEAD)
        return client, item


def test_open_gate_is_out_of_the_way(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    assert scene.gate.obey(PAUSED) is scene.gate
    assert scene.gate.obey(OPEN) is scene.router


def test_requests_wait_while_it_is_paused_and_go_in_their_order(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    items = [scene.send()[1] for _ in range(2)]
    assert scene.gate.find(items[0].head) is scene.gate
    assert (len(scene.gate), [item.link for item in items]) == (2, [None, None])
    with pytest.raises(Overloaded, match="paused: 2 requests wait, at most 2 allowed"):
        scene.send()
    scene.gate.obey(OPEN)
    assert len(scene.gate) == 0
    assert [item.target for item in items] == [scene.target] * 2
    assert all(item.link is scene.target and item.ready_at >= item.started_at for item in items)


def test_client_that_leaves_waits_no_more(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    (_, first), (_, second) = scene.send(), scene.send()
    for _ in range(2):
        second.withdraw()
    assert len(scene.gate) == 1
    scene.gate.obey(OPEN)
    assert (first.link, second.link) == (scene.target, None)


def test_who_waits_for_too_long_is_refused(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    client, item = scene.send()
    scene.gate.sweep(item.started_at + 29)
    assert client.take() == []
    scene.gate.sweep(item.started_at + 31)
    assert client.take() == [("refuse", 503, "paused for longer than 30 s", ((b"retry-after", b"1"),))]
    assert len(scene.gate) == 0


def test_content_that_comes_meanwhile_is_not_lost(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    client, item = scene.send(complete=False, body=b"one ")
    assert item.feed(b"two ", False) is False  # the client stops reading
    scene.gate.obey(OPEN)
    assert (item.head.body, item.head.complete) == (b"one two ", False)
    assert ("want",) in client.take()
    item.feed(b"three", True)
    assert scene.target.calls == [("content", b"three", True)]


def test_content_that_was_whole_meanwhile_goes_in_one_piece(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    _, item = scene.send(complete=False, body=b"one ")
    item.feed(b"two", True)
    scene.gate.obey(OPEN)
    assert (item.head.body, item.head.complete, item.link) == (b"one two", True, scene.target)


def test_bytes_of_a_websocket_wait_until_it_is_accepted(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    _, item = scene.send(complete=False, upgrade=b"key")
    item.feed(b"early", False)
    scene.gate.obey(OPEN)
    item.pour()
    assert (item.link, item.head.body, scene.target.calls) == (scene.target, b"", [])
    item.receive_credit(100)
    assert scene.target.calls == [("content", b"early", False)]


def test_content_that_its_target_wants_whole_is_gathered_after_the_gate(tmp_path: object) -> None:
    scene = Scene(tmp_path, holding=Holding(all=True))
    scene.gate.obey(PAUSED)
    client, item = scene.send(complete=False, body=b"one ", length=7)
    scene.gate.obey(OPEN)
    assert item.link is None
    assert ("want",) in client.take()
    item.feed(b"two", True)
    assert item.link is scene.target


def test_content_that_never_fits_is_refused_when_it_opens(tmp_path: object) -> None:
    scene = Scene(tmp_path, holding=Holding(all=True))
    scene.gate.obey(PAUSED)
    client, _ = scene.send(complete=False, length=1 << 30)
    scene.gate.obey(OPEN)
    [(what, status, *_)] = client.take()
    assert (what, status) == ("refuse", 413)


def test_target_that_is_full_refuses_what_has_waited(tmp_path: object) -> None:
    scene = Scene(tmp_path, Full())
    scene.gate.obey(PAUSED)
    client, _ = scene.send()
    scene.gate.obey(OPEN)
    assert client.take() == [("refuse", 503, "full", ((b"retry-after", b"1"),))]


def test_maintenance_turns_clients_away_but_for_those_allowed(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    assert scene.gate.obey(CLOSED) is scene.gate
    for address in (b"192.0.2.9", b"unix"):
        assert scene.send(address=address)[1].link is scene.target
    with pytest.raises(Answered) as caught:
        scene.send()
    assert (caught.value.status, caught.value.fields) == (503, ((b"retry-after", b"90"),))
    assert str(caught.value) == "maintenance"


def test_who_waits_when_maintenance_begins_is_turned_away_too(tmp_path: object) -> None:
    scene = Scene(tmp_path)
    scene.gate.obey(PAUSED)
    (stranger, _), (_, friend) = scene.send(), scene.send(address=b"192.0.2.9")
    scene.gate.obey(CLOSED)
    assert stranger.take() == [("refuse", 503, "maintenance", ((b"retry-after", b"90"),))]
    assert friend.link is scene.target
    assert len(scene.gate) == 0


@pytest.mark.parametrize(
    ("allow", "inside", "outside"),
    [([], [], [b"192.0.2.1", b"unix"]), (["192.0.2.1", "2001:db8::/32"], [b"192.0.2.1", b"2001:db8::1"], [b"::1"])],
)
def test_allowed_are_those_in_the_networks(allow: list[str], inside: list[bytes], outside: list[bytes]) -> None:
    is_allowed: Callable[[bytes], bool] = parse_allowed(allow)
    assert [is_allowed(address) for address in [*inside, *outside]] == [True] * len(inside) + [False] * len(outside)
