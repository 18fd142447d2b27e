"""Targets that need nobody else."""

from __future__ import annotations

import pytest

from edge.dispatch.exchange import Exchange
from edge.dispatch.local import NotFound, Redirect, redirect_place
from edge.dispatch.target import Target
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, exchange
from tests.ends import in_loop, turn


async def ask(target: Target, *, leave: bool = False) -> list[tuple[object, ...]]:
    """Return what a client is told whose request is for `/`."""
    client = MemoryClient()
    item: Exchange = exchange(client)
    target.submit(item, HEAD)
    item.target = target
    assert client.take() == []  # never within the call
    if leave:
        item.withdraw()
    await turn()
    return client.take()


@in_loop
async def test_redirect_names_the_other_place() -> None:
    answered, finished = await ask(Redirect(b"https://other.example/", 307, None))
    assert answered == ("response", 307, b"0", [b"location", b"https://other.example/"], wire.END, b"")
    assert finished == ("finished",)


@in_loop
async def test_client_that_has_left_gets_no_redirect() -> None:
    assert await ask(Redirect(b"https://other.example/", 307, None), leave=True) == []


@in_loop
async def test_path_without_a_route_is_not_found() -> None:
    assert await ask(NotFound()) == [("refuse", 404, "no route of the site fits", ())]


@pytest.mark.parametrize(
    ("prefix", "target", "place"),
    [
        (None, b"/a/b?c=d", b"https://o.example/new"),
        (b"", b"/a/b?c=d", b"https://o.example/new/a/b?c=d"),
        (b"/old", b"/old/b", b"https://o.example/new/b"),
        (b"/old", b"/old", b"https://o.example/new/"),
        (b"/old", b"/old?c", b"https://o.example/new/?c"),
        # Never a place that another host could be read from: //evil.example.
        (b"/old", b"/old//evil.example", b"https://o.example/new/evil.example"),
        (b"/old", b"/%6fld/b", b"https://o.example/new/"),
        (b"", b"*", b"https://o.example/new"),
    ],
)
def test_rest_of_the_path_is_put_behind_the_other_place(prefix: bytes | None, target: bytes, place: bytes) -> None:
    assert redirect_place(b"https://o.example/new", prefix, target) == place
