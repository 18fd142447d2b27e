"""Parts of the master that need no running server: what it watches, names and makes."""

from __future__ import annotations

import os
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from edge.certificates import CertificateWatch, DevMaker, load_certificates
from edge.config_tls import CertificateFiles, TlsSettings
from edge.errors import ConfigError
from edge.net.listener import Listener
from edge.rundir import run_directory
from edge.status import describe
from edge_certs.errors import CertificateError
from edge_certs.x509 import read_certificate


class Files:
    """`site.pem` and `site.key`, as certificates are kept."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "site.pem", folder / "site.key"
        self.write()

    def write(self) -> None:
        """Write a new certificate and key over the old ones."""
        issued = trustme.CA().issue_cert("localhost")
        self.cert.write_bytes(issued.cert_chain_pems[0].bytes())
        self.key.write_bytes(issued.private_key_pem.bytes())

    def watch(self) -> CertificateWatch:
        """Return a watch that was told the certificate only."""
        watch = CertificateWatch([CertificateFiles(self.cert)])
        watch.follow([read_certificate(self.cert, None, datetime.now(UTC))])
        return watch


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_files_that_stay_are_no_news(files: Files) -> None:
    watch = files.watch()
    assert not watch.changed()
    files.cert.read_bytes()
    assert not watch.changed()


def test_change_is_told_once(files: Files) -> None:
    watch = files.watch()
    files.write()
    assert watch.changed()
    assert not watch.changed()


def test_key_that_was_found_by_itself_is_watched(files: Files) -> None:
    watch = files.watch()
    files.key.write_bytes(files.key.read_bytes() + b"\n")
    assert watch.changed()


def test_file_of_the_same_size_and_time_in_another_place_is_a_change(files: Files, tmp_path: Path) -> None:
    watch = files.watch()
    before = files.cert.stat()
    new = tmp_path / "new"
    new.write_bytes(files.cert.read_bytes())
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(files.cert)
    assert watch.changed()


def test_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Files(tmp_path / name)
    data = tmp_path / "data"
    data.symlink_to("one")
    watch = CertificateWatch([CertificateFiles(data / "site.pem", data / "site.key")])
    (tmp_path / "other").symlink_to("two")
    (tmp_path / "other").rename(data)
    assert watch.changed()


def test_file_that_goes_and_comes_is_news_twice(files: Files) -> None:
    watch = files.watch()
    content = files.cert.read_bytes()
    files.cert.unlink()
    assert watch.changed()
    files.cert.write_bytes(content)
    assert watch.changed()


def test_nothing_is_watched_without_files(files: Files) -> None:
    watch = CertificateWatch([])
    watch.follow([read_certificate(files.cert, None, datetime.now(UTC))])
    assert not watch.is_watching
    files.write()
    assert not watch.changed()


def test_run_directory_is_private_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        with run_directory() as directory:
            path = directory.path
            assert path.parent == Path(base)
            assert path.stat().st_mode & 0o777 == 0o700
            (path / "worker-0.sock").touch()
        assert list(Path(base).iterdir()) == []


@pytest.mark.parametrize(
    ("name", "found"), [("no", "no such file or directory"), ("x" * 90, r"its path has \d+ bytes, at most \d+ allowed")]
)
def test_run_directory_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
) -> None:
    base = tmp_path / name
    if name != "no":
        base.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with pytest.raises(ConfigError, match=f"{found}; set XDG_RUNTIME_DIR to a short path"), run_directory():
        pass
    assert not base.is_dir() or list(base.iterdir()) == []


def test_dev_certificate_is_for_localhost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path))
    certificate = DevMaker.open(TlsSettings(dev=True)).make("")
    assert {"localhost", "127.0.0.1", "::1"} <= set(certificate.names)
    assert (certificate.cert_path, certificate.key_path) == (None, None)


def test_bad_certificate_of_several_is_refused(files: Files, tmp_path: Path) -> None:
    several = (CertificateFiles(files.cert), CertificateFiles(tmp_path / "no.pem"))
    with pytest.raises(CertificateError, match=r"no\.pem: no such file"):
        load_certificates(TlsSettings(certificates=several))


@pytest.mark.parametrize(
    ("tls", "address", "port", "expected"),
    [
        (True, "127.0.0.1:443", 443, "https://127.0.0.1:443"),
        (False, "[::1]:80", 80, "http://[::1]:80"),
        (True, "unix:/run/edge.sock", None, "unix:/run/edge.sock"),
    ],
)
def test_listener_is_described_as_it_is_typed(tls: bool, address: str, port: int | None, expected: str) -> None:
    with socket.socket() as sock:
        assert describe(Listener(sock, tls, address, port)) == expected
