from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
    pkcs12,
)

from edge_certs.trust.anchors import MAX_ANCHORS, AnchorRefused, fingerprint, parse_anchors
from tests.certs.forge import AUTHORITY, Forged, forge

ROOT = forge(extensions=[AUTHORITY])
OTHER = forge(extensions=[AUTHORITY])
DER = ROOT.certificate.public_bytes(Encoding.DER)
BOTH = [ROOT.certificate, OTHER.certificate]
BASE64 = base64.encodebytes(DER)

# What `openssl crl2pkcs7 -nocrl` writes when nothing is given.
EMPTY_PKCS7 = bytes.fromhex("302306092a864886f70d010702a01630140201013100300b06092a864886f70d0107013100")


def refusal(data: bytes) -> str:
    with pytest.raises(AnchorRefused) as caught:
        parse_anchors(data)
    message = str(caught.value)
    assert "\n" not in message
    return message


def relabelled(pem: bytes, label: bytes) -> bytes:
    return pem.replace(b"BEGIN CERTIFICATE", b"BEGIN " + label).replace(b"END CERTIFICATE", b"END " + label)


@pytest.mark.parametrize(
    "data",
    [
        ROOT.pem,
        b"Subject: Corp\r\n\r\n" + ROOT.pem.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + ROOT.pem,
        ROOT.pem.decode().encode("utf-16"),
        b"\xfe\xff" + ROOT.pem.decode().encode("utf-16-be"),
        relabelled(ROOT.pem, b"X509 CERTIFICATE"),
        relabelled(ROOT.pem, b"TRUSTED CERTIFICATE"),
        DER,
        BASE64,
        BASE64.replace(b"\n", b""),
        ROOT.pem + ROOT.pem,
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n" + ROOT.pem,
    ],
    ids=[
        "PEM", "preamble and CRLF", "UTF-8 mark", "UTF-16", "UTF-16 big-endian", "X509", "TRUSTED", "DER", "base64",
        "base64 in one line", "twice", "beside a revocation list",
    ],
)  # fmt: skip
def test_certificate_is_read_from(data: bytes) -> None:
    assert parse_anchors(data) == [ROOT.certificate]


@pytest.mark.parametrize(
    "data",
    [
        ROOT.pem + OTHER.pem,
        pkcs7.serialize_certificates(BOTH, Encoding.DER),
        pkcs7.serialize_certificates(BOTH, Encoding.PEM),
        pkcs7.serialize_certificates(BOTH, Encoding.PEM).replace(b"PKCS7", b"CMS"),
    ],
    ids=["PEM", "PKCS#7 DER", "PKCS#7 PEM", "CMS"],
)
def test_all_certificates_of_a_bundle_are_read(data: bytes) -> None:
    assert {fingerprint(item) for item in parse_anchors(data)} == {fingerprint(item) for item in BOTH}


def aux(der: bytes) -> bytes:
    return relabelled(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n",
        b"TRUSTED CERTIFICATE",
    )


def test_what_openssl_puts_behind_a_trusted_certificate_is_left_out() -> None:
    assert parse_anchors(aux(DER + b"\x30\x03\x0c\x01x")) == [ROOT.certificate]


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the tool openssl")
def test_trusted_certificate_that_openssl_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "in.pem").write_bytes(ROOT.pem)
    command = "openssl x509 -in in.pem -addtrust serverAuth -setalias Corp -trustout"
    done = subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    assert b"TRUSTED" in done.stdout
    assert parse_anchors(done.stdout) == [ROOT.certificate]


def test_serial_number_of_zero_is_taken_as_openssl_takes_it() -> None:
    der = DER.replace(encode_integer(ROOT.certificate.serial_number), b"\x02\x01\x00")
    shorter = shorten(der)
    assert parse_anchors(shorter)[0].public_bytes(Encoding.DER) == shorter


def encode_integer(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(content)]) + content


