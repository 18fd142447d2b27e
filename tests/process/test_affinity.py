"""One client stays with one worker: by its cookie or its address, over every edge process and every protocol."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.dispatch.choice import weight
from tests.process.http2_client import Http2Client
from tests.process.http2_websocket import Socket
from tests.process.raw_upstream import raw_upstream
from tests.process.server import Authority, RawClient, Server, clean_environment, wait_until
from tests.process.test_control import status
from tests.process.websocket_client import WebSocket

APPLICATION = """
import os

async def app(scope, receive, send):
    pid = str(os.getpid())
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": pid})
        await receive()
        return
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    body = pid.encode()
    if scope["path"] == "/cookie":
        body = b"".join(value for name, value in scope["headers"] if name == b"cookie")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
SITE = """
[pool]
workers = 4
affinity = "cookie"

[[site]]
[[site.route]]
app = "application"
[[site.route]]
path = "/ip"
app = "application"
affinity = "ip"
workers = 2
[[site.route]]
path = "/files"
static = "files"
[[site.route]]
path = "/other"
upstream = "%s"
"""
WORKERS = 4
# Values that clients bring. Whom they want is the same at all times: what is drawn here is each of the four workers.
VALUES = [b"%022d" % number for number in range(12)]
ADDRESSES = [b"192.0.2.%d" % number for number in range(8)]
_COOKIE = re.compile(rb"(edge-affinity=[A-Za-z0-9_-]{22}); Path=/; HttpOnly; SameSite=Lax(; Secure)?")

Answer = tuple[int, dict[bytes, bytes], bytes]


