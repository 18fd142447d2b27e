from __future__ import annotations

import pytest

from edge_certs.errors import CertificateError
from edge_certs.pem import not_pem, parse_blocks

ONE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nBBBB\n-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "data",
    [
        ONE + KEY,
        (ONE + KEY).replace(b"\n", b"\r\n"),
        (ONE + KEY).replace(b"\n", b"  \n"),
        b"\xef\xbb\xbf" + ONE + KEY,
        b"# subject: CN=a\n" + ONE + b"issuer: \xff binary\n-----\n" + KEY + b"end",
        ONE.rstrip() + KEY,
    ],
    ids=["plain", "crlf", "trailing spaces", "byte order mark", "comments", "no newline between two files"],
)
def test_blocks_come_out_alike_however_they_are_written(data: bytes) -> None:
    blocks = parse_blocks(data)
    assert [(block.label, block.pem) for block in blocks] == [("CERTIFICATE", ONE), ("RSA PRIVATE KEY", KEY)]


def test_block_knows_the_line_where_it_begins() -> None:
    assert [block.line for block in parse_blocks(b"comment\n" + ONE + ONE)] == [2, 5]


def test_repr_of_a_block_does_not_show_its_content() -> None:
    [block] = parse_blocks(KEY)
    assert repr(block) == "Block(label='RSA PRIVATE KEY', line=1)"


@pytest.mark.parametrize("data", [b"", b"text", b"----- BEGIN -----", b"-----begin certificate-----"])
def test_text_without_blocks_has_none(data: bytes) -> None:
    assert parse_blocks(data) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ONE[:30], "line 1: 'CERTIFICATE' begins and never ends"),
        (ONE + ONE[:40], "line 4: 'CERTIFICATE' begins and never ends"),
        (ONE[:30] + b"\n" + ONE, "line 1: 'CERTIFICATE' begins and never ends"),
        (ONE[10:], "line 3: 'CERTIFICATE' ends without a beginning"),
        (ONE.replace(b"END CERT", b"END X509 CERT"), "line 3: 'X509 CERTIFICATE' ends without a beginning"),
    ],
)
def test_file_that_was_cut_off_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        parse_blocks(data)
    assert str(caught.value) == f"{message}; copy the file again, all of it"


def test_many_beginnings_without_an_end_are_refused_at_the_second() -> None:
    with pytest.raises(CertificateError, match="line 1: 'A' begins"):
        parse_blocks(b"-----BEGIN A-----\n" * 50_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty; write the PEM text into it"),
        (b" \r\n", "the file is empty; write the PEM text into it"),
        ("-----BEGIN".encode("utf-16"), "UTF-16 text, not PEM; save it as plain text in UTF-8"),
        (b"\xfe\xff\0-\0-", "UTF-16 text, not PEM; save it as plain text in UTF-8"),
        (
            b"\x30\x82\x09\x0a\x02\x01\x03\x30\x82",
            "PKCS#12, not PEM; convert it: openssl pkcs12 -in FILE -out FILE.pem -noenc",
        ),
        (
            b"\x30\x80\x02\x01\x03\x30",
            "PKCS#12, not PEM; convert it: openssl pkcs12 -in FILE -out FILE.pem -noenc",
        ),
        (
            b"\x30\x82\x03\x0a\x30\x82",
            "DER, not PEM; convert it: openssl x509 -inform der -in FILE -out FILE.pem",
        ),
        (b"<html>secret</html>", "not PEM: no line '-----BEGIN ...-----' in it; name another file"),
    ],
)
def test_what_is_not_pem_is_named(data: bytes, message: str) -> None:
    assert str(not_pem(data, "x509")) == message
