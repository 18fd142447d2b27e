"""Keys that are encrypted, and PKCS#12: served over TLS, with the password out of the workers' sight."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from tests.process.server import Authority, RawClient, Server, clean_environment, running

SOURCE = """
import json, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(sorted(os.environ)).encode()})
"""
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    lock = BestAvailableEncryption(PASSWORD.encode())
    key = load_pem_private_key(authority.key.read_bytes(), None)
    locked = authority.folder / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, lock))
    cert, key_path = authority.issue("other", "other.example")
    leaf, *others = x509.load_pem_x509_certificates(cert.read_bytes())
    other = load_pem_private_key(key_path.read_bytes(), None)
    both = authority.folder / "other.p12"
    both.write_bytes(serialize_key_and_certificates(b"other", other, leaf, others, lock))  # type: ignore[arg-type]  # EC
    options = ["--ssl-certfile", str(authority.cert), f"--ssl-keyfile={locked}", "--certfile", str(both)]
    environ = {"EDGE_SSL_KEYFILE_PASSWORD": PASSWORD}
    folder = tmp_path_factory.mktemp("served")
    with running(folder, SOURCE, *options, "--bind", "127.0.0.1:0", environ=environ) as server:
        yield server


@pytest.mark.parametrize("name", ["localhost", "other.example"])
def test_both_certificates_are_served(server: Server, authority: Authority, name: str) -> None:
    with RawClient(server.port, authority.client_context(), server_name=name) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        certificate = client.sock.getpeercert()
        assert certificate is not None
        assert ("DNS", name) in certificate["subjectAltName"]


def test_password_is_not_in_the_environment_of_workers(server: Server, authority: Authority) -> None:
    with httpx.Client(verify=authority.client_context(), trust_env=False) as client:
        names = client.get(f"https://localhost:{server.port}/").json()
    assert "PATH" in names
    assert not [name for name in names if "PASSWORD" in name]


def test_password_that_is_wrong_is_refused_and_not_shown(tmp_path: Path, server: Server, authority: Authority) -> None:
    (tmp_path / "application.py").write_text(SOURCE)
    arguments = ["--cert", str(authority.folder / "other.p12"), "--key-password", "s3cret", "application:app"]
    with Server(arguments, cwd=tmp_path, environ=clean_environment()) as refused:
        assert refused.wait_end() == 2
    [line] = refused.errors
    assert line.endswith(
        "other.p12: the password does not open it; give its password with --key-password or EDGE_KEY_PASSWORD"
    )
    assert "s3cret" not in line


def test_ciphers_and_versions_are_those_that_were_asked_for(tmp_path: Path, authority: Authority) -> None:
    cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"
    options = ["--cert", str(authority.cert), "--bind", "127.0.0.1:0"]
    with running(tmp_path, SOURCE, *options, "--ssl-ciphers", cipher, "--ssl-version", "17") as server:
        context = authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with RawClient(server.port, context) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.cipher() == (cipher, "TLSv1.2", 256)
    with running(tmp_path, SOURCE, *options, "--tls-min-version", "tls1.3") as server:
        with pytest.raises(ssl.SSLError), RawClient(server.port, context):
            pass
        with RawClient(server.port, authority.client_context()) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.version() == "TLSv1.3"