class Client:
    """Asks the server on a new connection each time."""

    def __init__(self, server: Server, authority: Authority, edges: list[int]) -> None:
        self.server = server
        self._edges = edges
        self._context = authority.client_context()

    def get(self, path: bytes = b"/", **fields: bytes) -> Answer:
        lines = b"".join(b"%b: %b\r\n" % (name.replace("_", "-").encode(), value) for name, value in fields.items())
        with RawClient(self.server.port, self._context) as client:
            client.send(b"GET %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % (path, lines))
            return client.receive_response()

    def pid(self, value: bytes) -> int:
        """Return the worker of who brings this value."""
        status, fields, body = self.get(cookie=b"edge-affinity=" + value)
        assert (status, fields.get(b"set-cookie")) == (200, None)
        return int(body)

    def pid_of(self, address: bytes) -> int:
        """Return the worker of the client with this address."""
        status, fields, body = self.get(b"/ip", x_forwarded_for=address)
        assert (status, fields.get(b"set-cookie")) == (200, None)
        return int(body)

    def websocket(self, cookie: bytes = b"other=1") -> WebSocket:
        return WebSocket(self.server.port, self._context, cookie=cookie.decode())

    @contextlib.contextmanager
    def alone(self, pid: int) -> Iterator[None]:
        """Have one edge process take all connections: the others stand still."""
        others = [other for other in self._edges if other != pid]
        try:
            for other in others:
                os.kill(other, signal.SIGSTOP)
                wait_until(lambda: _state(other) == "T", "the other edge stands still")  # noqa: B023
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def each_edge(self) -> Iterator[None]:
        """Go through the edge processes: in each turn, one is alone."""
        for pid in self._edges:
            with self.alone(pid):
                yield

    def wait_connected(self) -> None:
        """Wait until each edge process has all workers."""
        for _ in self.each_edge():
            _wait_for(lambda: self.pid(os.urandom(11).hex().encode()), WORKERS)
            _wait_for(lambda: self.pid_of(b"10.%d.%d.%d" % tuple(os.urandom(3))), 2)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _wait_for(ask: Callable[[], int], count: int) -> None:
    found: set[int] = set()

    def all_are_found() -> bool:
        found.add(ask())
        return len(found) == count

    wait_until(all_are_found, f"{count} workers have answered")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("affinity")
    (folder / "application.py").write_text(APPLICATION)
    (folder / "files").mkdir()
    (folder / "files/a.txt").write_text("a file")
    with raw_upstream() as upstream:
        (folder / "edge.toml").write_text(SITE % upstream.address)
        arguments = ["-c", "edge.toml", "--bind", "127.0.0.1:0", "--edges", "2", "--trusted-proxy", "127.0.0.1"]
        arguments += ["--cert", str(authority.cert)]
        environment = clean_environment(EDGE_HOME=str(folder / "home"))
        with Server(arguments, cwd=folder, environ=environment) as server:
            server.wait_ready()
            wait_until(lambda: len(status(folder)["edges"]) == 2, "both edge processes serve")
            found = Client(server, authority, [edge["pid"] for edge in status(folder)["edges"]])
            found.wait_connected()
            yield found


def slot(key: bytes, count: int) -> int:
    return max(range(count), key=lambda slot: weight(key, slot))


def test_clients_spread_over_the_workers_and_each_edge_gives_them_the_same(client: Client) -> None:
    tables = [[client.pid(value) for value in VALUES] for _ in client.each_edge()]
    assert tables[0] == tables[1]
    pids = {slot(value, WORKERS): pid for value, pid in zip(VALUES, tables[0], strict=True)}
    assert [pids[slot(value, WORKERS)] for value in VALUES] == tables[0]
    assert len(set(pids.values())) == len(pids) == WORKERS


def test_address_of_the_client_chooses_the_worker(client: Client) -> None:
    tables = [[client.pid_of(address) for address in ADDRESSES] for _ in client.each_edge()]
    assert tables[0] == tables[1]
    assert len(set(tables[0])) == 2
    networks = [b"2001:db8:0:%d::" % number for number in range(6)]
    workers = [client.pid_of(network + b"1") for network in networks]
    assert workers == [client.pid_of(network + b"ffff:2") for network in networks]
    assert len(set(workers)) == 2


@pytest.mark.parametrize(("scheme", "secure"), [(b"https", b"; Secure"), (b"http", None)])
def test_first_answer_sets_the_cookie_that_leads_back(client: Client, scheme: bytes, secure: bytes | None) -> None:
    status, fields, pid = client.get(x_forwarded_proto=scheme)
    match = _COOKIE.fullmatch(fields[b"set-cookie"])
    assert status == 200
    assert match is not None
    assert match[2] == secure
    for _ in range(5):
        status, fields, body = client.get(cookie=b"a=1; " + match[1], x_forwarded_proto=scheme)
        assert (status, fields.get(b"set-cookie"), body) == (200, None, pid)


def test_each_client_without_a_cookie_gets_its_own(client: Client) -> None:
    assert len({client.get()[1][b"set-cookie"] for _ in range(5)}) == 5
    assert b"set-cookie" in client.get(cookie=b"edge-affinity=of-somebody-else")[1]


def test_client_is_with_one_worker_over_every_protocol(client: Client, authority: Authority) -> None:
    for value in VALUES[:4]:
        cookie = b"edge-affinity=" + value
        pid = client.pid(value)
        with client.websocket(cookie) as websocket:
            assert int(websocket.receive_text()) == pid
            assert "set-cookie" not in websocket.answer.headers
        with Http2Client(client.server, authority) as http2:
            answers = [http2.ask("/", (b"cookie", b"a=1"), (b"cookie", cookie)) for _ in range(3)]
            assert {int(answer.body) for answer in answers} == {pid}
            assert {answer.fields.get(b"set-cookie") for answer in answers} == {None}
            socket = Socket(http2, "/", (b"cookie", cookie))
            assert int(bytes(socket.receive().data)) == pid
            assert b"set-cookie" not in socket.answer.fields


def test_cookie_is_set_over_every_protocol(client: Client, authority: Authority) -> None:
    with client.websocket() as websocket:
        first = int(websocket.receive_text())
        match = _COOKIE.fullmatch(websocket.answer.headers["set-cookie"].encode())
    assert match is not None
    assert client.get(cookie=match[1])[2] == b"%d" % first
    with Http2Client(client.server, authority) as http2:
        answer = http2.ask("/")
        socket = Socket(http2, "/")
        pids = [int(answer.body), int(bytes(socket.receive().data))]
        for pid, fields in zip(pids, (answer.fields, socket.answer.fields), strict=True):
            match = _COOKIE.fullmatch(fields[b"set-cookie"])
            assert match is not None
            assert client.get(cookie=match[1])[2] == b"%d" % pid


@pytest.mark.parametrize(
    ("path", "expected"), [(b"/files/a.txt", 200), (b"/files/none", 404), (b"/other/", 200), (b"/.edge/health", 200)]
)
def test_answers_of_nobody_in_the_pool_set_no_cookie(client: Client, path: bytes, expected: int) -> None:
    status, fields, _ = client.get(path)
    assert (status, fields.get(b"set-cookie")) == (expected, None)


def test_application_sees_the_cookie(client: Client) -> None:
    cookie = b"a=1; edge-affinity=%b; b=2" % VALUES[0]
    assert client.get(b"/cookie", cookie=cookie)[2] == cookie


def test_clients_of_a_worker_that_dies_go_on_with_others_and_then_with_its_successor(client: Client) -> None:
    before = [client.pid(value) for value in VALUES]
    victim = before[0]
    os.kill(victim, signal.SIGKILL)
    assert client.pid(VALUES[0]) != victim
    for _ in client.each_edge():
        successor = wait_until(lambda: {client.pid(VALUES[0])} - set(before), "another worker has its place").pop()
        assert [client.pid(value) for value in VALUES] == [successor if pid == victim else pid for pid in before]
