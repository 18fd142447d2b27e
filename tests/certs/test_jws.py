from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_certs.errors import CertificateError
from edge_certs.jws import (
    AccountKey,
    Binding,
    encode_base64url,
    encode_binding,
    encode_key_change,
    encode_request,
    parse_base64url,
)

# RFC 7515 appendix A.3: the key, what is signed, and a signature of it.
X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
SIGNING_INPUT = (
    b"eyJhbGciOiJFUzI1NiJ9."
    b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

# RFC 7515 appendix A.1: HS256.
MAC_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"


def rfc_key() -> AccountKey:
    secret = int.from_bytes(parse_base64url(D), "big")
    key = ec.derive_private_key(secret, ec.SECP256R1())
    return AccountKey.parse(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def verify(jwk: dict[str, str], signature: str, data: bytes) -> None:
    x, y = (int.from_bytes(parse_base64url(jwk[part]), "big") for part in ("x", "y"))
    octets = parse_base64url(signature)
    assert len(octets) == 64
    der = encode_dss_signature(int.from_bytes(octets[:32], "big"), int.from_bytes(octets[32:], "big"))
    ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key().verify(der, data, ec.ECDSA(SHA256()))


def opened(signed: dict[str, str], jwk: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    assert set(signed) == {"protected", "payload", "signature"}
    verify(jwk, signed["signature"], f"{signed['protected']}.{signed['payload']}".encode())
    return json.loads(parse_base64url(signed["protected"])), parse_base64url(signed["payload"])


def test_public_key_is_that_of_the_rfc() -> None:
    assert rfc_key().jwk == {"crv": "P-256", "kty": "EC", "x": X, "y": Y}


def test_signature_is_of_the_form_of_the_rfc() -> None:
    key = rfc_key()
    verify(key.jwk, SIGNATURE, SIGNING_INPUT)
    verify(key.jwk, encode_base64url(key.sign(SIGNING_INPUT)), SIGNING_INPUT)
    with pytest.raises(InvalidSignature):
        verify(key.jwk, encode_base64url(key.sign(SIGNING_INPUT)), SIGNING_INPUT + b"x")


def test_thumbprint_is_the_digest_of_the_required_members_in_order() -> None:
    # RFC 7638 section 3: for an EC key crv, kty, x, y, without blanks.
    digest = rfc_key().thumbprint
    assert digest == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"
    assert rfc_key().authorize("token") == f"token.{digest}"


def test_key_survives_its_pem_and_is_not_shown() -> None:
    key = AccountKey.generate()
    assert AccountKey.parse(key.pem).jwk == key.jwk
    assert repr(key) == "AccountKey()"
    assert repr(Binding("kid-1", b"secret")) == "Binding(kid='kid-1')"


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_key_of_another_kind_is_refused(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(CertificateError, match=r"^the key is not an ECDSA key on the curve P-256; let edge make one"):
        AccountKey.parse(pem)


def test_request_names_the_account_once_there_is_one() -> None:
    key = AccountKey.generate()
    content = encode_request(key, b'{"a":1}', url="https://ca.test/new", nonce="n1", account="https://ca.test/acct/1")
    header, payload = opened(json.loads(content), key.jwk)
    assert header == {"alg": "ES256", "kid": "https://ca.test/acct/1", "nonce": "n1", "url": "https://ca.test/new"}
    assert payload == b'{"a":1}'


def test_request_without_an_account_carries_the_key() -> None:
    key = AccountKey.generate()
    content = encode_request(key, b"", url="https://ca.test/new", nonce="n1", account=None)
    header, payload = opened(json.loads(content), key.jwk)
    assert header == {"alg": "ES256", "jwk": key.jwk, "nonce": "n1", "url": "https://ca.test/new"}
    assert payload == b""
    assert json.loads(content)["payload"] == ""


def test_binding_is_the_public_key_under_the_mac() -> None:
    key = AccountKey.generate()
    mac_key = parse_base64url(MAC_KEY)
    bound = encode_binding(key, Binding("kid-1", mac_key), "https://ca.test/acct")
    header = json.loads(parse_base64url(bound["protected"]))
    assert header == {"alg": "HS256", "kid": "kid-1", "url": "https://ca.test/acct"}
    assert json.loads(parse_base64url(bound["payload"])) == key.jwk
    mac = HMAC(mac_key, SHA256())
    mac.update(f"{bound['protected']}.{bound['payload']}".encode())
    mac.verify(parse_base64url(bound["signature"]))


def test_key_change_is_signed_by_the_new_key_and_names_the_old() -> None:
    old, new = AccountKey.generate(), AccountKey.generate()
    inner = encode_key_change(old, new, account="https://ca.test/acct/1", url="https://ca.test/change")
    header, payload = opened(inner, new.jwk)
    assert header == {"alg": "ES256", "jwk": new.jwk, "url": "https://ca.test/change"}
    assert json.loads(payload) == {"account": "https://ca.test/acct/1", "oldKey": old.jwk}


@pytest.mark.parametrize(
    ("data", "text"), [(b"", ""), (b"\xff", "_w"), (b"\xfb\xef", "--8"), (b"\x03\xec\xff\xe0\xc1", "A-z_4ME")]
)
def test_base64url_has_no_padding_and_takes_it(data: bytes, text: str) -> None:
    assert encode_base64url(data) == text
    assert parse_base64url(text) == parse_base64url(text + "=" * (-len(text) % 4)) == data


@pytest.mark.parametrize("text", ["a+b/", "ab cd", "abcde", "secret\n", "ä", "=a"])
def test_text_that_is_not_base64url_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(CertificateError, match=r"^\d+ characters that are not base64url; copy it again") as caught:
        parse_base64url(text)
    assert text not in str(caught.value)
