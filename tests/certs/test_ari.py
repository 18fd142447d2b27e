from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from edge_certs.ari import Window, ask_again, choose_instant, encode_certificate_id, parse_window
from edge_certs.errors import CertificateError

START = datetime(2027, 1, 3, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())

# RFC 9773 section 4.1.
KEY_IDENTIFIER = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")


def certificate(serial: int, *extensions: x509.ExtensionType) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Example CA")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), serial)
    builder = builder.not_valid_before(START).not_valid_after(START + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, SHA256())


@pytest.mark.parametrize(
    ("serial", "encoded"),
    [(0x8765_4321, "AIdlQyE"), (0x0123, "ASM"), (0x80, "AIA"), (0x7F, "fw"), (0xFFFF, "AP__")],
)
def test_certificate_id_is_that_of_the_rfc(serial: int, encoded: str) -> None:
    identified = certificate(serial, x509.AuthorityKeyIdentifier(KEY_IDENTIFIER, None, None))
    assert encode_certificate_id(identified) == f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{encoded}"


@pytest.mark.parametrize(
    "extensions",
    [(), (x509.AuthorityKeyIdentifier(None, [x509.DNSName("ca.test")], 1),)],
)
def test_certificate_that_does_not_say_who_signed_it_has_no_id(extensions: tuple[x509.ExtensionType, ...]) -> None:
    with pytest.raises(CertificateError, match=r"^no authority key identifier in it; renew it by its dates$"):
        encode_certificate_id(certificate(1, *extensions))


def test_window_is_read_with_its_explanation() -> None:
    content = b'{"suggestedWindow": {"start": "2027-01-03T00:00:00Z", "end": "2027-01-03T03:00:00+02:00"}, '
    content += b'"explanationURL": "https://ca.test/incident"}'
    assert parse_window(content) == Window(START, START + timedelta(hours=1), "https://ca.test/incident")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"suggestedWindow": 1}',
        b'{"suggestedWindow": {"start": "2027-01-03T00:00:00Z"}}',
        b'{"suggestedWindow": {"start": "2027-01-03T00:00:00", "end": "2027-01-04T00:00:00"}}',
        b'{"suggestedWindow": {"start": "soon", "end": "later"}}',
        b'{"suggestedWindow": {"start": 1, "end": 2}}',
        b'{"suggestedWindow": {"start": "0001-01-01T00:00:00+14:00", "end": "2027-01-04T00:00:00Z"}}',
        b'{"suggestedWindow": {"start": "2027-01-03T00:00:00Z", "end": "9999-12-31T23:59:59-14:00"}}',
        b"[" * 200_000,
    ],
)
def test_answer_without_a_window_is_refused(content: bytes) -> None:
    with pytest.raises(CertificateError, match=r"^the renewal information is not a window; renew by the dates$"):
        parse_window(content)


def test_window_that_ends_before_it_starts_is_refused() -> None:
    content = b'{"suggestedWindow": {"start": "2027-01-03T00:00:01Z", "end": "2027-01-03T00:00:00Z"}}'
    with pytest.raises(CertificateError, match="ends before it starts"):
        parse_window(content)


def test_explanation_that_nobody_would_read_is_left_out() -> None:
    shown = {"start": "2027-01-03T00:00:00Z", "end": "2027-01-03T01:00:00Z"}
    content = json.dumps({"suggestedWindow": shown, "explanationURL": "https://ca.test/" + "x" * 2000}).encode()
    assert parse_window(content) == Window(START, START + timedelta(hours=1), "")


@pytest.mark.parametrize(("random", "hours"), [(0.0, 0), (0.25, 6), (1.0, 24)])
def test_instant_lies_in_the_window_where_the_random_number_says(random: float, hours: int) -> None:
    assert choose_instant(Window(START, START + timedelta(days=1), ""), random) == START + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (None, timedelta(hours=6)),
        (timedelta(0), timedelta(minutes=1)),
        (timedelta(hours=2), timedelta(hours=2)),
        (timedelta(days=400), timedelta(days=1)),
    ],
)
def test_window_is_asked_for_again_within_a_minute_and_a_day(said: timedelta | None, kept: timedelta) -> None:
    assert ask_again(said) == kept
