"""Listeners of an earlier run, with real sockets of this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import Address, TcpAddress, UnixAddress
from edge.net.listener import Listener, close_listeners, open_listeners, start_listening
from edge.net.stored import StoredSockets, unix_name
from edge.systemd import HandedSocket
from tests.edge.net.test_listener import needs_ipv6

IPV6 = [pytest.param(host, marks=needs_ipv6) for host in ("::1", "::")]


class Shelf:
    """Plays the service manager: it keeps sockets open under their names, and gives them back."""

    def __init__(self) -> None:
        self.kept: dict[str, socket.socket] = {}
        self.forgotten: list[str] = []

    def keep(self, listeners: list[Listener]) -> None:
        """Keep what a run has opened, which ends."""
        start_listening(listeners, 8)
        self.kept |= {listener.store_name: listener.sock.dup() for listener in listeners}
        close_listeners(listeners, self.kept)

    def give_back(self, stack: ExitStack) -> StoredSockets:
        """The next run starts."""
        handed = [HandedSocket(os.dup(sock.fileno()), name) for name, sock in self.kept.items()]
        stored = StoredSockets(handed, self.forget)
        stack.callback(stored.close)
        return stored

    def forget(self, name: str) -> None:
        self.kept.pop(name).close()
        self.forgotten.append(name)

    def close(self) -> None:
        for sock in self.kept.values():
            sock.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.close()


def opened(stack: ExitStack, *binds: Address, stored: StoredSockets | None = None) -> list[Listener]:
    listeners, _ = open_listeners(ListenSettings(binds=binds), has_certificate=False, dev=False, stored=stored)
    stack.callback(close_listeners, listeners)
    return listeners


def inodes(socks: list[socket.socket]) -> list[int]:
    return [os.fstat(sock.fileno()).st_ino for sock in socks]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "", *IPV6])
def test_same_address_gets_the_same_socket_again(host: str, stack: ExitStack, shelf: Shelf) -> None:
    first = opened(stack, TcpAddress(host, 0))
    before, [port] = inodes([item.sock for item in first]), {item.public_port or 0 for item in first}
    shelf.keep(first)
    stored = shelf.give_back(stack)
    again = opened(stack, TcpAddress(host, port), stored=stored)
    assert inodes([item.sock for item in again]) == before
    assert not any(item.sock.get_inheritable() or item.sock.getblocking() for item in again)
    assert stored.taken == {item.store_name for item in again} == set(shelf.kept)
    stored.give_up_rest()
    assert shelf.forgotten == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        pytest.param("0.0.0.0", "::", marks=needs_ipv6),
        pytest.param("::", "0.0.0.0", marks=needs_ipv6),
    ],
)
def test_port_that_is_wanted_in_another_way_is_given_up_first(
    before: str, after: str, stack: ExitStack, shelf: Shelf
) -> None:
    first = opened(stack, TcpAddress(before, 0), TcpAddress("127.0.0.1", 0))
    names = [item.store_name for item in first]
    shelf.keep(first)
    stored = shelf.give_back(stack)
    [again] = opened(stack, TcpAddress(after, first[0].public_port or 0), stored=stored)
    assert shelf.forgotten == names[:1]
    assert (again.public_port, stored.taken) == (first[0].public_port, set())
    stored.give_up_rest()
    assert shelf.forgotten == names


@needs_ipv6
def test_socket_that_takes_ipv4_too_is_not_taken_for_one_that_does_not(stack: ExitStack, shelf: Shelf) -> None:
    first = opened(stack, TcpAddress("::", 0))
    port = first[0].public_port or 0
    shelf.keep(first)
    again = opened(stack, TcpAddress("::", port), TcpAddress("0.0.0.0", port), stored=shelf.give_back(stack))
    assert len(again) == 2
    assert shelf.forgotten == [first[0].store_name]


def test_port_of_another_process_is_refused_as_ever(stack: ExitStack, shelf: Shelf) -> None:
    shelf.keep(opened(stack, TcpAddress("127.0.0.1", 0)))
    other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    address = TcpAddress("127.0.0.1", other.getsockname()[1])
    with pytest.raises(ConfigError, match="the port is in use"):
        opened(stack, address, stored=shelf.give_back(stack))
    assert shelf.forgotten == []


def test_unix_socket_is_taken_again_with_its_file(stack: ExitStack, shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    first = opened(stack, UnixAddress(str(path)))
    before = inodes([first[0].sock])
    shelf.keep(first)
    stored = shelf.give_back(stack)
    again = opened(stack, UnixAddress(str(path)), stored=stored)
    assert inodes([again[0].sock]) == before
    close_listeners(again)
    assert not path.exists()  # it was not said that it is stored


def test_unix_socket_whose_file_is_gone_or_another_one_is_opened_anew(
    stack: ExitStack, shelf: Shelf, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    assert unix_name(str(path)) == ""
    first = opened(stack, UnixAddress(str(path)))
    before = inodes([first[0].sock])
    shelf.keep(first)
    held = os.open(path, os.O_PATH)  # or its number might be given away again at once
    stack.callback(os.close, held)
    path.unlink()
    stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
    stored = shelf.give_back(stack)
    [again] = opened(stack, UnixAddress(str(path)), stored=stored)
    assert inodes([again.sock]) != before
    assert not stored.release(0)
    stored.give_up_rest()
    assert shelf.forgotten == [first[0].store_name]


def test_what_is_no_listener_is_given_up_at_once(stack: ExitStack) -> None:
    forgotten: list[str] = []
    unbound = socket.socket()
    stored = StoredSockets([HandedSocket(unbound.detach(), "a"), HandedSocket(1 << 20, "b")], forgotten.append)
    assert forgotten == ["a", "b"]
    assert stored.take("a") is None


def test_two_of_one_name_are_one(stack: ExitStack) -> None:
    socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
    stored = StoredSockets([HandedSocket(os.dup(sock.fileno()), "a") for sock in socks], lambda name: None)
    taken = stored.take("a")
    assert taken is not None
    stack.enter_context(taken)
    assert taken.getsockname() == socks[0].getsockname()
    assert stored.take("a") is None
