"""Signed requests as ACME wants them (RFC 8555 section 6.2): flattened JSON, ES256 with the account's key.

Nothing here knows a server: a URL and a nonce come in, the content of a request comes out.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_certs.errors import CertificateError
from edge_certs.x509 import parse_key

CONTENT_TYPE = "application/jose+json"

# P-256: every authority takes ES256 (RFC 8555 section 6.2 makes it mandatory), and a coordinate has 32 octets.
COORDINATE_SIZE = 32

BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class AccountKey:
    """The private key that an ACME account is known by; never the key of a certificate that is served."""

    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> AccountKey:
        """Return a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def parse(cls, pem: bytes) -> AccountKey:
        """Return the key in the content of a PEM file.

        Raises CertificateError: there is no key in it, or not one on the curve P-256.
        """
        key, _ = parse_key(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CertificateError(
                "the key is not an ECDSA key on the curve P-256", "let edge make one: name a new file"
            )
        return cls(key)

    @property
    def pem(self) -> bytes:
        """The key as the PEM text that `parse` takes: a secret."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a JSON Web Key (RFC 7518 section 6.2.1)."""
        numbers = self._key.public_key().public_numbers()
        x, y = (encode_base64url(number.to_bytes(COORDINATE_SIZE, "big")) for number in (numbers.x, numbers.y))
        return {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    @property
    def thumbprint(self) -> str:
        """What names the public key in a challenge (RFC 7638)."""
        digest = Hash(SHA256())
        digest.update(_encode_json(self.jwk))
        return encode_base64url(digest.finalize())

    def authorize(self, token: str) -> str:
        """Return the key authorization for a challenge's `token` (RFC 8555 section 8.1)."""
        return f"{token}.{self.thumbprint}"

    def sign(self, data: bytes) -> bytes:
        """Return the ES256 signature of `data`: both numbers, 32 octets each (RFC 7518 section 3.4)."""
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(COORDINATE_SIZE, "big") + s.to_bytes(COORDINATE_SIZE, "big")


@dataclass(frozen=True, slots=True)
class Binding:
    """What an authority gives its customer, so that a new account becomes the customer's (RFC 8555 section 7.3.4)."""

    kid: str
    mac_key: bytes = field(repr=False)


def encode_request(key: AccountKey, payload: bytes, *, url: str, nonce: str, account: str | None) -> bytes:
    """Return the content of a POST of `payload` (empty for POST-as-GET) to `url`, signed by `key`.

    Without the URL of an `account` the key itself is in it, as newAccount wants, and revocation by a certificate's key.
    """
    signer: dict[str, object] = {"jwk": key.jwk} if account is None else {"kid": account}
    header = {"alg": "ES256", "nonce": nonce, "url": url, **signer}
    return _encode_json(_signed(header, payload, key))


def encode_binding(key: AccountKey, binding: Binding, url: str) -> dict[str, str]:
    """Return the `externalAccountBinding` of a newAccount to `url`: the account's public key under a MAC."""
    protected = encode_base64url(_encode_json({"alg": "HS256", "kid": binding.kid, "url": url}))
    payload = encode_base64url(_encode_json(key.jwk))
    mac = HMAC(binding.mac_key, SHA256())
    mac.update(f"{protected}.{payload}".encode("ascii"))
    return {"protected": protected, "payload": payload, "signature": encode_base64url(mac.finalize())}


def encode_key_change(old: AccountKey, new: AccountKey, *, account: str, url: str) -> dict[str, str]:
    """Return the payload of a keyChange to `url`: the new key's word that it takes over (RFC 8555 section 7.3.5)."""
    payload = _encode_json({"account": account, "oldKey": old.jwk})
    return _signed({"alg": "ES256", "jwk": new.jwk, "url": url}, payload, new)


def encode_base64url(data: bytes) -> str:
    """Return `data` in base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def parse_base64url(text: str) -> bytes:
    """Return the octets of base64url, with or without its padding.

    Raises CertificateError: another character is in it, or its length cannot be. The text, a key perhaps, is not shown.
    """
    digits = text.rstrip("=")
    # The library's decoder skips what it does not know: a key with a blank in it would become another key.
    if not BASE64URL.fullmatch(digits) or len(digits) % 4 == 1:
        raise CertificateError(f"{len(text)} characters that are not base64url", "copy it again, all of it")
    return urlsafe_b64decode(digits + "=" * (-len(digits) % 4))


def _signed(header: Mapping[str, object], payload: bytes, key: AccountKey) -> dict[str, str]:
    protected, content = encode_base64url(_encode_json(header)), encode_base64url(payload)
    signature = key.sign(f"{protected}.{content}".encode("ascii"))
    return {"protected": protected, "payload": content, "signature": encode_base64url(signature)}


def _encode_json(value: Mapping[str, object] | Mapping[str, str]) -> bytes:
    # Sorted and without blanks is also what RFC 7638 section 3 wants of a thumbprint.
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")
