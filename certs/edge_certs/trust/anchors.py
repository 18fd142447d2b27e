"""Root certificates as people get them from their IT department, in every form it comes in (pure).

PEM with anything around it, bundles, UTF-16 from Notepad, DER, PKCS#7, base64 without its lines. What is not a
certificate is named and refused; a private key above all, whose bytes no message shows.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

from edge_certs.errors import CertificateError
from edge_certs.pem import DER_SEQUENCE, PKCS12, UTF16_MARKS, Block, not_pem, parse_blocks
from edge_certs.x509 import CERTIFICATE_LABELS, PARSE_ERRORS

# OpenSSL's own form: a certificate and, behind it, what it is trusted for.
TRUSTED_LABEL = "TRUSTED CERTIFICATE"
PKCS7_LABELS = ("PKCS7", "PKCS #7 SIGNED DATA", "CMS")

BASE64 = re.compile(rb"[A-Za-z0-9+/\s]{64,}={0,2}\s*")

# No company has so many roots; whoever has so many wants them in the system's store.
MAX_ANCHORS = 512

KEY_ADVICE = "name the certificate alone; whoever has the key of a root can read all traffic"
FILE_ADVICE = "name the root certificate's own file, in PEM, DER or PKCS#7"
PKCS12_ADVICE = "take the certificates out: openssl pkcs12 -in FILE -cacerts -nokeys -out FILE.pem"


class AnchorRefused(CertificateError):
    """What was given is not fit to be trusted: the command ends with exit code 4 and nothing is changed."""


def parse_anchors(data: bytes) -> list[x509.Certificate]:
    """Return the certificates in `data`, at least one, without duplicates, in the order in which they stand there.

    Raises AnchorRefused: there is a private key in it, no certificate, a damaged one, or more than `MAX_ANCHORS`.
    """
    with _refusing(), without_warnings():
        found = _parse(_as_bytes_of_text(data))
    unique = {fingerprint(certificate): certificate for certificate in found}
    if len(unique) > MAX_ANCHORS:
        raise AnchorRefused(f"{len(unique)} certificates, at most {MAX_ANCHORS} allowed", FILE_ADVICE)
    return list(unique.values())


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of `certificate` as 64 hexadecimal digits in lower case."""
    return certificate.fingerprint(SHA256()).hex()


def certificate_der(block: Block) -> bytes:
    """Return the DER of the certificate in `block`, whose label is one of a certificate's.

    Raises CertificateError: it is not base64.
    """
    text = block.pem.split(b"-----")[2]
    try:
        der = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise _damaged(block) from error
    return _first_element(der) if block.label == TRUSTED_LABEL else der


@contextmanager
def without_warnings() -> Iterator[None]:
    """Parse without a word on serial numbers of zero and BER in place of DER: old roots have both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except AnchorRefused:
        raise
    except CertificateError as error:
        raise AnchorRefused(error.found, error.advice) from error


def _as_bytes_of_text(data: bytes) -> bytes:
    """Notepad's "Unicode" is UTF-16 with a mark; all else is left as it is."""
    if not data.startswith(UTF16_MARKS):
        return data
    return data.decode("utf-16", "replace").encode("ascii", "replace")


def _parse(data: bytes) -> Sequence[x509.Certificate]:
    blocks = parse_blocks(data)
    if blocks:
        return _from_blocks(blocks)
    if data.startswith(DER_SEQUENCE):
        return _from_der(data)
    if BASE64.fullmatch(data):
        return _from_der(_decode_base64(data))
    raise AnchorRefused(not_pem(data, "x509").found, FILE_ADVICE)


def _from_blocks(blocks: Sequence[Block]) -> list[x509.Certificate]:
    if any(block.label.endswith("PRIVATE KEY") for block in blocks):
        raise AnchorRefused("there is a private key in it", KEY_ADVICE)
    found = [certificate for block in blocks for certificate in _from_block(block)]
    if not found:
        labels = " and ".join(dict.fromkeys(repr(block.label) for block in blocks))
        raise AnchorRefused(f"no certificate in it, but {labels}", FILE_ADVICE)
    return found


def _from_block(block: Block) -> Sequence[x509.Certificate]:
    if block.label in PKCS7_LABELS:
        pem = block.pem.replace(block.label.encode(), b"PKCS7")
        return _load(lambda: _pkcs7().load_pem_pkcs7_certificates(pem), _damaged(block))
    if block.label in (*CERTIFICATE_LABELS, TRUSTED_LABEL):
        der = certificate_der(block)
        return _load(lambda: [x509.load_der_x509_certificate(der)], _damaged(block))
    return ()


def _from_der(der: bytes) -> Sequence[x509.Certificate]:
    if PKCS12.match(der):
        raise AnchorRefused("PKCS#12, which is made for private keys", PKCS12_ADVICE)
    if _is_key(der):
        raise AnchorRefused("a private key, not a certificate", KEY_ADVICE)
    unknown = AnchorRefused("neither a certificate nor PKCS#7, or damaged", FILE_ADVICE)
    try:
        return [x509.load_der_x509_certificate(der)]
    except PARSE_ERRORS:
        return _load(lambda: _pkcs7().load_der_pkcs7_certificates(der), unknown)


def _load(load: Callable[[], Sequence[x509.Certificate]], otherwise: CertificateError) -> Sequence[x509.Certificate]:
    try:
        return load()
    except PARSE_ERRORS:
        # What the library says about damage quotes bytes, and helps nobody. It raises for PKCS#7 without any, too.
        raise otherwise from None


def _pkcs7() -> ModuleType:
    """Imported when it is wanted: it brings all of `email`, 6 ms that each start of a server would pay."""
    from cryptography.hazmat.primitives.serialization import pkcs7

    return pkcs7


def _is_key(der: bytes) -> bool:
    try:
        load_der_private_key(der, password=None)
    except TypeError:
        return True  # its word for "a password is needed"
    except PARSE_ERRORS:
        return False
    return True


def _decode_base64(data: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        raise AnchorRefused("neither PEM nor DER nor base64", FILE_ADVICE) from None


def _first_element(der: bytes) -> bytes:
    """Return the first ASN.1 element of `der` (X.690 section 8.1.3), what is there of it."""
    if len(der) < 2 or der[1] < 0x80:
        return der[: 2 + (der[1] if len(der) > 1 else 0)]
    width = der[1] & 0x7F
    return der[: 2 + width + int.from_bytes(der[2 : 2 + width], "big")]


def _damaged(block: Block) -> CertificateError:
    return CertificateError(f"line {block.line}: what begins here is damaged", "copy the file again, all of it")
