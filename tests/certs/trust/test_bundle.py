from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError
from edge_certs.trust import bundle
from edge_certs.trust.bundle import Source, encode_bundle, encode_pem, read_base, read_named_source, read_source
from tests.certs.forge import AUTHORITY, forge, ordinary_user

ROOT = forge(extensions=[AUTHORITY])
OTHER = forge(extensions=[AUTHORITY])
DER, OTHER_DER = (item.certificate.public_bytes(Encoding.DER) for item in (ROOT, OTHER))
BEGIN = "-----BEGIN CERTIFICATE-----"


def count(pem: bytes) -> int:
    """Return how many certificates OpenSSL finds in a bundle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem.decode())
    return len(context.get_ca_certs())


def test_certificate_is_written_as_openssl_writes_it() -> None:
    assert encode_pem(DER) + "\n" == ROOT.pem.decode()


def test_each_certificate_is_there_once_under_a_header_that_names_all_sources() -> None:
    content = encode_bundle([Source("here", (DER, DER)), Source("there", (OTHER_DER, DER))])
    assert count(content) == content.decode().count(BEGIN) == 2
    header = content.decode().partition(BEGIN)[0].splitlines()
    assert header[0].startswith("# Made by edge trust: 2 certificates.")
    assert header[1:] == ["# 1 from here", "# 2 from there"]


def test_order_does_not_depend_on_where_certificates_were_found() -> None:
    one = encode_bundle([Source("a", (DER, OTHER_DER))])
    assert one == encode_bundle([Source("a", (OTHER_DER, DER))])


def test_nothing_makes_an_empty_bundle() -> None:
    assert BEGIN.encode() not in encode_bundle([])


def test_roots_of_certifi_are_all_there() -> None:
    [source] = read_base("certifi")
    assert count(encode_bundle([source])) == count(Path(certifi.where()).read_bytes())


def test_none_is_no_root_at_all() -> None:
    assert read_base("none") == []


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the roots of a system, which is not that of this machine."""
    path = tmp_path / "ca-bundle.crt"
    path.write_bytes(ROOT.pem)
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", (str(tmp_path / "nosuch"), str(path)))
    return path


def test_system_is_the_first_file_that_is_there(system: Path) -> None:
    assert read_base("system") == [Source(f"the system's {system}", (DER,))]


def test_both_are_both(system: Path) -> None:
    names = [source.name for source in read_base("both")]
    assert names == [f"the system's {system}", "certifi"]


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", ())
    paths = ssl.get_default_verify_paths()._replace(openssl_cafile="/nosuch")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)


def test_system_without_a_file_is_refused_when_it_is_asked_for_alone(no_system: None) -> None:
    with pytest.raises(CertificateError, match=r"no file with this system's roots, looked for .*; use --base certifi"):
        read_base("system")


def test_system_without_a_file_leaves_certifi(no_system: None) -> None:
    assert [source.name for source in read_base("both")] == ["certifi"]


def test_variable_of_the_operator_is_not_taken_for_the_system(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = system.with_name("own.pem")
    own.write_bytes(OTHER.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert read_base("system")[0].certificates == (DER,)


def test_file_of_the_operator_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(b"# ours\n" + ROOT.pem + OTHER.pem)
    assert read_source("own", tmp_path / "own.pem").certificates == (DER, OTHER_DER)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN X-----\nAAAA\n-----END X-----\n", ROOT.pem[:-9]])
def test_file_without_certificates_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    path.write_bytes(content)
    with pytest.raises(CertificateError, match=f"^bundle {path}: "):
        read_source("own", path)


def test_folder_is_read_whatever_else_lies_there_and_of_a_variable_what_openssl_finds(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(OTHER.pem)
    (tmp_path / "0a1b2c3d.0").symlink_to("b")
    (tmp_path / "a.pem").write_bytes(ROOT.pem)
    (tmp_path / "0a1b2c3d.1").write_bytes(ROOT.pem[:-9])
    (tmp_path / "0a1b2c3d.2").symlink_to("nosuch")
    (tmp_path / "0a1b2c3d.3").mkdir()
    os.mkfifo(tmp_path / "0a1b2c3d.4")
    assert read_source("own", tmp_path).certificates == (OTHER_DER, DER, OTHER_DER)
    assert read_named_source("own", tmp_path).certificates == (OTHER_DER,)


@pytest.mark.parametrize("inside", ["", "own.pem"])
def test_folder_that_is_closed_to_us_is_one_line(inside: str, open_folder: Path) -> None:
    folder = open_folder / "closed"
    folder.mkdir(0)
    with (
        ordinary_user(),
        pytest.raises(CertificateError, match=r"closed[^:]*: permission denied; let .*user.* read it$"),
    ):
        read_named_source("own", folder / inside)
