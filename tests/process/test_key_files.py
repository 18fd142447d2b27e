"""Keys that are encrypted, and PKCS#12: served over TLS, with the password out of the workers' sight."""

from __future__ import annotations

import grp
import shutil
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
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

from edge_certs.trust.store import TrustStore
from edge_certs.x509 import parse_chain
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
    for path in (locked, both):
        path.chmod(0o644)
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


def test_each_key_that_others_may_read_is_one_line_at_the_start(server: Server) -> None:
    said = [line for line in server.errors if "may read it" in line]
    assert [line.partition(" key ")[2].rpartition("/")[2] for line in said] == [
        "locked.key: mode 644, everybody may read it; chmod 600",
        "other.p12: mode 644, everybody may read it; chmod 600",
    ]
    assert all(" WARNING edge.master: key " in line for line in said)


# What `edge check` warns of on any machine, but for what is asked for here.
QUIET = ["--max-connections", "10", "--spool-max", "1MiB", "--bind", "127.0.0.1:0"]


@pytest.fixture
def known(tmp_path: Path, authority: Authority) -> Path:
    """A folder with a certificate whose root is known there."""
    TrustStore(tmp_path / "home").add(parse_chain(authority.root.read_bytes()), "root", datetime.now(UTC), "")
    for path in authority.issue("site", "localhost"):
        shutil.move(path, tmp_path)
    return tmp_path


def test_strict_refuses_a_key_that_its_group_may_read(known: Path) -> None:
    (known / "application.py").write_text(SOURCE)
    (known / "site.key").chmod(0o640)
    group = grp.getgrgid((known / "site.key").stat().st_gid).gr_name
    environ = clean_environment(EDGE_HOME=str(known / "home"), EDGE_STRICT="1")
    with Server(["--cert", "site.pem", *QUIET, "application:app"], cwd=known, environ=environ) as refused:
        assert refused.wait_end() == 2
    assert refused.errors == [
        f"edge: --strict: key site.key: mode 640, group {group!r} may read it; "
        "chmod 600, or serve a copy with that mode where the group needs this one"
    ]


def test_strict_refuses_whatever_check_warns_of_and_leaves_nothing(known: Path) -> None:
    (known / "application.py").write_text(SOURCE)
    environ = clean_environment(EDGE_HOME=str(known / "home"))
    options = ["--strict", "--cert", "site.pem", *QUIET[:4], "--max-body", "0", "--bind", "unix:a.sock"]
    with Server([*options, "application:app"], cwd=known, environ=environ) as refused:
        assert refused.wait_end() == 2
    [line] = [line for line in refused.errors if line.startswith("edge: ")]
    assert line.startswith("edge: --strict: limits: max_body is 0")
    assert not (known / "a.sock").exists()


def test_strict_leaves_the_old_one_serving_when_a_reload_meets_a_new_warning(known: Path, authority: Authority) -> None:
    with running(known, SOURCE, "--strict", "--cert", "site.pem", *QUIET) as server:
        workers = server.workers()
        (known / "site.key").chmod(0o644)
        server.process.send_signal(signal.SIGHUP)
        server.wait_error("settings not reloaded: --strict: key site.key: mode 644, everybody .*; the old ones go on")
        assert server.workers() == workers
        (known / "site.pem").write_bytes((known / "site.pem").read_bytes() + b"\n")
        server.wait_error("certificates not reloaded: --strict: key site.key: mode 644, everybody .*; the old ones go")
        with RawClient(server.port, authority.client_context()) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
        (known / "site.key").chmod(0o600)
        server.process.send_signal(signal.SIGHUP)
        server.wait_error("reload: done, every worker is new")
    assert sum("may read it" in line for line in server.errors) == 2