def shorten(der: bytes) -> bytes:
    """Return `der`, in which the serial number became shorter, with the lengths of both SEQUENCEs around it mended."""
    less = len(DER) - len(der)
    assert (der[1], der[5]) == (0x82, 0x81)
    outer = int.from_bytes(der[2:4], "big") - less
    return der[:2] + outer.to_bytes(2, "big") + der[4:6] + bytes([der[6] - less]) + der[7:]


def key_der(key: ec.EllipticCurvePrivateKey, *, password: bool) -> bytes:
    encryption = BestAvailableEncryption(b"secret") if password else NoEncryption()
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)


def pkcs12_of(root: Forged) -> bytes:
    return pkcs12.serialize_key_and_certificates(
        None, None, None, [root.certificate], BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty; name"),
        (b" \n", "the file is empty; name"),
        (b"hello", "not PEM: no line '-----BEGIN ...-----' in it; name"),
        (b"\x00\x01\x02" * 99, "not PEM: no line '-----BEGIN ...-----' in it; name"),
        ("hello".encode("utf-16"), "not PEM: no line '-----BEGIN ...-----' in it; name"),
        (ROOT.pem[:-20], "line 1: 'CERTIFICATE' begins and never ends; copy"),
        (b"\n" + ROOT.pem.replace(b"MII", b"MI!"), "line 2: what begins here is damaged; copy"),
        (ROOT.pem.replace(b"MII", b"AAA"), "line 1: what begins here is damaged; copy"),
        (aux(b""), "line 1: what begins here is damaged; copy"),
        (aux(b"\x30\x01"), "line 1: what begins here is damaged; copy"),
        (relabelled(ROOT.pem, b"PKCS7"), "line 1: what begins here is damaged; copy"),
        (ROOT.key_pem, "there is a private key in it; name the certificate alone"),
        (ROOT.pem + ROOT.key_pem, "there is a private key in it; name the certificate alone"),
        (relabelled(ROOT.pem, b"CERTIFICATE REQUEST"), "no certificate in it, but 'CERTIFICATE REQUEST'; name"),
        (DER[:-9], "neither a certificate nor PKCS#7, or damaged; name"),
        (b"A" * 65, "neither PEM nor DER nor base64; name"),
        (b"A" * 64, "neither a certificate nor PKCS#7, or damaged; name"),
        (pkcs12_of(ROOT), "PKCS#12, which is made for private keys; take the certificates out: openssl"),
        (EMPTY_PKCS7, "neither a certificate nor PKCS#7, or damaged; name"),
    ],
)
def test_what_is_no_certificate_is_refused(data: bytes, message: str) -> None:
    assert refusal(data).startswith(message)


@pytest.mark.parametrize("password", [False, True])
def test_key_in_der_is_refused_with_or_without_password(password: bool) -> None:
    assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
    assert refusal(key_der(ROOT.key, password=password)).startswith("a private key, not a certificate; name")


def test_no_message_shows_a_part_of_a_key() -> None:
    secret = ROOT.key_pem.splitlines()[1].decode()
    for data in (ROOT.key_pem, ROOT.key_pem[:-30], ROOT.pem + ROOT.key_pem):
        assert secret not in refusal(data)


def test_more_certificates_than_a_company_has_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    many = b"".join(signed(key, number) for number in range(MAX_ANCHORS + 1))
    assert refusal(many).startswith(f"{MAX_ANCHORS + 1} certificates, at most {MAX_ANCHORS} allowed; name")


def signed(key: ec.EllipticCurvePrivateKey, number: int) -> bytes:
    root = ROOT.certificate
    builder = x509.CertificateBuilder(root.subject, root.subject, key.public_key(), number + 1)
    builder = builder.not_valid_before(root.not_valid_before_utc).not_valid_after(root.not_valid_after_utc)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("cut", range(0, len(DER), 97))
def test_certificate_cut_anywhere_is_refused_in_one_line(cut: int) -> None:
    assert refusal(DER[:cut])
