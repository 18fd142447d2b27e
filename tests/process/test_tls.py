"""TLS as clients meet it: real handshakes with the standard library's OpenSSL, and with curl where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from trustme import KeyType

from tests.process.server import DEADLINE, Authority, RawClient, Server, clean_environment, serving, wait_until

HELLO = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Sites:
    """Several certificates of one authority, each a file with its key inside."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.root = folder / "root.pem"
        self._authority.cert_pem.write_to_path(str(self.root))

    def issue(self, file_name: str, *names: str, key_type: KeyType = KeyType.ECDSA) -> str:
        """Write NAME.pem, and return its path."""
        path = self._folder / f"{file_name}.pem"
        self._authority.issue_cert(*names, key_type=key_type).private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)

    def context(self, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        """Return a client's context that trusts the authority, but does not look at the name."""
        context = ssl.create_default_context(cafile=str(self.root))
        context.check_hostname = False
        for name, value in versions.items():
            setattr(context, name, value)
        return context


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


def names_shown(port: int, context: ssl.SSLContext, server_name: str | None) -> set[str]:
    """Return the names of the certificate that a client gets who asks for `server_name`."""
    plain = socket.create_connection(("127.0.0.1", port), DEADLINE)
    with context.wrap_socket(plain, server_hostname=server_name) as sock:
        found = sock.getpeercert()
    assert found is not None
    return {str(name[1]) for name in found["subjectAltName"]}


@pytest.fixture(scope="module")
def many_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Sites]]:
    """A server with an exact name, a wildcard, and a default."""
    folder = tmp_path_factory.mktemp("sites")
    sites = Sites(folder)
    files = [
        sites.issue("default", "default.test"),
        sites.issue("exact", "shop.example.test"),
        sites.issue("wildcard", "*.example.test", "example.test"),
    ]
    arguments = [argument for file in files for argument in ("--cert", file)]
    with serving(folder, HELLO, *arguments, "--host", "127.0.0.1") as server:
        yield server, sites


@pytest.mark.parametrize(
    ("server_name", "shown"),
    [
        ("shop.example.test", {"shop.example.test"}),
        ("SHOP.Example.Test", {"shop.example.test"}),
        ("other.example.test", {"*.example.test", "example.test"}),
        ("example.test", {"*.example.test", "example.test"}),
        ("deep.other.example.test", {"default.test"}),
        ("unknown.test", {"default.test"}),
        (None, {"default.test"}),
    ],
)
def test_certificate_is_chosen_by_server_name(
    many_sites: tuple[Server, Sites], server_name: str | None, shown: set[str]
) -> None:
    server, sites = many_sites
    assert names_shown(server.port, sites.context(), server_name) == shown


