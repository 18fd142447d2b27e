"""Listeners that are no TCP address: Unix sockets, and what a parent process hands on."""

import dataclasses
import errno
import grp
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import FdAddress, UnixAddress
from edge.net.listener import close_listeners, open_listeners, start_listening
from tests.edge.net.listening import Open, refusal


def test_unix_socket_is_for_its_owner_and_group(opener: Open, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    [listener], remarks = opener(ListenSettings(binds=(UnixAddress(str(path)),)), has_certificate=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert (listener.tls, listener.public_port, listener.address) == (True, None, f"unix:{path}")
    assert remarks == [f"unix:{path}: its owner and its group may connect (mode 0660)"]
    close_listeners([listener])
    assert not path.exists()


def test_unix_socket_takes_mode_owner_and_group(opener: Open, tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    group = grp.getgrgid(os.getgid()).gr_name
    named = ListenSettings((UnixAddress(str(path)),), unix_mode=0o606, unix_owner=str(os.getuid()), unix_group=group)
    _, remarks = opener(named)
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o606, os.getuid(), os.getgid())
    assert remarks == [f"unix:{path}: its owner and everyone else may connect (mode 0606)"]


@pytest.mark.parametrize("key", ["unix_owner", "unix_group"])
def test_unknown_account_is_refused_before_a_socket_is_made(tmp_path: Path, key: str) -> None:
    path = tmp_path / "edge.sock"
    wrong: dict[str, Any] = {key: "no-such-name"}
    settings = dataclasses.replace(ListenSettings((UnixAddress(str(path)),)), **wrong)
    with pytest.raises(ConfigError) as caught:
        open_listeners(settings, has_certificate=False, dev=False)
    assert str(caught.value) == "'no-such-name': no such user or group here; use one that exists, or its number"
    assert not path.exists()


def test_socket_that_cannot_be_given_away_is_refused_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "edge.sock"
    with pytest.raises(ConfigError, match="its owner cannot be changed; only root gives files away"):
        open_listeners(ListenSettings((UnixAddress(str(path)),), unix_owner="0"), has_certificate=False, dev=False)
    assert not path.exists()


def test_unix_socket_that_was_left_behind_is_replaced(opener: Open, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    [listener], _ = opener(ListenSettings(binds=(UnixAddress(str(path)),)))
    start_listening([listener], 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))


def test_unix_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        message = f"cannot listen on unix:{path}: another process does; stop it or use another path"
        # The backlog of 0 takes one connection; from then on a connection would block.
        assert [refusal(UnixAddress(str(path))) for _ in range(3)] == [message] * 3
    assert path.exists()


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    path.write_text("mine")
    assert refusal(UnixAddress(str(path))) == (
        f"cannot listen on unix:{path}: a file that is not a socket is there; use another path"
    )
    assert path.read_text() == "mine"


def test_unix_socket_without_its_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no" / "app.sock"
    assert refusal(UnixAddress(str(path))) == (
        f"cannot listen on unix:{path}: there is no directory '{tmp_path}/no'; make it first"
    )


def test_unix_socket_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(UnixAddress(f"{tmp_path}/file/app.sock")) == (
        f"cannot listen on unix:{tmp_path}/file/app.sock: '{tmp_path}/file' is not a directory; use another path"
    )


def test_file_of_a_unix_socket_may_be_gone_when_it_is_closed(opener: Open, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    [listener], _ = opener(ListenSettings(binds=(UnixAddress(str(path)),)))
    path.unlink()
    close_listeners([listener])
    assert listener.sock.fileno() == -1


def test_inherited_tcp_socket_is_taken_with_its_address(opener: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        fd = os.dup(given.fileno())
    os.set_inheritable(fd, True)
    [listener], remarks = opener(ListenSettings(binds=(FdAddress(fd),)), has_certificate=True)
    assert (listener.tls, listener.address, listener.public_port) == (True, f"127.0.0.1:{port}", port)
    assert not listener.sock.get_inheritable()
    assert remarks == []
    start_listening([listener], 8)
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


@pytest.mark.parametrize("abstract", [False, True])
def test_inherited_unix_socket_is_not_removed(opener: Open, tmp_path: Path, abstract: bool) -> None:
    path = f"\0edge-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(path)
        fd = os.dup(given.fileno())
    [listener], remarks = opener(ListenSettings(binds=(FdAddress(fd),)))
    assert (listener.address, listener.public_port) == ("unix:" + path.replace("\0", "@"), None)
    assert remarks == []
    close_listeners([listener])
    assert abstract or Path(path).exists()


def test_inherited_socket_of_datagrams_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as given:
        fd = os.dup(given.fileno())
    assert refusal(FdAddress(fd)) == f"cannot listen on fd://{fd}: not a stream socket; hand on one of TCP or Unix"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_inherited_socket_without_address_is_refused(family: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as given:
        fd = os.dup(given.fileno())
    assert refusal(FdAddress(fd)) == (
        f"cannot listen on fd://{fd}: a socket without an address; bind it before it is handed on"
    )


def test_number_of_no_open_file_is_refused() -> None:
    assert refusal(FdAddress(9999)) == (
        "cannot listen on fd://9999: no such file is open; have the parent process hand it on"
    )


def test_file_that_is_not_a_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        fd = file.fileno()
        assert refusal(FdAddress(fd)) == (
            f"cannot listen on fd://{fd}: not a socket; have the parent process hand on one"
        )
