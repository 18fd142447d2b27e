from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_certs.ca import LocalAuthority
from edge_certs.dev_files import FILE_LIFETIME, DevFiles, write_dev_files
from edge_certs.errors import CertificateError
from tests.certs.forge import forge
from tests.certs.handshake import handshake

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    return LocalAuthority.open(tmp_path_factory.mktemp("home"), NOW)


def write(authority: LocalAuthority, folder: Path, *names: str, now: datetime = NOW, dry_run: bool = False) -> DevFiles:
    return write_dev_files(authority, names, folder, now, dry_run=dry_run)


def test_files_serve_clients_that_trust_the_root(authority: LocalAuthority, tmp_path: Path) -> None:
    files = write(authority, tmp_path / "tls", "app.localhost", "127.0.0.1")
    assert (files.cert.name, files.key.name) == ("app.localhost.pem", "app.localhost.key")
    for name in ("app.localhost", "127.0.0.1"):
        handshake(authority.root_path, files.cert, files.key, name, strict=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority.root_path, files.cert, files.key, "www.example.com")
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert files.cert.stat().st_mode & 0o777 == 0o644
    assert files.certificate.not_after == NOW + FILE_LIFETIME


def test_second_time_they_stay_as_they_are(authority: LocalAuthority, tmp_path: Path) -> None:
    first = write(authority, tmp_path, "a.test", "b.test")
    content = first.cert.read_bytes()
    again = write(authority, tmp_path, "a.test", "b.test", "a.test")
    assert (first.is_new, again.is_new) == (True, False)
    assert first.cert.read_bytes() == content


@pytest.mark.parametrize(
    ("what", "is_new"), [("age", True), ("youth", False), ("names", True), ("damage", True), ("stranger", True)]
)
def test_what_will_not_do_is_made_anew(authority: LocalAuthority, tmp_path: Path, what: str, is_new: bool) -> None:
    first = write(authority, tmp_path, "a.test")
    now, names = NOW, ["a.test"]
    if what == "age":
        now += FILE_LIFETIME * 2 / 3 + timedelta(hours=1)
    elif what == "youth":
        now += FILE_LIFETIME * 2 / 3 - timedelta(hours=2)
    elif what == "names":
        names.append("b.test")
    elif what == "damage":
        first.key.write_bytes(b"")
    else:
        other = forge("a.test", dates=(NOW - timedelta(days=1), NOW + timedelta(days=60)))
        first.cert.write_bytes(other.pem)
        first.key.write_bytes(other.key_pem)
    assert write(authority, tmp_path, *names, now=now).is_new is is_new


def test_wildcard_has_a_file_name_without_an_asterisk(authority: LocalAuthority, tmp_path: Path) -> None:
    assert write(authority, tmp_path, "*.Shop.test").cert == tmp_path / "wildcard_.shop.test.pem"


def test_dry_run_writes_nothing(authority: LocalAuthority, tmp_path: Path) -> None:
    assert write(authority, tmp_path / "tls", "a.test", dry_run=True).is_new
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize("names", [(), ("www.example.com",), ("a.test", "8.8.8.8"), ("../a",)])
def test_names_that_cannot_be_are_refused_before_anything_is_written(
    authority: LocalAuthority, tmp_path: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(CertificateError):
        write(authority, tmp_path / "tls", *names)
    assert not (tmp_path / "tls").exists()
