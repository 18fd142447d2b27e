"""Two sites of one server, of which one asks clients for certificates: neither lends its clients to the other."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.process.server import Authority, RawClient, Server, clean_environment

HELLO = """
async def app(scope, receive, send):
    name = (scope["extensions"].get("tls") or {}).get("client_cert_name") or "nobody"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": name.encode()})
"""
TOML = """
[listen]
bind = ["127.0.0.1:0"]

[[site]]
hosts = ["open.example"]
cert = ["{cert}"]

[[site.route]]
app = "application:app"

[[site]]
hosts = ["closed.example"]
cert = ["{cert}"]
client_ca = "{ca}"

[[site.route]]
app = "application:app"
"""


class Two:
    """The server, and contexts of clients with and without a certificate."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self._clients = trustme.CA()
        cert, key = self.authority.issue("two", "open.example", "closed.example")
        cert.write_bytes(cert.read_bytes() + key.read_bytes())
        self._clients.cert_pem.write_to_path(str(folder / "clients.pem"))
        (folder / "edge.toml").write_text(TOML.format(cert=cert, ca=folder / "clients.pem"))
        self.server: Server

    def context(self, *, with_certificate: bool) -> ssl.SSLContext:
        context = self.authority.client_context()
        if with_certificate:
            self._clients.issue_cert("jo@shop.example", common_name="jo").configure_cert(context)
        return context

    def ask(self, server_name: str, host: str, *, with_certificate: bool = True) -> tuple[int, bytes]:
        """Ask for a host over TLS that was made for a server name."""
        context = self.context(with_certificate=with_certificate)
        with RawClient(self.server.port, context, server_name=server_name) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            status, _, body = client.receive_response()
        return status, body


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    made = Two(folder)
    (folder / "application.py").write_text(HELLO)
    environ = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    with Server(["-c", str(folder / "edge.toml")], cwd=folder, environ=environ) as made.server:
        made.server.wait_ready()
        yield made


def test_each_site_asks_for_what_it_wants(two: Two) -> None:
    assert two.ask("open.example", "open.example", with_certificate=False) == (200, b"nobody")
    status, body = two.ask("closed.example", "closed.example")
    assert (status, body[:5]) == (200, b"CN=jo")


def test_site_with_certificates_is_closed_to_others(two: Two) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        two.ask("closed.example", "closed.example", with_certificate=False)


@pytest.mark.parametrize(
    ("server_name", "host"), [("open.example", "closed.example"), ("closed.example", "open.example")]
)
def test_host_of_the_other_site_is_misdirected(two: Two, server_name: str, host: str) -> None:
    assert two.ask(server_name, host)[0] == 421
    two.server.wait_error("is another site than the one that TLS was made for")


def test_host_of_no_site_is_misdirected(two: Two) -> None:
    assert two.ask("open.example", "elsewhere.example", with_certificate=False)[0] == 421


def test_session_of_the_open_site_does_not_open_the_other(two: Two) -> None:
    context = two.context(with_certificate=False)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with RawClient(two.server.port, context, server_name="open.example") as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        session = client.sock.session
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", two.server.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="closed.example", session=session).recv(1)
