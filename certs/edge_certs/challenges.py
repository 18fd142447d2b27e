"""How this server proves that a name leads to it: the challenges, and the files that hold the answers.

An answer is on the disk before the authority is told to look: any edge process can give it, and any number of times,
because an authority looks from several places at once.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_certs.csr import is_address
from edge_certs.errors import CertificateError, place, reason
from edge_certs.files import WRITE_ADVICE, make_private_folder, write_shared
from edge_certs.jws import encode_base64url

HTTP_01 = "http-01"
TLS_ALPN_01 = "tls-alpn-01"
DNS_01 = "dns-01"
DNS_PERSIST_01 = "dns-persist-01"
KINDS = (HTTP_01, TLS_ALPN_01, DNS_01, DNS_PERSIST_01)

# RFC 8737 section 3: the identifier of acmeIdentifier, and a DER OCTET STRING of 32 octets opens with this.
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
OCTET_STRING_32 = b"\x04\x20"

# A validation takes seconds; a clock that is some hours off must not spoil it.
ALPN_LIFETIME = timedelta(days=7)

# RFC 8555 section 8.1: base64url. The token becomes a file's name: a slash or a dot in it would leave the folder.
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One proof to give: of `kind`, for `name` (without the `*.` of a wildcard); `answer` is the key authorization."""

    kind: str
    name: str
    token: str
    answer: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the answer, which DNS-01 and TLS-ALPN-01 show."""
        digest = Hash(SHA256())
        digest.update(self.answer.encode("ascii"))
        return digest.finalize()

    @property
    def record(self) -> tuple[str, str]:
        """The name and the text of the TXT record that answers a challenge in the DNS (RFC 8555 section 8.4)."""
        if self.kind == DNS_PERSIST_01:
            return f"_validation-persist.{self.name}", self.answer
        return f"_acme-challenge.{self.name}", encode_base64url(self.digest)


def encode_persistent(issuer: str, account: str, *, is_wildcard: bool) -> str:
    """Return the text of the standing record for dns-persist-01 (draft-ietf-acme-dns-persist-01 section 3).

    `issuer` is the authority's name in the DNS, `account` the account's URL.
    """
    return f"{issuer}; accounturi={account}{'; policy=wildcard' if is_wildcard else ''}"


def possible_kinds(name: str, is_wildcard: bool) -> tuple[str, ...]:
    """Return the kinds of challenges that can prove `name`.

    A wildcard is proven in the DNS only (Baseline Requirements 3.2.2.4.19), an address never there (RFC 8738).
    """
    if is_wildcard:
        return (DNS_01, DNS_PERSIST_01)
    return (HTTP_01, TLS_ALPN_01) if is_address(name) else (HTTP_01, TLS_ALPN_01, DNS_01, DNS_PERSIST_01)


def check_token(token: object) -> str:
    """Return a challenge's `token` when it can be a file's name and stand in an answer.

    Raises CertificateError: it cannot.
    """
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise CertificateError(f"the authority sent the token {str(token)[:200]!r}: not base64url", "try again later")
    return token


def server_name(name: str) -> str:
    """Return what the authority sends as the server name for TLS-ALPN-01 (RFC 8738 section 6 for an address)."""
    return ip_address(name).reverse_pointer if is_address(name) else name


def encode_alpn_certificate(challenge: Challenge, now: datetime) -> bytes:
    """Return the key and the self-signed certificate that answer TLS-ALPN-01, as PEM (RFC 8737 section 3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([])
    name: x509.GeneralName = x509.DNSName(challenge.name)
    if is_address(challenge.name):
        name = x509.IPAddress(ip_address(challenge.name))
    proof = x509.UnrecognizedExtension(ACME_IDENTIFIER, OCTET_STRING_32 + challenge.digest)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - ALPN_LIFETIME)
        .not_valid_after(now + ALPN_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .add_extension(proof, critical=True)
        .sign(key, SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class ChallengeStore:
    """The answers to HTTP-01 and TLS-ALPN-01 as files under `folder`: `http-01/TOKEN`, `tls-alpn-01/NAME.pem`."""

    folder: Path

    def put(self, challenge: Challenge, now: datetime) -> None:
        """Write the answer: it is there for every process when this returns.

        Raises CertificateError: the folder cannot be written.
        """
        content = challenge.answer.encode("ascii")
        if challenge.kind == TLS_ALPN_01:
            content = encode_alpn_certificate(challenge, now)
        write_shared(self._path(challenge), content)

    def share(self, group: int) -> None:
        """Let the members of a group, by number, read the answers: what is written here from now on is theirs too.

        Raises CertificateError: the folder cannot be made or changed.
        """
        for folder in (self.folder, self.folder / HTTP_01, self.folder / TLS_ALPN_01):
            make_private_folder(folder)
            try:
                os.chown(folder, -1, group)
                folder.chmod(0o750)
            except OSError as error:
                raise CertificateError(f"cannot share {place(folder)}: {reason(error)}", WRITE_ADVICE) from error

    def remove(self, challenge: Challenge) -> None:
        """Take the answer away; it may be gone already.

        Raises CertificateError: the folder cannot be written.
        """
        path = self._path(challenge)
        try:
            with suppress(FileNotFoundError):
                path.unlink()
        except OSError as error:
            raise CertificateError(f"cannot remove {place(path)}: {reason(error)}", WRITE_ADVICE) from error

    def sweep(self, now: datetime) -> None:
        """Remove what a crash left behind long ago, so that the folder does not grow for ever; faults do no harm."""
        oldest = (now - ALPN_LIFETIME).timestamp()
        for path in (*self.folder.glob(f"{HTTP_01}/*"), *self.folder.glob(f"{TLS_ALPN_01}/*")):
            with suppress(OSError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()

    def find_http(self, token: str) -> bytes | None:
        """Return the content for `/.well-known/acme-challenge/TOKEN`, None when there is none; any client may ask."""
        if not TOKEN.fullmatch(token):
            return None
        try:
            return (self.folder / HTTP_01 / token).read_bytes()
        except OSError:
            return None

    def find_alpn(self, host: str) -> Path | None:
        """Return the file with key and certificate for a ClientHello with `host` and the protocol acme-tls/1."""
        # The name comes from whoever connects: it must be a file's name and nothing more.
        if "/" in host:
            return None
        path = self.folder / TLS_ALPN_01 / f"{host.lower()}.pem"
        return path if path.is_file() else None

    def _path(self, challenge: Challenge) -> Path:
        if challenge.kind == HTTP_01:
            return self.folder / HTTP_01 / check_token(challenge.token)
        return self.folder / TLS_ALPN_01 / f"{server_name(challenge.name)}.pem"
