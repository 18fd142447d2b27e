"""What a service manager says and hears: pure tables."""

from __future__ import annotations

import pytest

from edge.errors import ConfigError
from edge.systemd import (
    MAX_NAME,
    HandedSocket,
    assign_uses,
    encode_notification,
    parse_notify_address,
    parse_sockets,
    parse_store_room,
    parse_watchdog,
    split_stored,
    store_name,
    take_variables,
)


def handed(*names: str) -> tuple[HandedSocket, ...]:
    return tuple(HandedSocket(3 + index, name) for index, name in enumerate(names))


def test_variables_are_taken_and_others_left() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "LISTEN_FDS": "1", "PATH": "/bin", "NOTIFY_SOCKETS": "no"}
    assert take_variables(environ) == {"NOTIFY_SOCKET": "@x", "LISTEN_FDS": "1"}
    assert environ == {"PATH": "/bin", "NOTIFY_SOCKETS": "no"}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, ()),
        ({"LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": "7"}, ()),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, handed("", "")),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "https"}, handed("https", "")),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "https:http:more"}, handed("https", "http")),
    ],
)
def test_sockets_are_those_for_this_process(variables: dict[str, str], found: tuple[HandedSocket, ...]) -> None:
    assert parse_sockets(variables, 7) == found


@pytest.mark.parametrize("text", ["", "two", "-1", "+1", "1025", "1_0", " 1"])
def test_number_of_sockets_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sockets({"LISTEN_PID": "7", "LISTEN_FDS": text}, 7)
    assert str(caught.value) == f"LISTEN_FDS={text!r}: not a number of sockets; use 0 to 1024"


@pytest.mark.parametrize(
    ("names", "tls", "uses"),
    [
        ([], True, ()),
        (["https", "http", "metrics"], True, ("https", "http", "metrics")),
        (["metrics", "https", "https", "http"], True, ("metrics", "https", "https", "http")),
        (["metrics", "http"], False, ("metrics", "http")),
        (["edge.socket"], True, ("https",)),
        (["edge.socket", "edge.socket"], True, ("https", "http")),
        (["", "", "edge.socket"], False, ("http", "http", "http")),
    ],
)
def test_names_say_what_sockets_are_for_or_else_their_order(names: list[str], tls: bool, uses: tuple[str, ...]) -> None:
    assert assign_uses(handed(*names), tls=tls) == uses


@pytest.mark.parametrize(
    ("names", "tls", "message"),
    [
        (
            ["https", "other"],
            True,
            "LISTEN_FDNAMES: fd://4 ('other') is none of https, http, metrics; set FileDescriptorName= for each",
        ),
        (
            ["http", ""],
            True,
            "LISTEN_FDNAMES: fd://4 is none of https, http, metrics; set FileDescriptorName= for each",
        ),
        (
            ["https"],
            False,
            "LISTEN_FDNAMES: fd://3 ('https') is for TLS, which needs a certificate; add --cert or --acme",
        ),
        (
            ["", "", ""],
            True,
            "LISTEN_FDS: 3 sockets, and no name says which are for TLS; "
            "set FileDescriptorName= of each to https, http, metrics",
        ),
    ],
)
def test_sockets_that_cannot_be_told_are_refused(names: list[str], tls: bool, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assign_uses(handed(*names), tls=tls)
    assert str(caught.value) == message


def test_notify_address_is_a_path_or_abstract() -> None:
    assert parse_notify_address("/run/systemd/notify") == "/run/systemd/notify"
    assert parse_notify_address("@edge") == "\0edge"


@pytest.mark.parametrize("text", ["/", "@", "run/notify", "vsock:2:1234"])
def test_notify_address_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_notify_address(text)
    assert str(caught.value).startswith(f"NOTIFY_SOCKET={text!r}: neither an absolute path nor @NAME")


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "7"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_PID": "7"}, 0.0),
    ],
)
def test_watchdog_is_in_microseconds_and_for_one_process(variables: dict[str, str], interval: float) -> None:
    assert parse_watchdog(variables, 7) == interval


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "30s"])
def test_watchdog_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"WATCHDOG_USEC=.*: not a number of microseconds above 0"):
        parse_watchdog({"WATCHDOG_USEC": text}, 7)


def test_notification_is_a_line_a_value() -> None:
    assert encode_notification(READY=1, STATUS="two\nlines ü") == "READY=1\nSTATUS=two lines ü".encode()


def test_stored_sockets_are_told_from_those_of_units_by_their_names() -> None:
    of_unit, unnamed, stored = handed("https", "", store_name("[::]:443"))
    assert split_stored((of_unit, unnamed, stored)) == ([of_unit, unnamed], [stored])
    assert split_stored(()) == ([], [])


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("0.0.0.0,443", "edge-listener=0.0.0.0,443"),
        ("::,443,dual", "edge-listener=%3A%3A,443,dual"),
        ("fe80::1%eth0,1", "edge-listener=fe80%3A%3A1%25eth0,1"),
        ("unix:/run/a b#7", "edge-listener=unix%3A/run/a b#7"),
        ("unix:/ü\n#7", "edge-listener=unix%3A/%C3%BC%0A#7"),
    ],
)
def test_name_of_a_stored_socket_is_one_that_systemd_takes(address: str, name: str) -> None:
    assert store_name(address) == name


def test_long_names_of_stored_sockets_differ_and_are_short_enough() -> None:
    names = {store_name(f"unix:/{'x' * 300}#{inode}") for inode in (1, 2)}
    assert len(names) == 2
    assert all(len(name) <= MAX_NAME for name in names)
    assert len(store_name("y" * (MAX_NAME - len("edge-listener=")))) == MAX_NAME


@pytest.mark.parametrize(("variables", "room"), [({}, 0), ({"FDSTORE": "0"}, 0), ({"FDSTORE": "4096"}, 4096)])
def test_room_for_stored_sockets_is_what_the_unit_says(variables: dict[str, str], room: int) -> None:
    assert parse_store_room(variables) == room


@pytest.mark.parametrize("text", ["", "many", "-1", " 1", "1000000000"])
def test_room_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_store_room({"FDSTORE": text})
    assert str(caught.value) == f"FDSTORE={text!r}: not a number of sockets; set FileDescriptorStoreMax= instead"
