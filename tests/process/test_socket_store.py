"""Listeners that the service manager keeps between two runs: the test plays systemd (FDSTORE=1, LISTEN_FDS)."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, Authority, Server, clean_environment, wait_until
from tests.process.service_manager import Manager
from tests.process.test_control import edge
from tests.process.test_privileges import Place, assert_dropped

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(f"edge-{os.getpid()}-{tmp_path.name}", room=8)
    yield manager
    manager.close()


@contextmanager
def started(
    folder: Path,
    manager: Manager,
    *arguments: str,
    sockets: Sequence[tuple[str, int]] = (),
    python: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start the server as systemd does, with all that is kept, and wait until it says that it is ready."""
    (folder / "application.py").write_text(APPLICATION)
    variables = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    wrapper, files = manager.handing_over(*sockets)
    with Server(
        [*arguments, "application:app"],
        cwd=folder,
        environ={**variables, **manager.environ, **(environ or {})},
        wrapper=(*wrapper, *python),
        pass_fds=files,
    ) as server:
        try:
            manager.wait("READY")
        except AssertionError as error:
            raise AssertionError(server.errors) from error
        yield server


def kill(server: Server) -> None:
    """The master dies, and all that was its own with it."""
    children = server.children()
    server.process.send_signal(signal.SIGKILL)
    server.wait_end()
    wait_until(lambda: all(map(is_over, children)), "edges and workers have ended")


def is_over(pid: int) -> bool:
    """True if the process is gone, or nobody has asked yet how it ended: its files are closed then, too."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def end(server: Server) -> None:
    assert server.stop() == 0


def connect(stack: ExitStack, address: int | str, context: ssl.SSLContext | None = None) -> socket.socket:
    """Connect where nobody is, and ask: with TLS, the handshake is what has to wait."""
    sock = stack.enter_context(socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET))
    sock.settimeout(DEADLINE)
    sock.connect(address if isinstance(address, str) else ("127.0.0.1", address))
    if context is not None:
        return stack.enter_context(
            context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
        )
    sock.sendall(REQUEST)
    return sock


def answer(sock: socket.socket) -> bytes:
    """Return the whole answer, and hang up: a server that ends waits for clients to."""
    with sock:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
            sock.sendall(REQUEST)
        return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize("leave", [kill, end])
def test_who_connects_while_no_server_runs_is_answered_by_the_next(
    leave: Callable[[Server], None], tmp_path: Path, manager: Manager, authority: Authority
) -> None:
    with tempfile.TemporaryDirectory() as short, ExitStack() as stack:
        path = f"{short}/a:b c.sock"
        options = ["--cert", str(authority.cert), "--bind", f"unix:{path}"]
        with started(
            tmp_path,
            manager,
            *(*options, "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
        ) as server:
            https, http = server.ports("https")[0], server.ports("http")[0]
            [metrics] = [int(line.rpartition(":")[2]) for line in server.errors if "metrics on" in line]
            names = list(manager.stored)
            assert len(names) == 4
            leave(server)
        context = authority.client_context()
        waiting = [
            connect(stack, path, context),
            connect(stack, https, context),
            connect(stack, http),
            connect(stack, metrics),
        ]
        given = (
            "--bind",
            f"127.0.0.1:{https}",
            "--http-bind",
            f"127.0.0.1:{http}",
            "--metrics",
            f"127.0.0.1:{metrics}",
        )
        with started(tmp_path, manager, *options, *given) as server:
            first, second, third, fourth = map(answer, waiting)
            assert first.endswith(b"\r\nhttps")
            assert second.endswith(b"\r\nhttps")
            assert third.startswith(b"HTTP/1.1 308 ")
            assert fourth.startswith(b"HTTP/1.1 404 ")
            assert list(manager.stored) == names
            [worker] = server.workers()
            kept = {f"socket:[{os.fstat(descriptor).st_ino}]" for descriptor in manager.stored.values()}
            assert not kept & {os.readlink(item) for item in Path(f"/proc/{worker}/fd").iterdir()}
            assert server.stop() == 0


def test_reload_and_upgrade_store_nothing_twice_and_what_is_stored_outlives_them(
    tmp_path: Path, manager: Manager
) -> None:
    with ExitStack() as stack:
        with started(tmp_path, manager, "--bind", "127.0.0.1:0") as server:
            [port] = server.ports("http")
            edge(tmp_path, "reload")
            edge(tmp_path, "upgrade")
            new = int(manager.wait("MAINPID")[1]["MAINPID"])
            try:
                assert manager.wait("READY")[0] == new
                assert server.process.wait(DEADLINE) == 0
            finally:
                os.kill(new, signal.SIGKILL)
        wait_until(lambda: is_over(new), "the new master has ended")
        assert len(manager.stored) == 1
        waiting = connect(stack, port)
        with started(tmp_path, manager, "--bind", f"127.0.0.1:{port}") as server:
            assert answer(waiting).endswith(b"\r\nhttp")
            assert server.stop() == 0


def test_what_is_not_wanted_as_it_was_is_given_up(tmp_path: Path, manager: Manager) -> None:
    with tempfile.TemporaryDirectory() as short:
        path = f"{short}/a.sock"
        with started(
            tmp_path, manager, "--bind", "0.0.0.0:0", "--bind", "127.0.0.1:0", "--bind", f"unix:{path}"
        ) as server:
            everywhere, other = server.ports("http")
            before = set(manager.stored)
            assert len(before) == 3
            kill(server)
        os.unlink(path)
        # The service manager has the same port still; and the file is gone, so that nobody would find that socket.
        options = ("--bind", f"127.0.0.1:{everywhere}", "--bind", f"unix:{path}")
        with started(tmp_path, manager, *options) as server, ExitStack() as stack:
            assert len(manager.stored) == 2
            assert not before & set(manager.stored)
            assert answer(connect(stack, everywhere)).endswith(b"\r\nhttp")
            assert answer(connect(stack, path)).endswith(b"\r\nhttp")
            with pytest.raises(ConnectionRefusedError):
                connect(stack, other)
            assert server.stop() == 0


def test_sockets_of_units_come_first_and_are_not_stored(tmp_path: Path, manager: Manager) -> None:
    with ExitStack() as stack:
        unit = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        number = os.dup(unit.fileno())
        stack.callback(os.close, number)
        with started(tmp_path, manager, "--metrics", "127.0.0.1:0", sockets=[("http", number)]) as server:
            [name] = manager.stored
            metrics = int(server.wait_error("metrics on").rpartition(":")[2])
            kill(server)
        waiting = connect(stack, unit.getsockname()[1]), connect(stack, metrics)
        options = ("--metrics", f"127.0.0.1:{metrics}")
        with started(tmp_path, manager, *options, sockets=[("http", number)]) as server:
            assert answer(waiting[0]).endswith(b"\r\nhttp")
            assert answer(waiting[1]).startswith(b"HTTP/1.1 404 ")
            assert list(manager.stored) == [name]
            assert server.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_socket_that_root_opened_is_served_again_by_somebody_else(manager: Manager) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Place(Path(folder))
        path = f"{folder}/edge.sock"
        options = ("--user", place.user.pw_name, "--bind", f"unix:{path}")
        for _ in range(2):
            waiting = connect(stack, path) if manager.stored else None
            with started(place.folder, manager, *options, python=place.wrapper, environ=place.environ) as server:
                assert_dropped(server, place.user)
                status = os.stat(path)
                assert (status.st_uid, status.st_gid) == (0, place.user.pw_gid)
                if waiting is not None:
                    assert answer(waiting).endswith(b"\r\nhttp")
                kill(server)
        assert len(manager.stored) == 1
