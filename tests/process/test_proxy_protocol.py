"""The PROXY protocol in front of a running server: whose header counts, and what it is believed about."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.net.test_proxy_protocol import V6, binary
from tests.process.server import DEADLINE, ROOT, Authority, RawClient, Server, running, wait_until

ECHO = """
import json

async def app(scope, receive, send):
    fields = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"client": scope["client"], "forwarded": fields.get("x-forwarded-for")}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
TEXT = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """A server behind a proxy at 127.0.0.1 that says whom it has in front; others are at ::1."""
    arguments = ["--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--cert", str(authority.cert)]
    more = ["--proxy-protocol", "127.0.0.1", "--log-format", "json"]
    with running(tmp_path_factory.mktemp("proxied"), ECHO, *arguments, *more) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same in plain HTTP; what is announced is itself a proxy whose fields count."""
    arguments = ["--bind", "127.0.0.1:0", "--proxy-protocol", "127.0.0.0/8", "--trusted-proxy", "203.0.113.0/24"]
    with running(tmp_path_factory.mktemp("plain"), ECHO, *arguments) as server:
        yield server


def ask(sock: socket.socket, request: bytes = GET) -> dict[str, object]:
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
        piece = sock.recv(65536)
        assert piece, f"the connection ended: {data!r}"
        data += piece
    found: dict[str, object] = json.loads(data.partition(b"\r\n\r\n")[2])
    return found


def shake_hands(plain: socket.socket, authority: Authority, *protocols: str) -> ssl.SSLSocket:
    context = authority.client_context()
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize(
    ("header", "client"),
    [(TEXT, ["203.0.113.7", 56324]), (binary(V6, family=0x21), ["2001:db8::7", 56324])],
    ids=["text", "binary"],
)
def test_client_is_whom_the_header_names_also_before_tls(
    proxied: Server, authority: Authority, header: bytes, client: list[object]
) -> None:
    plain = socket.create_connection(("127.0.0.1", proxied.port), DEADLINE)
    plain.sendall(header)
    with shake_hands(plain, authority, "http/1.1") as sock:
        for _ in range(2):
            assert ask(sock) == {"client": client, "forwarded": client[0]}
    wait_until(
        lambda: [line["client"] for line in proxied.access_lines()].count(client[0]) == 2, "two lines of this client"
    )


def test_header_may_come_byte_by_byte_and_run_into_the_request(plain: Server) -> None:
    with RawClient(plain.port) as client:
        for byte in TEXT[:-1]:
            client.send(bytes((byte,)))
        assert ask(client.sock, TEXT[-1:] + GET) == {"client": ["203.0.113.7", 56324], "forwarded": "203.0.113.7"}


def test_fields_of_the_announced_peer_count_if_that_is_trusted(plain: Server) -> None:
    forwarded = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n")
    with RawClient(plain.port) as client:
        assert ask(client.sock, TEXT + forwarded) == {
            "client": ["198.51.100.9", 0],
            "forwarded": "198.51.100.9, 203.0.113.7",
        }


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", binary(b"", command=0x20, family=0)], ids=["unknown", "the proxy itself"]
)
def test_proxy_that_names_nobody_is_the_client(plain: Server, header: bytes) -> None:
    with RawClient(plain.port) as client:
        port = client.sock.getsockname()[1]
        assert ask(client.sock, header + GET) == {"client": ["127.0.0.1", port], "forwarded": "127.0.0.1"}


@pytest.mark.parametrize("first", [GET, b"PROXY TCP4 203.0.113.7 192.0.2.1 56324\r\n" + GET, b"\x16\x03\x01\x00\x05"])
def test_proxy_without_a_header_gets_no_connection(plain: Server, first: bytes) -> None:
    with RawClient(plain.port) as client:
        client.send(first)
        assert client.receive_rest() == b""
    plain.wait_error("127.0.0.1: connection closed: PROXY header: ")


def test_header_of_others_is_never_looked_at(proxied: Server, authority: Authority) -> None:
    port = proxied.ports("https")[1]
    with socket.create_connection(("::1", port), DEADLINE) as sock:
        sock.sendall(TEXT + GET)
        # To TLS it is neither a handshake nor a request.
        assert b"203.0.113.7" not in sock.recv(65536)
    with shake_hands(socket.create_connection(("::1", port), DEADLINE), authority, "http/1.1") as sock:
        assert ask(sock)["forwarded"] == "::1"


PAGE = (ROOT / "docs/howto/behind-a-load-balancer.md").read_text()


XFF = b"X-Forwarded-For: 203.0.113.7"


@pytest.mark.parametrize(
    ("end", "field"),
    [
        ("--trusted-proxy 10.0.0.0/8", XFF),
        ("--trust-forwarded-prefix", XFF),
        ("--forwarded-style rfc7239", b"Forwarded: for=203.0.113.7"),
        ("--proxy-protocol 10.0.0.0/8", b""),
    ],
)
def test_command_of_the_page_serves(tmp_path: Path, authority: Authority, end: str, field: bytes) -> None:
    """The command as it stands there, but that the balancer is on this machine, and ports are free ones."""
    commands = re.findall(r"^```sh\nedge serve (.*?) app:app\n```", PAGE, re.M)
    [command] = [command for command in commands if command.endswith(end)]
    words = command.replace("10.0.0.0/8", "127.0.0.1").replace("0.0.0.0:8", "127.0.0.1:0 --port-").split()
    words = [str(authority.cert) if word == "shop.pem" else word for word in words if not word.startswith("--port-")]
    with running(tmp_path, ECHO, *words) as server:
        if field:
            with RawClient(server.port) as client:
                forwarded = GET.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")
                assert ask(client.sock, forwarded)["forwarded"] == "203.0.113.7, 127.0.0.1"
            return
        plain = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        plain.sendall(TEXT)
        with shake_hands(plain, authority, "http/1.1") as sock:
            assert ask(sock)["forwarded"] == "203.0.113.7"
