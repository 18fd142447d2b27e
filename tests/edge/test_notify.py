"""What the service manager is told, over a real socket that plays it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge import notify
from edge.notify import ServiceManager

ALWAYS = {"SYSTEMD_EXEC_PID": str(os.getpid())}


class Heard:
    """A socket where notifications arrive."""

    def __init__(self, address: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(address.replace("@", "\0", 1))
        self._sock.setblocking(False)
        self.variables = {"NOTIFY_SOCKET": address, **ALWAYS}

    def take(self) -> list[dict[str, str]]:
        """Return what has come, each as a dict."""
        found: list[dict[str, str]] = []
        while True:
            try:
                data, files, _, _ = socket.recv_fds(self._sock, 4096, 4)
            except BlockingIOError:
                return found
            said = dict(line.split("=", 1) for line in data.decode().split("\n"))
            found.append(said | ({"ports": _ports(files)} if "FDSTORE" in said else {}))
            for descriptor in files:
                os.close(descriptor)

    def wait(self) -> tuple[bytes, list[int]]:
        """Return the next that comes, and the descriptors that came with it."""
        self._sock.settimeout(60)
        said, files, _, _ = socket.recv_fds(self._sock, 4096, 4)
        return said, files

    def close(self) -> None:
        self._sock.close()


def _ports(files: list[int]) -> str:
    """The ports of sockets that were sent."""
    socks = [socket.socket(fileno=os.dup(descriptor)) for descriptor in files]
    try:
        return " ".join(str(sock.getsockname()[1]) for sock in socks)
    finally:
        for sock in socks:
            sock.close()


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Heard]:
    address = f"@edge-test-{os.getpid()}-{id(request)}" if request.param == "abstract" else str(tmp_path / "n")
    heard = Heard(address)
    yield heard
    heard.close()


def test_nobody_asks_and_nothing_is_sent() -> None:
    manager = ServiceManager({"WATCHDOG_USEC": "1000000", **ALWAYS})
    manager.tell("ready", is_ready=True)
    manager.reloading()
    manager.reloaded("ready")
    manager.succeeded(1)
    manager.stopping("ending")
    assert not manager.is_main
    assert manager.deadline == float("inf")


def test_service_manager_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    manager.tell("ready", is_ready=True)
    manager.forget("a")
    manager.stopping("ending")


def test_ready_is_told_once_and_then_what_changes(heard: Heard) -> None:
    manager = ServiceManager(heard.variables)
    for _ in range(2):
        manager.tell("0 of 2 workers ready", is_ready=False)
    for _ in range(2):
        manager.tell("1 of 2 workers ready", is_ready=True)
    manager.tell("0 of 2 workers ready", is_ready=False)
    manager.stopping("ending")
    assert heard.take() == [
        {"STATUS": "0 of 2 workers ready"},
        {"READY": "1", "STATUS": "1 of 2 workers ready"},
        {"STATUS": "0 of 2 workers ready"},
        {"STOPPING": "1", "STATUS": "ending"},
    ]


def test_reloads_that_overlap_are_one(heard: Heard) -> None:
    manager = ServiceManager(heard.variables)
    manager.tell("a", is_ready=True)
    heard.take()
    before = time.monotonic_ns() // 1000
    manager.reloading()
    manager.reloading()
    manager.tell("b", is_ready=True)
    manager.reloaded("c")
    manager.reloaded("d")
    first, second = heard.take()
    assert before <= int(first.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert first == {"RELOADING": "1", "STATUS": "reloading"}
    assert second == {"READY": "1", "STATUS": "d"}


def test_reload_before_it_serves_is_not_told(heard: Heard) -> None:
    manager = ServiceManager(heard.variables)
    manager.reloading()
    manager.reloaded("a")
    assert heard.take() == []
    manager.tell("b", is_ready=True)
    assert heard.take() == [{"READY": "1", "STATUS": "b"}]


def test_watchdog_gets_its_sign_at_half_the_interval_while_all_is_sound(heard: Heard) -> None:
    manager = ServiceManager({**heard.variables, "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(os.getpid())})
    assert manager.deadline == float("inf")
    manager.tell("a", is_ready=True)
    heard.take()
    now = manager.deadline
    assert 0 < now - time.monotonic() <= 4
    manager.beat(now - 0.1, lambda: True)
    assert heard.take() == []
    manager.beat(now, lambda: True)
    assert (heard.take(), manager.deadline) == ([{"WATCHDOG": "1"}], now + 4)
    manager.beat(now + 4, lambda: False)
    assert (heard.take(), manager.deadline) == ([], now + 5)
    manager.beat(now + 5, lambda: True)
    assert (heard.take(), manager.deadline) == ([{"WATCHDOG": "1"}], now + 9)


def test_server_that_takes_over_is_named_and_then_nothing_more_is_said(heard: Heard) -> None:
    manager = ServiceManager({**heard.variables, "WATCHDOG_USEC": "1000000"})
    manager.tell("a", is_ready=True)
    heard.take()
    assert manager.is_main
    assert manager.variables == {**heard.variables, "WATCHDOG_USEC": "1000000"}
    manager.succeeded(17)
    assert manager.deadline == float("inf")
    manager.stopping("ending")
    assert heard.take() == [{"MAINPID": "17", "WATCHDOG": "1"}]


def test_process_that_was_not_started_by_the_service_manager_names_nobody(heard: Heard) -> None:
    variables = {"NOTIFY_SOCKET": heard.variables["NOTIFY_SOCKET"]}
    manager = ServiceManager(variables)
    manager.tell("a", is_ready=True)
    manager.succeeded(17)
    assert not manager.is_main
    assert manager.variables == variables
    assert [list(item) for item in heard.take()] == [["READY", "STATUS"]]


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "4000000"}])
def test_successor_speaks_when_it_has_been_named(heard: Heard, watchdog: dict[str, str]) -> None:
    parent = {"SYSTEMD_EXEC_PID": str(os.getppid())}
    manager = ServiceManager({**heard.variables, **parent, **watchdog}, is_successor=True)
    assert manager.is_main
    manager.tell("starting", is_ready=False)
    manager.tell("a", is_ready=True)
    manager.tell("b", is_ready=True)
    assert heard.take() == []
    now = manager.deadline
    assert now < time.monotonic() + 2
    manager.beat(now, lambda: True)
    assert heard.take() == [{"READY": "1", "STATUS": "b"}, *([{"WATCHDOG": "1"}] if watchdog else [])]
    assert manager.deadline == (now + 2 if watchdog else float("inf"))


@pytest.fixture
def sockets() -> Iterator[dict[str, socket.socket]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in ("a", "b", "c")}


def stored(sockets: dict[str, socket.socket], *names: str) -> list[dict[str, str]]:
    return [{"FDSTORE": "1", "FDNAME": name, "ports": str(sockets[name].getsockname()[1])} for name in names]


def test_sockets_are_stored_once_before_it_is_ready(heard: Heard, sockets: dict[str, socket.socket]) -> None:
    manager = ServiceManager({**heard.variables, "FDSTORE": "8"})
    manager.store(sockets, ["b"])
    assert manager.stored == {"b"}
    manager.tell("a", is_ready=False)
    manager.tell("b", is_ready=True)
    manager.reloading()
    manager.reloaded("c")
    first, *others = heard.take()
    assert first == {"STATUS": "a"}
    assert others[:3] == [*stored(sockets, "a", "c"), {"READY": "1", "STATUS": "b"}]
    assert not [item for item in others[3:] if "FDSTORE" in item]
    assert manager.stored == set(sockets)
    assert manager.variables["FDSTORE"] == "8"


@pytest.mark.parametrize(("room", "names"), [("0", ""), ("2", "ab")])
def test_no_more_sockets_are_stored_than_there_is_room_for(
    heard: Heard, sockets: dict[str, socket.socket], room: str, names: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager({**heard.variables, "FDSTORE": room})
    manager.store(sockets, ["c"])
    manager.tell("a", is_ready=True)
    assert heard.take() == [*stored(sockets, *names), {"READY": "1", "STATUS": "a"}]
    assert manager.stored == set(names)
    assert [record.message.partition(";")[0] for record in caplog.records] == (
        ["FileDescriptorStoreMax=2: 3 sockets are open"] if names else []
    )


def test_socket_that_cannot_be_sent_is_not_taken_for_stored(heard: Heard, sockets: dict[str, socket.socket]) -> None:
    manager = ServiceManager({**heard.variables, "FDSTORE": "8"})
    manager.store(sockets, [])
    sockets["b"].close()
    manager.tell("a", is_ready=True)
    assert manager.stored == {"a", "c"}
    assert [item.get("FDNAME") for item in heard.take()] == ["a", "c", None]


def test_without_a_service_manager_nothing_is_stored(sockets: dict[str, socket.socket]) -> None:
    manager = ServiceManager({"FDSTORE": "8"})
    manager.store(sockets, [])
    manager.tell("a", is_ready=True)
    assert manager.stored == set()
    manager.forget("a")


def test_successor_stores_when_it_has_been_named(heard: Heard, sockets: dict[str, socket.socket]) -> None:
    manager = ServiceManager({**heard.variables, "FDSTORE": "8"}, is_successor=True)
    manager.store(sockets, ["a", "b"])
    manager.tell("a", is_ready=True)
    assert heard.take() == []
    manager.beat(manager.deadline, lambda: True)
    assert heard.take() == [*stored(sockets, "c"), {"READY": "1", "STATUS": "a"}]


def test_forgetting_waits_until_it_is_done(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "SEND_TIMEOUT", 60.0)
    manager = ServiceManager({**heard.variables, "FDSTORE": "8"})
    with ThreadPoolExecutor(1) as pool:
        forgotten = pool.submit(manager.forget, "a")
        assert heard.wait() == (b"FDSTOREREMOVE=1\nFDNAME=a", [])
        said, [barrier] = heard.wait()
        try:
            assert said == b"BARRIER=1"
            assert not forgotten.done()
        finally:
            os.close(barrier)
        forgotten.result(60)
