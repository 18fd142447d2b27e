"""Sockets that a service manager hands over, with real sockets of this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import Address, FdAddress, TcpAddress
from edge.net.inherited import take_listeners
from edge.net.listener import Listener, close_listeners
from edge.systemd import HandedSocket

NOTHING = ListenSettings()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bound(stack: ExitStack, name: str = "", *, listens: bool = True) -> HandedSocket:
    """A socket of this process under a number that nobody else closes."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if listens:
            sock.listen()
        descriptor = os.dup(sock.fileno())
    os.set_inheritable(descriptor, True)
    stack.callback(_close, descriptor)
    return HandedSocket(descriptor, name)


def _close(descriptor: int) -> None:
    with suppress(OSError):  # a listener had it
        os.close(descriptor)


def take(
    stack: ExitStack,
    handed: list[HandedSocket],
    settings: ListenSettings = NOTHING,
    metrics: tuple[Address, ...] = (),
    *,
    tls: bool = True,
) -> list[Listener]:
    listeners = take_listeners(handed, settings, metrics, tls=tls)
    stack.callback(close_listeners, listeners)
    return listeners


def test_names_become_listeners_that_children_do_not_inherit(stack: ExitStack) -> None:
    handed = [bound(stack, "metrics"), bound(stack, "http"), bound(stack, "https")]
    listeners = take(stack, handed)
    assert [(item.tls, item.is_metrics) for item in listeners] == [(False, True), (False, False), (True, False)]
    assert [item.sock.fileno() for item in listeners] == [item.fd for item in handed]
    assert not any(os.get_inheritable(item.fd) for item in handed)
    assert all(item.public_port for item in listeners)


def test_nothing_handed_over_is_nothing_taken(stack: ExitStack) -> None:
    assert take(stack, []) == []


def test_sockets_that_options_name_are_left_to_them(stack: ExitStack) -> None:
    one, two = bound(stack), bound(stack, "metrics")
    settings = ListenSettings(binds=(FdAddress(one.fd),))
    assert take(stack, [one, two], settings, (FdAddress(two.fd),)) == []
    assert not os.get_inheritable(one.fd)


def test_metrics_alone_leave_the_other_addresses_to_the_options(stack: ExitStack) -> None:
    settings = ListenSettings(binds=(TcpAddress("127.0.0.1", 0),))
    [listener] = take(stack, [bound(stack, "metrics")], settings)
    assert listener.is_metrics


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        (ListenSettings(binds=(TcpAddress("", 443),)), "--bind"),
        (ListenSettings(http_binds=(TcpAddress("", 80),)), "--http-bind"),
        (ListenSettings(host="127.0.0.1"), "--host"),
        (ListenSettings(port=0), "--port"),
    ],
)
def test_option_that_says_otherwise_is_refused(stack: ExitStack, settings: ListenSettings, flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take(stack, [bound(stack)], settings)
    message = "a socket is handed over by the service manager (LISTEN_FDS) too; use one of them"
    assert str(caught.value) == f"{flag}: {message}"


def test_metrics_given_twice_are_refused(stack: ExitStack) -> None:
    handed = [bound(stack, "metrics"), bound(stack, "http")]
    with pytest.raises(ConfigError, match="--metrics: 2 sockets are handed over by the service manager"):
        take(stack, handed, metrics=(TcpAddress("", 9090),))


def test_number_without_a_file_is_refused(stack: ExitStack) -> None:
    gone = bound(stack)
    os.close(gone.fd)
    with pytest.raises(ConfigError, match=rf"LISTEN_FDS: fd://{gone.fd}: bad file descriptor; have the service"):
        take(stack, [gone])


def test_socket_that_does_not_listen_is_refused_and_all_are_closed(stack: ExitStack) -> None:
    good, bad = bound(stack), bound(stack, listens=False)
    with pytest.raises(ConfigError, match=r"it does not listen; use a socket unit with Accept=no"):
        take(stack, [good, bad])
    for item in (good, bad):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(item.fd)
