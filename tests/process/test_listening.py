"""Where it listens, by default and as told, and what the plain listener beside HTTPS answers."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, Authority, RawClient, Server, running, serving

ECHO = """
import json

async def app(scope, receive, send):
    content = json.dumps([scope["scheme"], scope["client"] and scope["client"][0], scope["server"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": content})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
# As root, a process gets back at exec what its bounding set allows; this leaves it all but low ports.
WITHOUT_LOW_PORTS = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")


@pytest.fixture
def default_ports() -> Iterator[None]:
    """Keep tests that use the fixed default ports from running at the same time."""
    with open(Path(tempfile.gettempdir()) / "edge-tests-default-ports.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def need_ports(*ports: int) -> None:
    """Skip, saying which, when the machine does not let us have one of the ports."""
    for port in ports:
        with contextlib.closing(socket.socket()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("0.0.0.0", port))
            except OSError as error:
                pytest.skip(f"port {port} cannot be had on this machine: {os.strerror(error.errno or 0)}")


def announced(server: Server) -> list[str]:
    return [line for line in server.errors if line.startswith("edge: ")]


@pytest.mark.usefixtures("default_ports")
def test_without_a_certificate_it_is_plain_http_on_8000_and_says_how_to_get_https(tmp_path: Path) -> None:
    need_ports(8000)
    with running(tmp_path, ECHO) as server:
        server.wait_error("plain HTTP")
        assert announced(server) == [
            "edge: listening on http://127.0.0.1:8000",
            "edge: plain HTTP on http://127.0.0.1:8000; for HTTPS add --dev (on localhost) or --cert FILE",
        ]
        with RawClient(8000) as client:
            client.send(GET)
            assert client.receive_response()[2] == b'["http", "127.0.0.1", ["localhost", 80]]'


@pytest.mark.usefixtures("default_ports")
def test_with_a_certificate_it_is_https_on_443_and_redirects_from_80(tmp_path: Path, authority: Authority) -> None:
    need_ports(443, 80)
    with running(tmp_path, ECHO, "--cert", str(authority.cert)) as server:
        assert sorted(address.rpartition(":")[2] for address in server.addresses) == ["443", "80"]
        status, location = redirect(80, b"localhost", b"/a?b=c")
        assert (status, location) == (308, b"https://localhost/a?b=c")
        with RawClient(443, authority.client_context()) as client:
            client.send(GET)
            assert client.receive_response()[2] == b'["https", "127.0.0.1", ["localhost", 443]]'


@pytest.mark.usefixtures("default_ports")
def test_ports_that_are_not_permitted_are_exchanged_and_said_in_one_line(tmp_path: Path, authority: Authority) -> None:
    wrapper = () if os.geteuid() else WITHOUT_LOW_PORTS
    if wrapper and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 443:
        pytest.skip("every user may use low ports on this machine")
    need_ports(8443, 8080)
    with running(tmp_path, ECHO, "--cert", str(authority.cert), wrapper=wrapper) as server:
        server.wait_error("no permission")
        assert [line for line in announced(server) if "listening on http" not in line] == [
            "edge: no permission for port 443 and 80: listening on 8443 and 8080; "
            "grant CAP_NET_BIND_SERVICE to change that"
        ]
        assert redirect(8080, b"localhost", b"/")[1] == b"https://localhost:8443/"


def redirect(port: int, host: bytes, target: bytes) -> tuple[int, bytes | None]:
    """Ask the plain listener for a target; return the status and the Location."""
    with RawClient(port) as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        status, fields, _ = client.receive_response()
    return status, fields.get(b"location")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """HTTPS with the plain listener beside it."""
    binds = ("--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--cert", str(authority.cert))
    with running(tmp_path_factory.mktemp("both"), ECHO, *binds) as server:
        yield server


@pytest.mark.parametrize("host", [b"localhost", b"LocalHost:8080", b"127.0.0.1", b"[::1]:80"])
def test_known_host_is_redirected(both: Server, host: bytes) -> None:
    [https], [plain] = both.ports("https"), both.ports("http")
    name = host.lower().removesuffix(b":8080").removesuffix(b":80")
    assert redirect(plain, host, b"/path?q=%41") == (308, b"https://%b:%d/path?q=%%41" % (name, https))


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"10.0.0.1", b"xlocalhost"])
def test_unknown_host_is_sent_nowhere(both: Server, host: bytes) -> None:
    [plain] = both.ports("http")
    assert redirect(plain, host, b"/") == (400, None)
    both.wait_error(f"GET '/' refused with 400: host b'{host.decode()}' is not served here")


def test_redirect_keeps_the_connection_and_takes_content(both: Server) -> None:
    [plain] = both.ports("http")
    with RawClient(plain) as client:
        client.send(b"POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
        assert client.receive_response()[0] == 308
        client.send(GET)
        assert client.receive_response()[0] == 308


def test_binds_repeat(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with running(tmp_path, ECHO, "--bind", "127.0.0.1:0", "-b", "127.0.0.1:0", "--bind", f"unix:{path}") as server:
        first, second = server.ports("http")
        for port in (first, second):
            with RawClient(port) as client:
                client.send(GET)
                assert client.receive_response()[0] == 200
        assert f"unix:{path}" in server.addresses


@contextlib.contextmanager
def unix_client(path: Path) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.settimeout(DEADLINE)
    client.sock.connect(str(path))
    try:
        yield client
    finally:
        client.close()


def test_unix_socket_serves_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with running(tmp_path, ECHO, "--bind", f"unix:{path}") as server, unix_client(path) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client.request("GET", "/")
        assert json.loads(client.getresponse().read()) == ["http", None, [str(path), None]]
        server.wait_error(r"unix:.*edge\.sock: its owner and its group may connect \(mode 0660\)")


def test_socket_that_was_handed_on_is_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number, port = sock.fileno(), sock.getsockname()[1]
        with running(tmp_path, ECHO, "--bind", f"fd://{number}", pass_fds=(number,)) as server:
            assert server.addresses == [f"http://127.0.0.1:{port}"]
            with RawClient(port) as client:
                client.send(GET)
                assert client.receive_response()[0] == 200


def test_port_0_is_printed_and_one_for_all_addresses(tmp_path: Path) -> None:
    with running(tmp_path, ECHO, "--host", "localhost", "--port", "0") as server:
        ports = server.ports("http")
        assert ports[0] > 0
        assert len(set(ports)) == 1


def test_ipv6_is_served(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with running(tmp_path, ECHO, "--bind", "[::1]:0") as server:
        sock = socket.create_connection(("::1", server.port), DEADLINE)
        with contextlib.closing(sock):
            sock.sendall(GET.replace(b"localhost", b"[::1]:1"))
            assert sock.recv(65536).endswith(b'["http", "::1", ["::1", 1]]')


def test_every_option_can_come_from_the_environment_alone(tmp_path: Path, authority: Authority) -> None:
    environ = {
        "EDGE_BIND": "127.0.0.1:0",
        "EDGE_HTTP_BIND": "127.0.0.1:0 127.0.0.1:0",
        "EDGE_CERT": str(authority.cert),
        "EDGE_KEY": str(authority.key),
        "EDGE_ACCESS_LOG": "0",
        "EDGE_ROOT_PATH": "/api",
    }
    with running(tmp_path, ECHO, environ=environ) as server:
        assert (len(server.ports("https")), len(server.ports("http"))) == (1, 2)
        with RawClient(server.port, authority.client_context()) as client:
            client.send(GET)
            assert client.receive_response()[0] == 200
        assert server.stop() == 0
    assert server.output == []


def test_plain_listener_without_a_certificate_serves_the_application(tmp_path: Path) -> None:
    with serving(tmp_path, ECHO) as server, RawClient(server.port) as client:
        client.send(GET.replace(b"localhost", b"any.example"))
        assert client.receive_response()[0] == 200