@pytest.mark.parametrize(
    ("ciphers", "used"),
    [("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDSA"), ("ECDHE-RSA-AES128-GCM-SHA256", "RSA")],
)
def test_one_name_has_a_certificate_for_each_key_type(tmp_path: Path, sites: Sites, ciphers: str, used: str) -> None:
    arguments = [
        *("--cert", sites.issue("ecdsa", "localhost")),
        *("--cert", sites.issue("rsa", "localhost", key_type=KeyType.RSA)),
    ]
    context = sites.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers)
    with (
        serving(tmp_path, HELLO, *arguments, "--host", "127.0.0.1") as server,
        RawClient(server.port, context) as client,
    ):
        assert isinstance(client.sock, ssl.SSLSocket)
        cipher = client.sock.cipher()
        assert cipher is not None
        assert used in cipher[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_version_is_negotiated_and_logged(tmp_path: Path, authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    with serving(tmp_path, HELLO, authority=authority) as server, RawClient(server.port, context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        client.send(GET)
        assert client.receive_response()[2] == b"hello"
        [line] = server.wait_access(1)
        assert line["tls"] == client.sock.version() == version.name.replace("_", ".")


def test_older_versions_are_refused_with_an_alert(tmp_path: Path, authority: Authority) -> None:
    context = authority.client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with serving(tmp_path, HELLO, authority=authority) as server:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            RawClient(server.port, context)
        server.wait_error("connection closed: TLS")


def test_no_common_cipher_is_told_by_an_alert(tmp_path: Path, authority: Authority) -> None:
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    with serving(tmp_path, HELLO, authority=authority) as server:
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            RawClient(server.port, context)
        assert "TLS handshake failed: no shared cipher" in server.wait_error("handshake failed")


def test_alpn_is_answered_with_what_is_spoken(tmp_path: Path, authority: Authority) -> None:
    context = authority.client_context()
    context.set_alpn_protocols(["spdy/3", "http/1.1"])
    with serving(tmp_path, HELLO, authority=authority) as server, RawClient(server.port, context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"


def test_handshake_has_a_time_limit(tmp_path: Path, authority: Authority) -> None:
    options = ("--tls-handshake-timeout", "200ms")
    with serving(tmp_path, HELLO, *options, authority=authority) as server, RawClient(server.port) as client:
        client.send(b"\x16\x03\x01")
        assert client.receive_rest() == b""
        assert "no TLS handshake in time" in server.wait_error("handshake")


def test_bytes_that_are_neither_tls_nor_http_are_closed_with_a_reason(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, HELLO, authority=authority) as server, RawClient(server.port) as client:
        client.send(b"\x00\x01\x02\x03\x04\x05")
        client.receive_rest()
        server.wait_error("127.0.0.1: connection closed: ")


def test_plain_http_on_the_tls_port_gets_a_readable_answer(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, HELLO, authority=authority) as server, RawClient(server.port) as client:
        client.send(GET)
        status, fields, body = client.receive_response()
        assert status == 400
        assert b"This port speaks HTTPS" in body
        assert client.receive_rest() == b""
        server.wait_error("refused with 400: plain HTTP on a TLS port")
        [line] = server.wait_access(1)
        assert (line["status"], line["request_id"].encode()) == (400, fields[b"x-request-id"])


def stopped(pid: int) -> contextlib.AbstractContextManager[None]:
    """Keep a process stopped, so that another must take the next connection."""

    @contextlib.contextmanager
    def manage() -> Iterator[None]:
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text(), "the process is stopped")
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    return manage()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session_is_resumed_by_another_edge_process(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    with serving(tmp_path, HELLO, "--edges", "2", authority=authority) as server:
        first, second = wait_until(lambda: len(server.edges()) == 2 and server.edges(), "two edges run")
        with stopped(second):
            reused, session = _request(server.port, context, None)
        assert not reused
        with stopped(first):
            reused, _ = _request(server.port, context, session)
        assert reused
        # The first half of a request id tells the edge processes apart.
        ids = [line["request_id"][:12] for line in server.wait_access(2)]
        assert len(set(ids)) == 2


def _request(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
    plain = socket.create_connection(("127.0.0.1", port), DEADLINE)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
        sock.sendall(GET)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        return bool(sock.session_reused), sock.session


@pytest.mark.parametrize(
    ("cert", "key"),
    [
        ("fullchain.pem", "privkey.pem"),
        ("site.pem", "site.key"),
        ("site.crt", "site.key"),
        ("localhost.pem", "localhost-key.pem"),
        ("tls.crt", "tls.key"),
        ("all.pem", "all.pem"),
    ],
)
def test_key_is_found_by_itself(tmp_path: Path, authority: Authority, cert: str, key: str) -> None:
    (tmp_path / cert).write_bytes(authority.cert.read_bytes())
    with (tmp_path / key).open("ab") as file:
        file.write(authority.key.read_bytes())
    with (
        serving(tmp_path, HELLO, "--cert", cert, "--host", "127.0.0.1") as server,
        RawClient(server.port, authority.client_context()) as client,
    ):
        client.send(GET)
        assert client.receive_response()[2] == b"hello"


def test_client_that_does_not_trust_the_certificate_is_logged(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, HELLO, authority=authority) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            RawClient(server.port, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        assert "unknown ca" in server.wait_error("connection closed")


def test_curl_speaks_with_it(tmp_path: Path, authority: Authority) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    with serving(tmp_path, HELLO, authority=authority) as server:
        command = [curl, "--silent", "--show-error", "--cacert", str(authority.root)]
        done = subprocess.run(
            [*command, f"https://localhost:{server.port}/"],
            env=clean_environment(),
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    assert (done.stdout, done.stderr) == (b"hello", b"")
