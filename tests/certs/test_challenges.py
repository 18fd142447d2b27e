from __future__ import annotations

import os
import stat
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509

from edge_certs.challenges import (
    ACME_IDENTIFIER,
    DNS_01,
    HTTP_01,
    TLS_ALPN_01,
    Challenge,
    ChallengeStore,
    check_token,
    encode_alpn_certificate,
    server_name,
)
from edge_certs.errors import CertificateError
from edge_certs.x509 import parse_chain, parse_key
from tests.certs.forge import NOW

ANSWER = "token-1.thumbprint"
HTTP = Challenge(HTTP_01, "shop.example", "token-1", ANSWER)
ALPN = Challenge(TLS_ALPN_01, "shop.example", "token-1", ANSWER)


def test_record_is_the_digest_under_the_name() -> None:
    # RFC 8555 section 8.4: base64url of the SHA-256, 43 characters.
    challenge = Challenge(DNS_01, "shop.example", "t", "a.b")
    name, text = challenge.record
    assert name == "_acme-challenge.shop.example"
    assert text == "LnM23I66h-9HLfVow1SCq_JXXcPl6sDFxiuP-urCyTQ"
    assert challenge.digest == sha256(b"a.b").digest()
    assert "a.b" not in repr(challenge)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("shop.example", "shop.example"),
        ("127.0.0.1", "1.0.0.127.in-addr.arpa"),
        ("2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_server_name_of_an_address_is_its_reverse_name(name: str, host: str) -> None:
    assert server_name(name) == host


@pytest.mark.parametrize("name", ["shop.example", "192.0.2.1"])
def test_alpn_certificate_shows_the_digest(name: str) -> None:
    content = encode_alpn_certificate(Challenge(TLS_ALPN_01, name, "token-1", ANSWER), NOW)
    (certificate,) = parse_chain(content)
    key, _ = parse_key(content)
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc < NOW - timedelta(days=1) < NOW + timedelta(days=1)
    assert certificate.not_valid_after_utc > NOW + timedelta(days=1)
    proof = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    assert proof.critical
    assert isinstance(proof.value, x509.UnrecognizedExtension)
    assert proof.value.value == b"\x04\x20" + sha256(ANSWER.encode()).digest()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert [str(general.value) for general in names.value] == [name]


def test_answer_to_http_is_found_any_number_of_times_until_it_is_removed(tmp_path: Path) -> None:
    store = ChallengeStore(tmp_path / "challenges")
    store.put(HTTP, NOW)
    assert [store.find_http("token-1") for _ in range(3)] == [ANSWER.encode()] * 3
    assert store.find_http("token-2") is None
    mode = (tmp_path / "challenges/http-01/token-1").stat().st_mode
    assert stat.S_IMODE(mode) == 0o640  # in folders that are closed, unless they are shared
    assert stat.S_IMODE((tmp_path / "challenges").stat().st_mode) == 0o700
    store.remove(HTTP)
    store.remove(HTTP)
    assert store.find_http("token-1") is None


def test_answers_are_the_groups_that_they_are_shared_with(tmp_path: Path) -> None:
    store = ChallengeStore(tmp_path / "challenges")
    group = next((number for number in os.getgroups() if number != os.getegid()), 54321 if not os.geteuid() else None)
    if group is None:
        pytest.skip("needs root, or a second group")
    store.share(group)
    store.share(group)
    store.put(HTTP, NOW)
    store.put(ALPN, NOW)
    for path in ("", "http-01", "tls-alpn-01"):
        status = (store.folder / path).stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (group, 0o750)
    for path in ("http-01/token-1", "tls-alpn-01/shop.example.pem"):
        status = (store.folder / path).stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (group, 0o640)


def test_folder_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "challenges").write_text("a file")
    with pytest.raises(CertificateError, match=r"challenges"):
        ChallengeStore(tmp_path / "challenges").share(os.getegid())


def test_certificate_for_a_server_name_is_found_until_it_is_removed(tmp_path: Path) -> None:
    store = ChallengeStore(tmp_path / "challenges")
    store.put(ALPN, NOW)
    path = store.find_alpn("Shop.Example")
    assert path == tmp_path / "challenges/tls-alpn-01/shop.example.pem"
    assert len(parse_chain(path.read_bytes())) == 1
    assert store.find_alpn("other.example") is None
    store.remove(ALPN)
    assert store.find_alpn("shop.example") is None


@pytest.mark.parametrize("path", ["../secret", "..", "", "a/b", "a.pem", "a\0b", "x" * 129])
def test_client_cannot_ask_for_another_file(tmp_path: Path, path: str) -> None:
    store = ChallengeStore(tmp_path / "challenges")
    store.put(HTTP, NOW)
    store.put(ALPN, NOW)
    (tmp_path / "challenges/secret").write_text("secret")
    (tmp_path / "challenges/secret.pem").write_text("secret")
    assert store.find_http(path) is None
    assert store.find_alpn(path) is None


@pytest.mark.parametrize("token", ["../../etc/passwd", "", "a b", "a.b", "x" * 129, None, 7])
def test_token_that_could_leave_the_folder_is_refused(token: object) -> None:
    with pytest.raises(CertificateError, match=r"^the authority sent the token '.*': not base64url; try again later$"):
        check_token(token)


def test_answer_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    store = ChallengeStore(tmp_path)
    (tmp_path / "http-01/token-1").mkdir(parents=True)
    with pytest.raises(CertificateError, match=r"^cannot remove .*/http-01/token-1: .*; give this user the right"):
        store.remove(HTTP)


def test_what_a_crash_left_behind_goes_after_a_week(tmp_path: Path) -> None:
    store = ChallengeStore(tmp_path)
    store.sweep(NOW)
    for number, (kind, age) in enumerate([(HTTP_01, 8), (HTTP_01, 6), (TLS_ALPN_01, 8), (TLS_ALPN_01, 6)]):
        challenge = Challenge(kind, f"{number}.example", f"token-{number}", "answer")
        store.put(challenge, NOW)
        instant = (NOW - timedelta(days=age)).timestamp()
        for path in tmp_path.rglob(f"*{number}*"):
            os.utime(path, (instant, instant))
    store.sweep(NOW)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["3.example.pem", "token-1"]
