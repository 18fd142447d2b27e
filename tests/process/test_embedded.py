"""`edge.Server` in this process: in a running loop, in a thread, as a block; and that nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import edge
from edge.errors import ConfigError, StartError
from tests.process.embedded import Application, Lines, get, has_started, left_behind, quiet
from tests.process.server import DEADLINE, Authority, wait_until
from tests.process.websocket_client import WebSocket

Message = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def loop_was_made() -> None:
    """What uvloop makes once for all loops is there: it would look like something left behind."""
    with quiet(Application()):
        pass


# As a block.


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_fifty_servers_in_threads_leave_nothing_behind(loop: str) -> None:
    def serve() -> None:
        app = Application()
        with quiet(app, loop=loop) as server:
            assert get(server.urls[0]) == "0 1.1"
            assert server.urls == [f"http://127.0.0.1:{server.port}"]
        assert app.events == ["startup", "shutdown"]

    before = left_behind()
    for _ in range(50):
        serve()
    assert left_behind() == before


def test_fifty_servers_in_one_loop_leave_nothing_behind() -> None:
    async def serve(client: httpx.AsyncClient) -> None:
        app = Application()
        async with quiet(app) as server:
            assert (await client.get(server.urls[0])).text == "0 1.1"
        assert app.events == ["startup", "shutdown"]

    async def body() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            before, tasks = left_behind(), asyncio.all_tasks()
            for _ in range(50):
                await serve(client)
        assert asyncio.all_tasks() == tasks
        assert left_behind() == before

    asyncio.run(body())


def test_several_serve_at_once() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(quiet(Application())) for _ in range(3)]
        assert len({server.port for server in servers}) == 3
        assert [get(server.urls[0]) for server in servers] == ["0 1.1"] * 3


# By uvicorn's ways.


def test_server_in_a_running_loop_ends_when_it_should() -> None:
    async def body() -> None:
        server = quiet(Application())
        task = asyncio.create_task(server.serve())
        await has_started(server)
        port = server.servers[0].sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # as users ask for it
        assert port == server.port
        assert await asyncio.to_thread(get, f"http://127.0.0.1:{port}/") == "0 1.1"
        server.should_exit = True
        await asyncio.wait_for(task, DEADLINE)

    asyncio.run(body())


class ThreadServer(edge.Server):
    """The recipe that goes from test suite to test suite."""

    def install_signal_handlers(self) -> None:
        pass

    @contextlib.contextmanager
    def run_in_thread(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            wait_until(lambda: self.started or not thread.is_alive(), "the server starts")
            yield
        finally:
            self.should_exit = True
            thread.join(DEADLINE)


def test_server_in_a_thread_of_the_programs_own() -> None:
    server = ThreadServer(edge.Config(Application(), port=0, log_level="warning", access_log=False))
    with server.run_in_thread():
        assert get(server.urls[0]) == "0 1.1"


def test_handlers_of_signals_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        own = signal.getsignal(signal.SIGTERM)
        server = quiet(Application())

        async def body() -> None:
            task = asyncio.create_task(server.serve())
            await has_started(server)
            assert signal.getsignal(signal.SIGTERM) == server.handle_exit
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(task, DEADLINE)
            assert seen == [signal.SIGTERM]  # the program hears of it when the server has ended

        asyncio.run(body())
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_startup_and_shutdown_can_be_called_apart() -> None:
    async def body() -> None:
        app = Application()
        server = quiet(app)
        await server.startup()
        assert await asyncio.to_thread(get, server.urls[0]) == "0 1.1"
        await server.shutdown()
        assert app.events == ["startup", "shutdown"]

    asyncio.run(body())


def test_cancelled_server_ends_as_it_should() -> None:
    async def body() -> None:
        app = Application()
        server = quiet(app)
        task = asyncio.create_task(server.serve())
        await has_started(server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert app.events == ["startup", "shutdown"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(body())


def test_sockets_can_be_handed_over(tmp_path: Path) -> None:
    config = edge.Config(Application(), port=0, log_level="warning", access_log=False)
    tcp = config.bind_socket()
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "edge.sock"))
    server = edge.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [tcp, unix]})
    thread.start()
    try:
        wait_until(lambda: server.started, "the server starts")
        assert server.urls == [f"http://127.0.0.1:{tcp.getsockname()[1]}", f"unix:{tmp_path}/edge.sock"]
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "edge.sock"))) as client:
            assert client.get("http://localhost/").text == get(server.urls[0]) == "0 1.1"
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
    assert tcp.fileno() == unix.fileno() == -1


# The end.


def test_what_runs_is_finished_first() -> None:
    app = Application()
    answers: list[str] = []
    with quiet(app) as server:
        client = threading.Thread(target=lambda: answers.append(get(server.urls[0] + "/held")))
        client.start()
        app.entered.wait(DEADLINE)
        server.should_exit = True
        app.gate.set()
    client.join(DEADLINE)
    assert answers == ["0 1.1"]


@pytest.mark.parametrize("how", ["the time is over", "it is forced"])
def test_what_runs_too_long_is_cut_off(how: str) -> None:
    app = Application()
    limit = 0.05 if how == "the time is over" else 600
    answers: list[str] = []

    with quiet(app, timeout_graceful_shutdown=limit, log_level="critical") as server:
        client = threading.Thread(target=lambda: answers.append(get(server.urls[0] + "/held")))
        client.start()
        app.entered.wait(DEADLINE)
        server.should_exit = True
        if how == "it is forced":
            server.force_exit = True
    client.join(DEADLINE)
    assert answers[0].startswith("503 ")
    assert app.events == ["startup"] + (["shutdown"] if how == "the time is over" else [])


def test_server_ends_after_so_many_requests() -> None:
    server = quiet(Application(), limit_max_requests=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the server starts")
    for _ in range(2):
        assert get(server.urls[0]) == "0 1.1"
    thread.join(DEADLINE)
    assert not thread.is_alive()


# What cannot start.


def broken() -> Any:
    raise KeyError("no settings")


@pytest.mark.parametrize(
    ("app", "options", "error", "message"),
    [
        (Application("startup"), {}, StartError, "application 'application' failed to start: no database"),
        (broken, {"factory": True}, StartError, "application 'application' failed to start: KeyError: 'no settings'"),
        (1, {}, ConfigError, "application: 'int' cannot be called; name an ASGI or WSGI application"),
        ("nosuch:app", {}, ConfigError, "application 'nosuch:app': no module named 'nosuch'"),
        (Application(), {"loop": "nosuch:loop"}, ConfigError, "--loop nosuch:loop: No module named 'nosuch'"),
        (Application(), {"dev_name": "shop.example", "dev": True}, ConfigError, "shop.example"),
    ],
)
def test_failure_to_start_is_raised_and_nothing_is_left(
    app: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path))
    before = left_behind()
    with pytest.raises(error, match=re.escape(message)), quiet(app, log_level="critical", **options):
        pass
    assert left_behind() == before


def test_application_is_shut_down_when_the_port_is_taken() -> None:
    with quiet(Application()) as first:
        app = Application()
        with pytest.raises(ConfigError, match="the port is in use"), quiet(app, port=first.port):
            pass
    assert app.events in ([], ["startup", "shutdown"])


def test_application_that_takes_too_long_to_start_is_given_up() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StartError, match=r"not ready within 0\.05 s"), quiet(app, startup_timeout=0.05):
        pass


@pytest.mark.parametrize(
    "option", ["metrics", "pid", "acme", "chdir", "config", "user", "group", "outbound_ca", "strict"]
)
def test_options_of_processes_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: a server inside a program has none"):
        edge.Config(Application(), None, None, **{option: "/x"})


def test_addresses_are_there_when_it_has_started(tmp_path: Path) -> None:
    server = quiet(Application(), uds=str(tmp_path / "s"), port=None)
    with pytest.raises(RuntimeError, match="the server has not started yet"):
        _ = server.urls
    with server, pytest.raises(RuntimeError, match="the server listens on no port"):
        _ = server.port
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "environ", "host", "port"),
    [
        ({}, {}, "127.0.0.1", 8000),
        ({"port": 1}, {}, "127.0.0.1", 1),
        ({"host": "::1"}, {}, "::1", 8000),
        ({}, {"EDGE_PORT": "2"}, "127.0.0.1", 2),
        ({"bind": ":0"}, {}, None, None),
        ({"dev": True}, {}, None, None),
        ({}, {"EDGE_BIND": ":0"}, None, None),
    ],
)
def test_defaults_are_those_of_uvicorn(
    options: dict[str, Any], environ: dict[str, str], host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    config = edge.Config(Application(), **options)
    assert (config.host, config.port, config.is_ssl) == (host, port, "dev" in options)


# What it serves.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_tls_http2_uploads_and_websockets_are_served(authority: Authority) -> None:
    options = {"ssl_certfile": authority.cert, "ssl_keyfile": authority.key}
    with quiet(Application(), **options) as server:
        url = server.urls[0]
        assert url == f"https://127.0.0.1:{server.port}"
        with httpx.Client(verify=authority.client_context(), http2=True, trust_env=False) as client:
            assert client.post(url, content=b"x" * 1_000_000).text == "1000000 2"
        with WebSocket(server.port, authority.client_context()) as websocket:
            websocket.send("echo")
            assert websocket.receive_text() == "echo"


def test_clients_have_to_show_a_certificate_where_that_is_required(authority: Authority) -> None:
    files = {"ssl_certfile": authority.cert, "ssl_keyfile": authority.key, "ssl_ca_certs": authority.root}
    known = authority.client_context()
    known.load_cert_chain(*authority.issue("client", "client.example"))
    with quiet(Application(), log_level="critical", ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as server:
        with httpx.Client(verify=known, trust_env=False) as client:
            assert client.get(server.urls[0]).text == "0 1.1"
        with (
            httpx.Client(verify=authority.client_context(), trust_env=False) as client,
            pytest.raises(httpx.HTTPError),
        ):
            client.get(server.urls[0])


def test_new_certificate_serves_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with quiet(Application(), ssl_certfile=authority.cert, ssl_keyfile=authority.key) as server:
        before = ssl.get_server_certificate(("127.0.0.1", server.port))
        authority.issue("localhost", "localhost", "127.0.0.1")
        wait_until(lambda: ssl.get_server_certificate(("127.0.0.1", server.port)) != before, "the new one serves")


def test_wsgi_is_served() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.url_scheme"].encode()]

    with quiet(app) as server:
        assert get(server.urls[0]) == "http"


def test_requests_are_served_by_the_loop_that_the_program_runs() -> None:
    async def body() -> None:
        async with quiet(Application()) as server, httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(server.urls[0])).headers["x-thread"] == threading.current_thread().name

    asyncio.run(body())


# What it says.


def test_line_says_where_it_listens(capfd: pytest.CaptureFixture[str]) -> None:
    with edge.Server(edge.Config(Application(), port=0)) as server:
        get(server.urls[0])
    captured = capfd.readouterr()
    assert captured.err.startswith(f"edge: listening on {server.urls[0]}\n")
    assert '"status":200' in captured.out


@pytest.mark.parametrize("log_config", [None, {"version": 1, "incremental": True}])
def test_logging_can_be_left_to_the_program(log_config: Any, capfd: pytest.CaptureFixture[str]) -> None:
    logger, lines = logging.getLogger(), Lines()
    access = logging.getLogger("edge.access" if log_config is None else "uvicorn.access")
    with contextlib.ExitStack() as stack:
        for each in (logger, access):
            stack.callback(each.setLevel, each.level)
            each.setLevel("INFO")
        logger.addHandler(lines)
        stack.callback(logger.removeHandler, lines)
        with quiet(Application(), log_config=log_config, access_log=True) as server:
            get(server.urls[0])
    assert [name for name, line in lines.seen if "GET / HTTP/1.1" in line] == [access.name]
    assert capfd.readouterr() == ("", "")


def test_variables_of_env_files_are_there_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("SHOP=there\nHOST_OWN=file\n")
    monkeypatch.setenv("HOST_OWN", "program")
    monkeypatch.setenv("SHADOWED", "before")
    seen: list[Any] = []

    def make() -> Any:
        seen.extend(os.environ.get(name) for name in ("SHOP", "HOST_OWN", "SHADOWED"))
        return Application()

    with quiet(make, factory=True, env_file=tmp_path / ".env", env="SHADOWED=said"):
        pass
    assert seen == ["there", "program", "said"]
    assert [os.environ.get(name) for name in ("SHOP", "HOST_OWN", "SHADOWED")] == [None, "program", "before"]


def test_keep_alive_connection_is_closed_at_the_end() -> None:
    with quiet(Application()) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"0 1.1"
        sock = connection.sock
    assert sock.recv(1) == b""
    connection.close()
