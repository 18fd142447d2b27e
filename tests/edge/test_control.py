"""Both ends of the control socket, without a server behind it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.control import MAX_CLIENTS, ControlError, ControlServer, Reply, ask, connect, exchange, find_server
from edge.rundir import Running
from tests.process.server import wait_until


class Master:
    """Drives a control server in a thread; a command is answered with itself, `later` never, `refuse` with a reason."""

    def __init__(self, folder: Path) -> None:
        self.running = Running(7, folder)
        self.later: list[Reply] = []
        self._selector = selectors.DefaultSelector()
        self._server = ControlServer(folder, self._selector, self._command)
        self._wake, theirs = socket.socketpair()
        self._selector.register(theirs, selectors.EVENT_READ, None)
        self._theirs = theirs
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _command(self, name: str, arguments: dict[str, Any], reply: Reply) -> None:
        if name == "later":
            self.later.append(reply)
        elif name == "refuse":
            reply.refuse("refused: for a reason")
        else:
            reply.send(name=name, **arguments)

    def _loop(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data()

    def end(self) -> None:
        """Hang up on everybody."""
        self._wake.send(b"x")
        self._thread.join()
        self._server.close()
        for item in (self._wake, self._theirs, self._selector):
            item.close()


def answer(running: Running, command: str) -> dict[str, Any] | None:
    """Return the answer, or None if the server hung up."""
    with contextlib.suppress(ControlError):
        return ask(running, command)
    return None


@pytest.fixture
def master() -> Iterator[Master]:
    with tempfile.TemporaryDirectory() as folder:  # the path of a Unix socket is short
        made = Master(Path(folder))
        with contextlib.ExitStack() as stack:
            stack.callback(made.end)
            yield made


def test_command_is_answered_with_its_arguments(master: Master) -> None:
    assert ask(master.running, "scale", workers=3) == {"name": "scale", "workers": 3}


def test_refusal_is_an_error_with_its_reason(master: Master) -> None:
    with pytest.raises(ControlError, match=r"^refused: for a reason$"):
        ask(master.running, "refuse")


def test_commands_on_one_connection_are_answered_in_order(master: Master) -> None:
    with connect(master.running) as sock:
        assert [exchange(sock, name)["name"] for name in ("a", "b")] == ["a", "b"]


def test_answer_that_does_not_come_in_time_is_an_error(master: Master) -> None:
    with pytest.raises(ControlError, match=r"^later: no answer: timed out$"):
        ask(master.running, "later", timeout=0.05)


def test_answer_to_a_client_that_has_gone_is_none(master: Master) -> None:
    with pytest.raises(ControlError):
        ask(master.running, "later", timeout=0.05)
    assert ask(master.running, "still here") == {"name": "still here"}
    master.later[0].send(late=True)


def test_more_clients_than_there_may_be_are_hung_up_on(master: Master) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(MAX_CLIENTS):
            assert exchange(stack.enter_context(connect(master.running)), f"{number}")
        with pytest.raises(ControlError, match=r"ended before it answered|no answer"):
            ask(master.running, "one more")
    # It may see the next client before it sees that those others have gone.
    assert wait_until(lambda: answer(master.running, "again"), "room for a client") == {"name": "again"}


def test_server_that_ends_says_so_to_who_waits(master: Master) -> None:
    with connect(master.running, None) as sock:
        threading.Timer(0.05, master._wake.send, [b"x"]).start()
        master._thread.join()
        master._server.close()
        with pytest.raises(ControlError, match=r"^later: the server ended before it answered$|^later: no answer: "):
            exchange(sock, "later")


def test_server_without_a_socket_takes_no_commands(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"^process 7 takes no commands: no such file or directory$"):
        connect(Running(7, tmp_path))


def test_pid_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"no.pid: no such file or directory; name the file that edge serve -p has"):
        find_server({}, str(tmp_path / "no.pid"))
