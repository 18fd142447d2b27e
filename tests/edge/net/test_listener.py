import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import TcpAddress, UnixAddress
from edge.net.listener import Listener, open_listeners, start_listening
from tests.edge.net.listening import Open, refusal

FIXED = (80, 443, 8000, 8080, 8443)
ANY = TcpAddress("127.0.0.1", 0)

Pretend = Callable[..., list[tuple[str, int]]]


def ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not ipv6_loopback(), reason="the address ::1 is missing on this machine")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Pretend to be another machine: with these ports forbidden, with or without IPv6.

    The default ports become free ones; what was asked for is noted in the returned list.
    """

    def install(
        *, forbidden: tuple[int, ...] = (), ipv6: bool = True, taken: tuple[str, ...] = ()
    ) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []
        left = list(taken)

        class Socket(socket.socket):
            def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
                if family == socket.AF_INET6 and not ipv6:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
                super().__init__(family, *rest, **named)

            def bind(self, address: Any) -> None:
                host, port = address[:2]
                asked.append((host, port))
                if port in forbidden:
                    raise PermissionError(errno.EACCES, "Permission denied")
                if host in left:
                    left.remove(host)
                    raise OSError(errno.EADDRINUSE, "Address already in use")
                super().bind((host, 0 if port in FIXED else port, *address[2:]))

        monkeypatch.setattr(socket, "socket", Socket)
        return asked

    return install


def port_of(listener: Listener) -> int:
    port: int = listener.sock.getsockname()[1]
    return port


def ports_of(asked: list[tuple[str, int]]) -> list[int]:
    return [port for _, port in asked]


def test_without_certificate_plain_http_is_on_the_loopback(opener: Open, pretend: Pretend) -> None:
    asked = pretend()
    [listener], remarks = opener(ListenSettings())
    port = port_of(listener)
    assert asked == [("127.0.0.1", 8000)]
    assert (listener.tls, listener.address, listener.public_port) == (False, f"127.0.0.1:{port}", port)
    assert remarks == [f"plain HTTP on http://127.0.0.1:{port}; for HTTPS add --dev (on localhost) or --cert FILE"]


def test_with_certificate_every_interface_is_on_443_and_80(opener: Open, pretend: Pretend) -> None:
    asked = pretend()
    listeners, remarks = opener(ListenSettings(), has_certificate=True)
    assert asked == [("::", 443), ("::", 80)]
    assert [listener.tls for listener in listeners] == [True, False]
    assert [listener.address for listener in listeners] == [f"[::]:{port_of(listener)}" for listener in listeners]
    assert remarks == []


def test_with_certificate_but_without_ipv6_every_ipv4_interface_is_taken(opener: Open, pretend: Pretend) -> None:
    asked = pretend(ipv6=False)
    listeners, _ = opener(ListenSettings(), has_certificate=True)
    assert asked == [("0.0.0.0", 443), ("0.0.0.0", 80)]
    assert [listener.sock.family for listener in listeners] == [socket.AF_INET] * 2


@pytest.mark.parametrize(
    ("forbidden", "asked", "remark"),
    [
        ((443, 80), [443, 8443, 80, 8080], "no permission for port 443 and 80: listening on 8443 and 8080"),
        ((443,), [443, 8443, 80], "no permission for port 443: listening on 8443"),
        ((80,), [443, 80, 8080], "no permission for port 80: listening on 8080"),
    ],
)
def test_default_port_without_permission_is_exchanged_and_said_in_one_line(
    opener: Open, pretend: Pretend, forbidden: tuple[int, ...], asked: list[int], remark: str
) -> None:
    got = pretend(forbidden=forbidden)
    listeners, remarks = opener(ListenSettings(), has_certificate=True)
    assert ports_of(got) == asked
    assert [listener.tls for listener in listeners] == [True, False]
    assert remarks == [f"{remark}; grant CAP_NET_BIND_SERVICE to change that"]


def test_second_refusal_of_permission_is_final(pretend: Pretend) -> None:
    pretend(forbidden=(443, 8443))
    with pytest.raises(ConfigError) as caught:
        open_listeners(ListenSettings(), has_certificate=True, dev=False)
    assert str(caught.value) == (
        "cannot listen on [::]:8443: permission denied; grant CAP_NET_BIND_SERVICE or choose a port above 1023"
    )


def test_chosen_port_without_permission_is_not_exchanged(pretend: Pretend) -> None:
    pretend(forbidden=(443,))
    assert refusal(TcpAddress("127.0.0.1", 443)) == (
        "cannot listen on 127.0.0.1:443: permission denied; grant CAP_NET_BIND_SERVICE or choose a port above 1023"
    )


def test_chosen_host_keeps_the_default_ports(opener: Open, pretend: Pretend) -> None:
    asked = pretend()
    opener(ListenSettings(host="127.0.0.1"), has_certificate=True)
    assert asked == [("127.0.0.1", 443), ("127.0.0.1", 80)]


def test_chosen_port_opens_no_plain_listener(opener: Open) -> None:
    [listener], remarks = opener(ListenSettings(host="127.0.0.1", port=0), has_certificate=True)
    assert listener.tls
    assert remarks == []


def test_http_bind_takes_the_place_of_port_80(opener: Open, pretend: Pretend) -> None:
    asked = pretend()
    listeners, _ = opener(ListenSettings(http_binds=(ANY,)), has_certificate=True)
    assert asked == [("::", 443), ("127.0.0.1", 0)]
    assert [listener.tls for listener in listeners] == [True, False]


def test_http_bind_alone_is_the_only_listener(opener: Open) -> None:
    [listener], remarks = opener(ListenSettings(http_binds=(ANY,)))
    assert not listener.tls
    assert remarks == []


def test_http_bind_is_beside_a_chosen_port(opener: Open) -> None:
    listeners, remarks = opener(ListenSettings(http_binds=(ANY,), port=0))
    assert [listener.tls for listener in listeners] == [False, False]
    assert remarks == []


def test_bind_is_exact_and_takes_tls_with_a_certificate(opener: Open) -> None:
    settings = ListenSettings(binds=(ANY, ANY), http_binds=(ANY,))
    assert [listener.tls for listener in opener(settings, has_certificate=True)[0]] == [True, True, False]
    assert [listener.tls for listener in opener(settings)[0]] == [False, False, False]


def test_any_free_port_is_read_back(opener: Open) -> None:
    [listener], _ = opener(ListenSettings(port=0))
    assert listener.public_port == port_of(listener) != 0
    assert listener.address == f"127.0.0.1:{listener.public_port}"


@needs_ipv6
def test_dev_is_on_both_loopback_addresses(opener: Open, pretend: Pretend) -> None:
    asked = pretend()
    listeners, remarks = opener(ListenSettings(), dev=True)
    assert asked[0] == ("127.0.0.1", 8443)
    assert asked[1][0] == "::1"
    assert [listener.tls for listener in listeners] == [True, True]
    assert remarks == []


@needs_ipv6
def test_dev_has_one_free_port_for_both_addresses(opener: Open) -> None:
    listeners, _ = opener(ListenSettings(port=0), dev=True)
    port = port_of(listeners[0])
    assert [listener.address for listener in listeners] == [f"127.0.0.1:{port}", f"[::1]:{port}"]


@needs_ipv6
def test_free_port_that_is_taken_on_the_second_address_is_chosen_anew(opener: Open, pretend: Pretend) -> None:
    asked = pretend(taken=("::1", "::1"))
    listeners, _ = opener(ListenSettings(port=0), dev=True)
    assert [host for host, _ in asked] == ["127.0.0.1", "::1"] * 3
    assert port_of(listeners[0]) == port_of(listeners[1])


def test_search_for_a_common_free_port_ends(pretend: Pretend) -> None:
    asked = pretend(taken=("127.0.0.1",) * 20)
    assert refusal(ANY) == (
        "cannot listen on 127.0.0.1:0: the port is in use; stop what listens there or choose another"
    )
    assert len(asked) == 20


def test_dev_without_ipv6_is_on_ipv4(opener: Open, pretend: Pretend) -> None:
    pretend(ipv6=False)
    [listener], _ = opener(ListenSettings(port=0), dev=True)
    assert listener.sock.family == socket.AF_INET


def test_ipv6_address_without_ipv6_is_refused(pretend: Pretend) -> None:
    pretend(ipv6=False)
    assert refusal(TcpAddress("::1", 0)) == "cannot listen on [::1]:0: this machine has no IPv6; use an IPv4 address"


@needs_ipv6
def test_empty_host_takes_ipv4_and_ipv6_in_one_socket(opener: Open) -> None:
    [listener], _ = opener(ListenSettings(binds=(TcpAddress("", 0),)))
    start_listening([listener], 8)
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port_of(listener)), timeout=5):
            pass


@needs_ipv6
def test_ipv6_any_address_takes_ipv4_as_well(opener: Open) -> None:
    [first], _ = opener(ListenSettings(binds=(TcpAddress("::", 0),)))
    assert first.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    start_listening([first], 1)
    with socket.create_connection(("127.0.0.1", port_of(first)), timeout=5):
        pass


@needs_ipv6
@pytest.mark.parametrize("ipv4_first", [True, False])
def test_ipv6_any_address_leaves_ipv4_to_an_address_of_its_own(opener: Open, ipv4_first: bool) -> None:
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))
        port = free.getsockname()[1]
    binds = [TcpAddress("0.0.0.0", port), TcpAddress("::", port)]
    listeners, _ = opener(ListenSettings(binds=tuple(binds if ipv4_first else reversed(binds))))
    start_listening(listeners, 1)
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port), timeout=5):
            pass


def test_name_is_bound_to_its_addresses_on_one_port(opener: Open) -> None:
    listeners, _ = opener(ListenSettings(binds=(TcpAddress("localhost", 0),)))
    assert {listener.sock.getsockname()[0] for listener in listeners} <= {"127.0.0.1", "::1"}
    assert len({port_of(listener) for listener in listeners}) == 1


def test_socket_is_ready_for_an_event_loop_and_for_a_restart(opener: Open) -> None:
    [listener], _ = opener(ListenSettings(port=0))
    assert not listener.sock.getblocking()
    assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    start_listening([listener], 8)
    assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_port_in_use_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "first.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = TcpAddress("127.0.0.1", other.getsockname()[1])
        assert refusal(UnixAddress(str(path)), address) == (
            f"cannot listen on {address}: the port is in use; stop what listens there or choose another"
        )
    assert not path.exists()


def test_port_that_is_taken_after_it_was_bound_is_refused(opener: Open) -> None:
    [first], _ = opener(ListenSettings(port=0))
    [second], _ = opener(ListenSettings(port=port_of(first)))
    start_listening([first], 8)
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port_of(first)}: the port is in use"):
        start_listening([second], 8)


def test_address_of_another_machine_is_refused() -> None:
    assert refusal(TcpAddress("192.0.2.1", 0)) == (
        "cannot listen on 192.0.2.1:0: this machine does not have that address; use one of its own"
    )


def test_name_without_address_is_refused() -> None:
    message = "no address is known for that name; use an IP address"
    assert refusal(TcpAddress("a..b", 0)) == f"cannot listen on a..b: {message}"


def test_error_without_words_of_ours_is_told_in_the_systems() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as connected,
        pytest.raises(ConfigError) as caught,
    ):
        start_listening([Listener(connected, False, "127.0.0.1:1", 1)], 8)
    reason = os.strerror(errno.EINVAL).lower()
    assert str(caught.value) == f"cannot listen on 127.0.0.1:1: {reason}; use another address"
