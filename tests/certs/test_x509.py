from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from edge_certs.errors import CertificateError
from edge_certs.x509 import (
    Certificate,
    check_dates,
    describe,
    is_authority,
    parse_chain,
    parse_key,
    read_certificate,
    show_time,
)
from tests.certs.forge import AUTHORITY, DAY, NOW, Forged, PrivateKey, forge

SECOND = timedelta(seconds=1)
LEAF = x509.BasicConstraints(ca=False, path_length=None)

# id-ecPublicKey (RFC 5480 section 2.1.1), and a neighbour of it that means nothing.
OID_EC_KEY = bytes.fromhex("06072a8648ce3d0201")
OID_UNKNOWN = bytes.fromhex("06072a8648ce3d0209")

COPY_AGAIN = "copy the file again, all of it"
USABLE = "use ECDSA on P-256, P-384 or P-521, RSA from 2048 bits, or Ed25519"


@pytest.fixture(scope="module")
def root() -> Forged:
    return forge(extensions=[AUTHORITY])


@pytest.fixture(scope="module")
def leaf(root: Forged) -> Forged:
    return forge("shop.example", issuer=root)


def write(folder: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_bytes(content)


def refusal(cert: Path, key: Path | None = None) -> str:
    """Return the message with which `cert` is refused, its folder left out."""
    with pytest.raises(CertificateError) as caught:
        read_certificate(cert, key, NOW)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{cert.parent}/", "")


# What is accepted


def test_certificate_is_read_with_its_key_and_chain(tmp_path: Path, root: Forged, leaf: Forged) -> None:
    write(tmp_path, fullchain_pem=leaf.pem + root.pem, privkey_pem=leaf.key_pem)
    assert read_certificate(tmp_path / "fullchain.pem", None, NOW) == Certificate(
        cert_path=tmp_path / "fullchain.pem",
        key_path=tmp_path / "privkey.pem",
        chain_pem=leaf.pem + root.pem,
        key_pem=leaf.key_pem,
        names=("shop.example",),
        key_type="ecdsa",
        not_before=NOW - DAY,
        not_after=NOW + 30 * DAY,
        fingerprint=leaf.certificate.fingerprint(SHA256()).hex(),
    )


def test_key_file_that_is_named_is_taken_instead_of_the_one_beside(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, site_pem=leaf.pem, site_key=b"not this", other_key=leaf.key_pem)
    assert read_certificate(tmp_path / "site.pem", tmp_path / "other.key", NOW).key_path == tmp_path / "other.key"


def test_combined_file_with_the_key_first_comments_and_crlf(tmp_path: Path, root: Forged, leaf: Forged) -> None:
    text = leaf.key_pem + b"# the server's own\n" + leaf.pem + b"issuer: CN=Root\n" + root.pem
    write(tmp_path, all_pem=text.replace(b"\n", b"\r\n"))
    found = read_certificate(tmp_path / "all.pem", None, NOW)
    assert (found.chain_pem, found.key_pem) == (leaf.pem + root.pem, leaf.key_pem)
    assert found.cert_path == found.key_path == tmp_path / "all.pem"


def test_key_in_its_old_form_after_its_parameters(tmp_path: Path, leaf: Forged) -> None:
    old = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    write(tmp_path, a_pem=leaf.pem, a_key=parameters + old)
    assert read_certificate(tmp_path / "a.pem", None, NOW).key_pem == old


def test_old_label_of_a_certificate_is_understood(leaf: Forged) -> None:
    [certificate] = parse_chain(leaf.pem.replace(b" CERTIFICATE", b" X509 CERTIFICATE"))
    assert certificate == leaf.certificate


def test_self_signed_certificate_that_calls_itself_an_authority_is_accepted(tmp_path: Path) -> None:
    # What `openssl req -x509` makes.
    own = forge("shop.example", extensions=[AUTHORITY])
    write(tmp_path, a_pem=own.pem, a_key=own.key_pem)
    assert read_certificate(tmp_path / "a.pem", None, NOW).names == ("shop.example",)


@pytest.mark.parametrize(
    ("key", "key_type"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa"),
        (rsa.generate_private_key(65537, 2048), "rsa"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_usable_key_loads_into_a_tls_context(tmp_path: Path, key: PrivateKey, key_type: str) -> None:
    own = forge("shop.example", key=key)
    write(tmp_path, a_pem=own.pem, a_key=own.key_pem)
    found = read_certificate(tmp_path / "a.pem", None, NOW)
    assert found.key_type == key_type
    write(tmp_path, both_pem=found.key_pem + found.chain_pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "both.pem")


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["Shop.Example", "*.shop.example"], ("shop.example", "*.shop.example")),
        (["127.0.0.1", "b.test", "2001:DB8:0:0::1"], ("b.test", "127.0.0.1", "2001:db8::1")),
        (["a.test", "A.test"], ("a.test",)),
        ([], ("shop.example",)),
    ],
    ids=["hosts in lower case", "addresses after hosts", "each once", "common name for want of others"],
)
def test_names_of_a_certificate(asked: list[str], names: tuple[str, ...]) -> None:
    own = forge(*asked)
    assert describe([own.certificate], own.key_pem, None, None).names == names


def test_names_without_any(root: Forged) -> None:
    own = forge(extensions=[x509.SubjectAlternativeName([x509.RFC822Name("a@shop.example")])])
    assert describe([own.certificate], own.key_pem, None, None).names == ()


def test_repr_does_not_show_the_key(leaf: Forged) -> None:
    shown = repr(describe([leaf.certificate], leaf.key_pem, None, None))
    assert "shop.example" in shown
    assert "PRIVATE" not in shown
    assert leaf.key_pem.splitlines()[1].decode() not in shown


# Files that hold something else


@pytest.mark.parametrize("what", ["cert", "key"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the file is empty; write the PEM text into it"),
        (b"hello", "not PEM: no line '-----BEGIN ...-----' in it; name another file"),
        (b"-----BEGIN PRIVATE KEY-----\nAA", f"line 1: 'PRIVATE KEY' begins and never ends; {COPY_AGAIN}"),
    ],
    ids=["empty", "text", "cut off"],
)
def test_file_that_is_not_pem_is_refused(tmp_path: Path, leaf: Forged, what: str, content: bytes, found: str) -> None:
    write(tmp_path, a_pem=leaf.pem if what == "key" else content, a_key=leaf.key_pem if what == "cert" else content)
    subject = "certificate a.pem" if what == "cert" else "key a.key"
    assert refusal(tmp_path / "a.pem") == f"{subject}: {found}"


def test_certificate_as_der_is_refused(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, a_crt=leaf.certificate.public_bytes(Encoding.DER))
    assert refusal(tmp_path / "a.crt") == (
        "certificate a.crt: DER, not PEM; convert it: openssl x509 -inform der -in FILE -out FILE.pem"
    )


def test_key_as_der_is_refused(tmp_path: Path, leaf: Forged) -> None:
    der = leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    write(tmp_path, a_pem=leaf.pem, a_key=der)
    assert refusal(tmp_path / "a.pem") == (
        "key a.key: DER, not PEM; convert it: openssl pkey -inform der -in FILE -out FILE.pem"
    )


def test_missing_certificate_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.pem") == "certificate a.pem: no such file; name a PEM file with the certificate"


def test_missing_key_file_is_refused(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, a_pem=leaf.pem)
    assert refusal(tmp_path / "a.pem", tmp_path / "b.key") == "key b.key: no such file; name a PEM file with the key"


def test_certificate_without_a_key_anywhere_is_refused(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, a_crt=leaf.pem)
    assert refusal(tmp_path / "a.crt") == (
        "certificate a.crt: no private key inside it, and no file a.key; name the key file with --key"
    )


def test_key_in_the_place_of_the_certificate_is_refused(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, a_key=leaf.key_pem)
    assert refusal(tmp_path / "a.key") == (
        "certificate a.key: no certificate in it, but 'PRIVATE KEY'; "
        "name the certificate with --cert and the key with --key"
    )


def test_certificate_request_in_the_place_of_the_certificate_is_refused(tmp_path: Path) -> None:
    request = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    write(tmp_path, a_pem=request)
    assert refusal(tmp_path / "a.pem") == (
        "certificate a.pem: no certificate in it, but 'CERTIFICATE REQUEST'; "
        "name the file with the certificate that the authority sent"
    )


def test_certificate_in_the_place_of_the_key_is_refused(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, a_pem=leaf.pem, a_key=leaf.pem + leaf.pem)
    assert refusal(tmp_path / "a.pem") == (
        "key a.key: no private key in it, but 'CERTIFICATE'; name the key file with --key"
    )


def test_damaged_certificate_is_refused_by_its_line(tmp_path: Path, leaf: Forged) -> None:
    lines = leaf.pem.splitlines(keepends=True)
    write(tmp_path, a_pem=leaf.pem + b"".join(lines[:2] + lines[3:]))
    assert refusal(tmp_path / "a.pem") == (
        f"certificate a.pem: line {len(lines) + 1}: the certificate that begins here is damaged; {COPY_AGAIN}"
    )


def test_damaged_key_is_refused_without_a_word_of_it(tmp_path: Path, leaf: Forged) -> None:
    lines = leaf.key_pem.splitlines(keepends=True)
    write(tmp_path, a_pem=leaf.pem, a_key=b"\n" + b"".join(lines[:1] + lines[2:]))
    message = refusal(tmp_path / "a.pem")
    assert message == f"key a.key: line 2: the private key that begins here is damaged or of an unknown kind; {USABLE}"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key_is_refused(tmp_path: Path, leaf: Forged, form: PrivateFormat) -> None:
    locked = leaf.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"password"))
    write(tmp_path, a_pem=leaf.pem, a_key=locked)
    assert refusal(tmp_path / "a.pem") == (
        "key a.key: the private key is encrypted with a password, which edge cannot ask for; give it with "
        "--key-password or EDGE_KEY_PASSWORD, or write it without one, readable by this user only: "
        "openssl pkey -in FILE -out FILE.key"
    )


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key_is_opened_by_its_password(tmp_path: Path, leaf: Forged, form: PrivateFormat) -> None:
    locked = leaf.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"password"))
    write(tmp_path, a_pem=leaf.pem, a_key=locked)
    certificate = read_certificate(tmp_path / "a.pem", None, NOW, "password")
    assert b"ENCRYPTED" not in certificate.key_pem
    assert parse_key(certificate.key_pem)[0].public_key() == leaf.key.public_key()
    with pytest.raises(CertificateError, match="the password does not open the private key; check --key-password"):
        read_certificate(tmp_path / "a.pem", None, NOW, "passw0rd")


