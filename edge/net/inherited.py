"""Listeners on the sockets that a service manager hands over (sd_listen_fds(3)), in place of those that are opened."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Sequence

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import Address, FdAddress
from edge.net.listener import Listener, close_listeners, open_fd
from edge.systemd import LISTEN_FDS, HandedSocket, assign_uses


def take_listeners(
    handed: Sequence[HandedSocket], settings: ListenSettings, metrics: tuple[Address, ...], *, tls: bool
) -> list[Listener]:
    """Return a listener for each socket that was handed over; `edge.systemd.assign_uses` says for what.

    None if the settings name them all themselves (`--bind fd://3`): these are opened as other addresses are.

    Raises ConfigError: an option says otherwise, it cannot be told what a socket is for, or it takes no connections.
    """
    for item in handed:
        with contextlib.suppress(OSError):  # what is wrong with it is said when it is opened
            os.set_inheritable(item.fd, False)
    named = {
        address.fd for address in (*settings.binds, *settings.http_binds, *metrics) if isinstance(address, FdAddress)
    }
    if not handed or {item.fd for item in handed} <= named:
        return []
    uses = assign_uses(handed, tls=tls)
    is_for_clients = any(use != "metrics" for use in uses)
    _refuse_contradictions(len(handed), _own(settings) if is_for_clients else [])
    _refuse_contradictions(len(handed), ["--metrics"] if metrics and "metrics" in uses else [])
    opened: list[Listener] = []
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: close_listeners(opened))
        for item, use in zip(handed, uses, strict=True):
            listener = _open(item, tls=use == "https")
            opened.append(dataclasses.replace(listener, is_metrics=use == "metrics"))
        undo.pop_all()
    return opened


def _own(settings: ListenSettings) -> list[str]:
    given = {
        "--bind": settings.binds,
        "--http-bind": settings.http_binds,
        "--host": settings.host is not None,
        "--port": settings.port is not None,
    }
    return [flag for flag, value in given.items() if value]


def _refuse_contradictions(count: int, flags: list[str]) -> None:
    if flags:
        what = f"{count} sockets are" if count > 1 else "a socket is"
        raise ConfigError(f"{flags[0]}: {what} handed over by the service manager ({LISTEN_FDS}) too; use one of them")


def _open(item: HandedSocket, *, tls: bool) -> Listener:
    try:
        listener = open_fd(FdAddress(item.fd), tls)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigError(f"{LISTEN_FDS}: {item}: {reason}; have the service manager hand on a socket") from None
    if not listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.sock.close()
        raise ConfigError(f"{LISTEN_FDS}: {item}: it does not listen; use a socket unit with Accept=no")
    return listener
