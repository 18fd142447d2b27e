"""Clients with certificates, as they meet the server: openssl, httpx, HTTP/2 and WebSockets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect

from tests.process.server import DEADLINE, Authority, RawClient, Server, running, wait_until

APP = """
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    fields = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"tls": scope["extensions"].get("tls"), "fields": fields, "scheme": scope["scheme"]})
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
"""


class Clients:
    """An authority for clients, its file, and the files of one of its clients."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "clients.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.jo = self.authority.create_child_ca().issue_cert("jo@shop.example", common_name="Jo, of shop")
        self.file = folder / "jo.pem"
        self.jo.private_key_and_cert_chain_pem.write_to_path(str(self.file))

    def der(self, place: int) -> bytes:
        """A certificate of the client's chain."""
        return ssl.PEM_cert_to_DER_cert(self.jo.cert_chain_pems[place].bytes().decode())


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


def served(folder: Path, authority: Authority, clients: Clients, auth: str) -> Any:
    arguments = ["--bind", "127.0.0.1:0", "--cert", str(authority.cert), "--client-ca", str(clients.ca)]
    return running(folder, APP, *arguments, "--client-auth", auth)


@pytest.fixture(scope="module")
def required(tmp_path_factory: pytest.TempPathFactory, authority: Authority, clients: Clients) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("required"), authority, clients, "require") as server:
        yield server


@pytest.fixture(scope="module")
def optional(tmp_path_factory: pytest.TempPathFactory, authority: Authority, clients: Clients) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("optional"), authority, clients, "optional") as server:
        yield server


def context(authority: Authority, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    made = authority.client_context()
    if certificate is not None:
        certificate.configure_cert(made)
    return made


def check_told(told: dict[str, Any], clients: Clients, scheme: str = "https") -> None:
    """The application has been told who the client is, in both forms."""
    assert told["scheme"] == scheme
    tls, fields = told["tls"], told["fields"]
    assert [ssl.PEM_cert_to_DER_cert(pem) for pem in tls["client_cert_chain"]] == [clients.der(0), clients.der(1)]
    assert tls["client_cert_name"].startswith("CN=Jo\\, of shop,")
    assert (tls["client_cert_error"], tls["server_cert"]) == (None, None)
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert b64decode(fields["client-cert"].strip(":")) == clients.der(0)
    assert b64decode(fields["client-cert-chain"].strip(":")) == clients.der(1)


@pytest.mark.parametrize("http2", [False, True])
def test_application_is_told_who_the_client_is(
    required: Server, authority: Authority, clients: Clients, http2: bool
) -> None:
    verify = context(authority, clients.jo)
    with httpx.Client(verify=verify, http2=http2, trust_env=False, timeout=DEADLINE) as client:
        for _ in range(2):
            answer = client.get(f"https://localhost:{required.port}/", headers={"client-cert": ":Zm9yZ2Vk:"})
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            check_told(answer.json(), clients)


def test_websocket_is_told_too(required: Server, authority: Authority, clients: Clients) -> None:
    async def talk() -> str | bytes:
        address = f"wss://localhost:{required.port}/"
        async with connect(address, ssl=context(authority, clients.jo), proxy=None) as socket:
            return await socket.recv()

    check_told(json.loads(asyncio.run(asyncio.wait_for(talk(), DEADLINE))), clients, "wss")


def test_optional_client_without_a_certificate_is_served(
    optional: Server, authority: Authority, clients: Clients
) -> None:
    with httpx.Client(verify=context(authority), trust_env=False, timeout=DEADLINE) as client:
        told = client.get(f"https://localhost:{optional.port}/", headers={"client-cert": ":Zm9yZ2Vk:"}).json()
    assert (told["tls"]["client_cert_chain"], told["tls"]["client_cert_name"]) == ([], None)
    assert not [name for name in told["fields"] if name.startswith("client-cert")]
    with httpx.Client(verify=context(authority, clients.jo), trust_env=False, timeout=DEADLINE) as client:
        check_told(client.get(f"https://localhost:{optional.port}/").json(), clients)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("version", "arguments", "alert"),
    [
        ("-tls1_3", [], "certificate required"),
        ("-tls1_2", [], "handshake failure"),
        ("-tls1_3", ["stranger"], "unknown ca"),
        ("-tls1_2", ["stranger"], "unknown ca"),
        ("-tls1_3", ["jo"], ""),
        ("-tls1_2", ["jo"], ""),
    ],
)
def test_openssl_gets_the_alert_that_says_why(
    required: Server, clients: Clients, tmp_path: Path, version: str, arguments: list[str], alert: str
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().issue_cert("eve@shop.example").private_key_and_cert_chain_pem.write_to_path(str(stranger))
    files = {"stranger": stranger, "jo": clients.file}
    options = [word for name in arguments for word in ("-cert", str(files[name]), "-cert_chain", str(files[name]))]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{required.port}", "-servername", "localhost", version]
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ended = subprocess.run(
        [*command, *options, "-ign_eof"], input=request, capture_output=True, timeout=DEADLINE, check=False
    )
    if alert:
        assert f"alert {alert}" in ended.stderr.decode()
        assert b"HTTP/1.1" not in ended.stdout
    else:
        assert b"HTTP/1.1 200 OK" in ended.stdout


def test_log_says_what_is_wrong_with_a_certificate(required: Server, authority: Authority) -> None:
    stranger = context(authority, trustme.CA().issue_cert("eve@shop.example"))
    with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
        httpx.get(f"https://localhost:{required.port}/", verify=stranger, trust_env=False)
    required.wait_error("TLS handshake failed: certificate verify failed: unable to get local issuer certificate")


def test_new_authorities_serve_from_the_next_connection(tmp_path: Path, authority: Authority) -> None:
    clients, others = Clients(tmp_path), trustme.CA()
    newcomer = context(authority, others.issue_cert("kim@shop.example"))
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def is_served(made: ssl.SSLContext) -> bool:
        try:
            with RawClient(server.port, made) as client:
                client.send(request)
                return client.receive_response()[0] == 200
        except (OSError, AssertionError):
            return False

    with served(tmp_path, authority, clients, "require") as server:
        jo = context(authority, clients.jo)
        with RawClient(server.port, jo) as before:
            before.send(request)
            assert before.receive_response()[0] == 200
            assert not is_served(newcomer)
            clients.ca.write_bytes(b"no authority")
            server.wait_error("certificates not reloaded: client authority .*clients.pem: not PEM")
            assert is_served(jo)
            others.cert_pem.write_to_path(str(clients.ca))
            server.wait_error("authorities of clients reloaded")
            wait_until(lambda: is_served(newcomer), "the new authority is believed")
            assert not is_served(jo)
            # What was verified goes on.
            before.send(request)
            assert before.receive_response()[0] == 200
        [edge] = server.edges()
        os.kill(edge, signal.SIGKILL)
        wait_until(lambda: server.edges() and server.edges() != [edge], "another edge")
        wait_until(lambda: is_served(newcomer), "another edge believes it, too")
        assert not is_served(jo)