def test_password_changes_nothing_about_a_key_that_is_not_encrypted(tmp_path: Path, leaf: Forged) -> None:
    write(tmp_path, a_pem=leaf.pem, a_key=leaf.key_pem)
    assert read_certificate(tmp_path / "a.pem", None, NOW, "password").key_pem == leaf.key_pem


# Files that do not belong together


def test_key_of_another_certificate_is_refused_with_both_files(tmp_path: Path, leaf: Forged, root: Forged) -> None:
    write(tmp_path, a_pem=leaf.pem + root.pem, a_key=forge().key_pem)
    assert refusal(tmp_path / "a.pem") == (
        "certificate a.pem: the key in a.key does not belong to it; name the key it was made with by --key"
    )


@pytest.mark.parametrize("key_fits", [True, False])
def test_chain_with_the_authority_first_is_refused(tmp_path: Path, leaf: Forged, root: Forged, key_fits: bool) -> None:
    key_pem = leaf.key_pem if key_fits else forge().key_pem
    write(tmp_path, a_pem=root.pem + root.pem + leaf.pem, a_key=key_pem)
    assert refusal(tmp_path / "a.pem") == (
        "certificate a.pem: the chain is in the wrong order: the server's own certificate is number 3 of 3; "
        "put it first, then the one that signed it, and so on"
    )


