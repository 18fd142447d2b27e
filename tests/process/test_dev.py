"""`--dev`: HTTPS on localhost from a root of one's own, and keys that stay where they belong."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge_certs.ca import LocalAuthority
from tests.process.server import DEADLINE, Authority, RawClient, Server, clean_environment, running, serving

HELLO = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_dev_serves_https_on_localhost_by_its_own_root(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--dev") as server:
        root = tmp_path / "home" / "dev" / "root.pem"
        server.wait_error(re.escape(f"edge: certificate for localhost signed by {root}; trust that"))
        context = ssl.create_default_context(cafile=str(root))
        for name in ("localhost", "127.0.0.1", "::1"):
            with RawClient(server.port, context, server_name=name) as client:
                client.send(GET)
                assert client.receive_response()[2] == b"hello"
    assert not [line for line in server.errors if "may read it" in line]


def test_curl_trusts_the_root_of_dev(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    with serving(tmp_path, HELLO, "--dev") as server:
        root = tmp_path / "home" / "dev" / "root.pem"
        done = subprocess.run(
            [curl, "--silent", "--show-error", "--cacert", str(root), f"https://localhost:{server.port}/"],
            env=clean_environment(),
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    assert (done.stdout, done.stderr) == (b"hello", b"")


@pytest.mark.parametrize("name", ["app.localhost", "deep.app.localhost", "api.test", "de.shop.internal"])
def test_every_name_below_localhost_and_every_dev_name_is_trusted(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, HELLO, "--dev", "--dev-name", "api.test", "--dev-name", "*.shop.internal") as server:
        context = ssl.create_default_context(cafile=str(tmp_path / "home" / "dev" / "root.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with RawClient(server.port, context, server_name=name) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert client.receive_response()[2] == b"hello"


def test_public_name_gets_a_certificate_that_clients_refuse(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--dev") as server:
        context = ssl.create_default_context(cafile=str(tmp_path / "home" / "dev" / "root.pem"))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            RawClient(server.port, context, server_name="www.example.com")


def test_container_serves_by_an_intermediate_and_makes_no_root(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    host = LocalAuthority.open(tmp_path / "host", now)
    file = tmp_path / "authority.pem"
    file.write_bytes(host.delegate(now).encode())
    with serving(tmp_path, HELLO, "--dev", "--dev-authority", str(file), "--dev-name", "edge.internal") as server:
        server.wait_error(re.escape(f"edge: certificate for localhost signed by {file}, valid until "))
        context = ssl.create_default_context(cafile=str(host.root_path))
        for name in ("edge.internal", "app.localhost"):
            with RawClient(server.port, context, server_name=name) as client:
                client.send(GET)
                assert client.receive_response()[2] == b"hello"
    assert not (tmp_path / "home" / "dev").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dev-name", "www.example.com"], "name 'www.example.com': the local root may sign only for localhost, "),
        (["--dev-authority", "no.pem"], "dev authority no.pem: no such file; name a PEM file with the dev authority"),
    ],
)
def test_dev_that_cannot_be_is_said_in_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "application.py").write_text(HELLO)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with Server(["--dev", *options, "application:app"], cwd=tmp_path, environ=environ) as server:
        assert server.wait_end() == 2
    [line] = server.errors
    assert line.startswith(f"edge: {message}")


def test_root_is_kept_and_the_leaf_is_not(tmp_path: Path, short_folder: Path) -> None:
    shown = []
    for _ in range(2):
        with running(tmp_path, HELLO, "--dev", "--port", "0", environ={"TMPDIR": str(short_folder)}) as server:
            root = (tmp_path / "home" / "dev" / "root.pem").read_bytes()
            context = ssl.create_default_context(cadata=root.decode())
            with RawClient(server.port, context) as client:
                assert isinstance(client.sock, ssl.SSLSocket)
                shown.append((root, client.sock.getpeercert(binary_form=True)))
            files = [path for folder in (tmp_path, short_folder) for path in folder.rglob("*") if path.is_file()]
            keys = [path for path in files if b"PRIVATE KEY" in path.read_bytes()]
            assert keys == [tmp_path / "home" / "dev" / "root.key"]
            assert keys[0].stat().st_mode & 0o777 == 0o600
    assert shown[0][0] == shown[1][0]
    assert shown[0][1] != shown[1][1]


def test_dev_listens_on_loopback_only(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--dev") as server:
        hosts = {address.removeprefix("https://").rpartition(":")[0] for address in server.addresses}
    assert hosts <= {"127.0.0.1", "[::1]"}
    assert "127.0.0.1" in hosts


def private_bytes(key: Path) -> list[bytes]:
    """Return what gives a private key away: its number as OpenSSL holds it, either way round, and lines of its PEM."""
    pem = key.read_bytes()
    parsed = load_pem_private_key(pem, None)
    assert isinstance(parsed, ec.EllipticCurvePrivateKey)
    number = parsed.private_numbers().private_value
    size = (parsed.key_size + 7) // 8
    lines = [line for line in pem.splitlines() if line and b"-----" not in line]
    return [number.to_bytes(size, "big"), number.to_bytes(size, "little"), *lines]


def memory_holds(pid: int, needles: list[bytes]) -> bool:
    """Tell whether the process has one of the texts in its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            addresses, mode, *_, name = [*line.split(maxsplit=5), ""][:7]
            if "r" not in mode or name.startswith(("[vvar", "[vsyscall")):
                continue
            start, end = (int(text, 16) for text in addresses.split("-"))
            try:
                content = os.pread(memory.fileno(), end - start, start)
            except OSError:
                continue
            if any(needle in content for needle in needles):
                return True
    return False


def open_files(pid: int) -> set[str]:
    """Return what the file descriptors of a process are."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(link))
        except FileNotFoundError:
            continue
    return found


def test_workers_have_neither_the_key_nor_the_listener(tmp_path: Path, authority: Authority) -> None:
    needles = private_bytes(authority.key)
    with (
        serving(tmp_path, HELLO, authority=authority) as server,
        RawClient(server.port, authority.client_context()) as client,
    ):
        client.send(GET)
        client.receive_response()
        [worker], [edge] = server.workers(), server.edges()
        listener = f"socket:[{listening_inode(server.port)}]"
        # First that the search finds what is there.
        assert memory_holds(edge, needles)
        assert listener in open_files(edge)
        assert not memory_holds(worker, needles)
        files = open_files(worker)
        assert listener not in files
        assert not [file for file in files if "certificate" in file or file.endswith((".pem", ".key"))]


def listening_inode(port: int) -> str:
    """Return the inode of the socket that listens on 127.0.0.1 and this port."""
    address = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    [inode] = [row[9] for row in rows if row[1] == address and row[3] == "0A"]
    return inode
