from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from edge_certs.errors import CertificateError
from edge_certs.trust import root_files
from edge_certs.trust.root_files import read_root_files
from tests.certs.forge import AUTHORITY, DAY, NOW, forge

ROOT = forge(extensions=[AUTHORITY], common_name="Corp")
OTHER = forge(extensions=[AUTHORITY], common_name="Other")
EXPIRED = forge(extensions=[AUTHORITY], dates=(NOW - 2 * DAY, NOW - DAY))
LEAF = forge("shop.example", issuer=ROOT)
DER = ROOT.certificate.public_bytes(Encoding.DER)


def file_with(folder: Path, content: bytes, name: str = "corp.pem") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "subjects"),
    [
        (ROOT.pem, ("CN=Corp",)),
        (b"# both\n" + ROOT.pem + OTHER.pem + ROOT.pem, ("CN=Corp", "CN=Other")),
        (DER, ("CN=Corp",)),
        (serialize_certificates([ROOT.certificate], Encoding.DER), ("CN=Corp",)),
    ],
    ids=["pem", "several", "der", "pkcs7"],
)
def test_roots_come_in_each_form_that_trust_add_takes(
    content: bytes, subjects: tuple[str, ...], tmp_path: Path
) -> None:
    (found,) = read_root_files([file_with(tmp_path, content)], NOW)
    assert (found.subjects, len(found.source.certificates)) == (subjects, len(subjects))
    assert found.source.certificates[0] == DER
    assert found.source.name == str(tmp_path / "corp.pem")


def test_files_are_read_in_their_order(tmp_path: Path) -> None:
    paths = [file_with(tmp_path, OTHER.pem, "b.pem"), file_with(tmp_path, ROOT.pem, "a.pem")]
    assert [found.subjects for found in read_root_files(paths, NOW)] == [("CN=Other",), ("CN=Corp",)]
    assert read_root_files([], NOW) == ()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file; name a PEM file with the outbound CA"),
        (lambda path: path.mkdir(), "a directory, not a file; "),
        (lambda path: path.write_bytes(b""), "the file is empty; name the root certificate's own file"),
        (lambda path: path.write_bytes(b"garbage"), "not PEM: no line '-----BEGIN ...-----' in it; name the root"),
        (lambda path: path.write_bytes(ROOT.pem[:200]), "line 1: 'CERTIFICATE' begins and never ends; copy the file"),
        (lambda path: path.write_bytes(ROOT.pem + ROOT.key_pem), "there is a private key in it; name the certificate"),
        (lambda path: path.write_bytes(ROOT.key_pem), "there is a private key in it; name the certificate alone"),
        (lambda path: path.write_bytes(LEAF.pem), "'CN=Shop.Example': not an authority's certificate: it has neither"),
        (lambda path: path.write_bytes(ROOT.pem + EXPIRED.pem), "'CN=Shop.Example': expired at 2027-02-28T12:00Z, now"),
    ],
    ids=["missing", "folder", "empty", "garbage", "cut off", "with its key", "key", "leaf", "expired"],
)
def test_file_of_no_use_is_refused_in_one_line(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "corp.pem"
    make(path)
    with pytest.raises(CertificateError) as caught:
        read_root_files([path], NOW)
    message = str(caught.value)
    assert message.startswith(f"outbound CA {path}: {reason}")
    assert "\n" not in message
    assert "PRIVATE KEY-----" not in message


def test_root_that_expires_tomorrow_is_good_today(tmp_path: Path) -> None:
    path = file_with(tmp_path, forge(extensions=[AUTHORITY], dates=(NOW - DAY, NOW + timedelta(seconds=1))).pem)
    assert len(read_root_files([path], NOW)) == 1


@pytest.mark.parametrize(("version", "remarks"), [((3, 12), 0), ((3, 13), 3)])
def test_what_this_python_is_stricter_about_is_said(
    version: tuple[int, int], remarks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_with(tmp_path, ROOT.pem)
    monkeypatch.setattr("sys.version_info", version)
    (found,) = read_root_files([path], NOW)
    assert len(found.remarks) == remarks
    for remark in found.remarks:
        assert remark.startswith(f"outbound CA {path}: 'CN=Corp': ")
        assert remark.endswith("; ask for a new one, or start with --trust-strict off")


def test_certificate_that_openssl_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_with(tmp_path, ROOT.pem + OTHER.pem)
    monkeypatch.setattr(root_files, "find_unusable", lambda certificates: {DER})
    with pytest.raises(CertificateError, match="OpenSSL cannot read 1 of its certificates; leave them out"):
        read_root_files([path], NOW)