def test_authority_alone_with_the_key_of_a_leaf_is_refused(tmp_path: Path, leaf: Forged, root: Forged) -> None:
    # certbot's chain.pem beside privkey.pem.
    write(tmp_path, chain_pem=root.pem, privkey_pem=leaf.key_pem)
    assert refusal(tmp_path / "chain.pem", tmp_path / "privkey.pem") == (
        "certificate chain.pem: the key in privkey.pem does not belong to it; name the key it was made with by --key"
    )


# Dates


def test_expired_certificate_is_refused_with_its_date(tmp_path: Path) -> None:
    own = forge("shop.example", dates=(NOW - 90 * DAY, NOW - DAY))
    write(tmp_path, a_pem=own.pem, a_key=own.key_pem)
    assert refusal(tmp_path / "a.pem") == (
        "certificate a.pem: expired at 2027-02-28T12:00Z, now is 2027-03-01T12:00Z; renew it"
    )


def test_certificate_from_the_future_is_refused_with_its_date(tmp_path: Path) -> None:
    own = forge("shop.example", dates=(NOW + DAY, NOW + 90 * DAY))
    write(tmp_path, a_pem=own.pem, a_key=own.key_pem)
    assert refusal(tmp_path / "a.pem") == (
        "certificate a.pem: not valid before 2027-03-02T12:00Z, now is 2027-03-01T12:00Z; "
        "check the clock, or wait until then"
    )


