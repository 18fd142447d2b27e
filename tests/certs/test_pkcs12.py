from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    KeySerializationEncryption,
    NoEncryption,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from edge_certs.errors import CertificateError
from edge_certs.pkcs12 import parse_pkcs12, plain_pem
from edge_certs.x509 import read_certificate
from tests.certs.forge import AUTHORITY, NOW, Forged, forge

ROOT = forge(common_name="Root", extensions=[AUTHORITY])
MIDDLE = forge(common_name="Middle", extensions=[AUTHORITY], issuer=ROOT)
LEAF = forge("shop.example", issuer=MIDDLE)


def pack(password: str, *others: Forged) -> bytes:
    lock: KeySerializationEncryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    certificates = [other.certificate for other in others]
    return serialize_key_and_certificates(b"shop", LEAF.key, LEAF.certificate, certificates, lock)


@pytest.mark.parametrize("password", ["", "geheim"])
def test_chain_is_put_in_order_without_its_root(password: str) -> None:
    chain, key = parse_pkcs12(pack(password, ROOT, MIDDLE), password)
    assert chain == [LEAF.certificate, MIDDLE.certificate]
    assert plain_pem(key) == LEAF.key_pem


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", "PKCS#12 that is encrypted with a password; give its password with --key-password or EDGE_KEY_PASSWORD"),
        ("wrong", "the password does not open it; give its password with --key-password or EDGE_KEY_PASSWORD"),
    ],
)
def test_file_that_does_not_open_is_refused(password: str, message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        parse_pkcs12(pack("geheim"), password)
    assert str(caught.value) == message


def test_file_without_a_key_is_refused() -> None:
    content = serialize_key_and_certificates(None, None, LEAF.certificate, None, NoEncryption())
    with pytest.raises(CertificateError, match="PKCS#12 without a certificate that has its key; export both into it"):
        parse_pkcs12(content, "")


def test_certificate_is_read_with_its_key_from_one_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.p12"
    path.write_bytes(pack("geheim", MIDDLE))
    certificate = read_certificate(path, None, NOW, "geheim")
    assert certificate.names == ("shop.example",)
    assert certificate.key_path == path
    assert certificate.key_pem == LEAF.key_pem
    assert certificate.chain_pem.count(b"BEGIN CERTIFICATE") == 2