@pytest.mark.parametrize("dates", [(NOW, NOW + DAY), (NOW - DAY, NOW)], ids=["first", "last"])
def test_first_and_last_second_are_within_the_dates(dates: tuple[datetime, datetime]) -> None:
    check_dates(forge(dates=dates).certificate, NOW)


@pytest.mark.parametrize(
    ("dates", "found"),
    [((NOW + SECOND, NOW + DAY), "not valid before"), ((NOW - DAY, NOW - SECOND), "expired at")],
)
def test_seconds_around_them_are_not(dates: tuple[datetime, datetime], found: str) -> None:
    with pytest.raises(CertificateError, match=found):
        check_dates(forge(dates=dates).certificate, NOW)


def test_time_is_shown_to_the_minute_in_utc() -> None:
    assert show_time(datetime(2026, 3, 2, 14, 0, 59, tzinfo=UTC)) == "2026-03-02T14:00Z"


# Keys that no client takes


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (rsa.generate_private_key(65537, 1024), "its RSA key has 1024 bits"),
        (ec.generate_private_key(ec.SECP256K1()), "its key is on the curve secp256k1"),
        (ed448.Ed448PrivateKey.generate(), "its key is of the kind Ed448PublicKey"),
    ],
    ids=["RSA-1024", "secp256k1", "Ed448"],
)
def test_key_that_clients_refuse_is_refused(tmp_path: Path, key: PrivateKey, found: str) -> None:
    own = forge("shop.example", key=key)
    write(tmp_path, a_pem=own.pem, a_key=own.key_pem)
    assert refusal(tmp_path / "a.pem") == (
        f"certificate a.pem: {found}, which clients or TLS libraries refuse; {USABLE}"
    )


def test_issuer_with_a_key_of_an_unknown_kind_does_not_hide_the_mismatch(tmp_path: Path, leaf: Forged) -> None:
    der = forge().certificate.public_bytes(Encoding.DER).replace(OID_EC_KEY, OID_UNKNOWN)
    unknown = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    write(tmp_path, a_pem=leaf.pem + unknown, a_key=forge().key_pem)
    assert "the key in a.key does not belong to it" in refusal(tmp_path / "a.pem")


# Extensions


@pytest.mark.parametrize(("extensions", "verdict"), [([AUTHORITY], True), ([LEAF], False), ([], False)])
def test_authority_is_what_the_basic_constraints_say(extensions: list[x509.ExtensionType], verdict: bool) -> None:
    assert is_authority(forge(extensions=extensions).certificate) is verdict


@pytest.mark.parametrize("oid", [x509.SubjectAlternativeName.oid, x509.BasicConstraints.oid])
def test_damaged_extension_is_refused(tmp_path: Path, oid: x509.ObjectIdentifier) -> None:
    own = forge(extensions=[x509.UnrecognizedExtension(oid, b"\x30\x7f")])
    write(tmp_path, a_pem=own.pem, a_key=own.key_pem)
    message = refusal(tmp_path / "a.pem")
    assert message.startswith("certificate a.pem: an extension is damaged: ")
    assert message.endswith("; ask its authority for another")


def test_damaged_extension_of_a_possible_authority_is_refused() -> None:
    own = forge(extensions=[x509.UnrecognizedExtension(x509.BasicConstraints.oid, b"\x30\x7f")])
    with pytest.raises(CertificateError, match="an extension is damaged"):
        is_authority(own.certificate)


def test_first_key_of_several_is_taken(leaf: Forged, root: Forged) -> None:
    assert parse_key(leaf.key_pem + root.key_pem)[1] == leaf.key_pem
